"""Plays the node daemon: places actors, ends them, counts what is in use."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from skate._base import errors, ids
from skate._base.config import Config
from skate._base.kinds import ERROR
from skate._base.resources import Resources, describe, fits, to_float
from skate._inline.context import Actor, HostParts
from skate._inline.host import Host
from skate._inline.player import Player
from skate._scheduling import requirements
from skate._scheduling.labels import NODE_ID
from skate._scheduling.placement import Infeasible, NodeView, place
from skate._serialize.exceptions import dump_error
from skate._transport.connection import Connection, Handler
from skate._wire import control, node
from skate._wire.codec import unpack
from skate._worker.objects.refs import RefTable
from skate._worker.process.context import ProcessContext

if TYPE_CHECKING:
    from skate._inline.turns import End
    from skate._launch.machine import Offer


class InlineNode:
    """See the module's text. Everything runs under the lock but what says otherwise."""

    def __init__(self, context: ProcessContext, refs: RefTable, player: Player, offer: Offer) -> None:
        self._context = context
        self._refs = refs
        self._player = player
        #: What actors get. Set by InlineCore.
        self.host_parts: HostParts
        self.node_id = os.urandom(ids.NODE_ID_SIZE)
        #: The worker that runs the tasks, as reports show it.
        self.task_worker_id = ids.new_worker_id()
        self.resources: Resources = offer.resources
        self.labels = {**offer.labels, NODE_ID: self.node_id.hex()}
        self._capacity = offer.store_capacity
        #: Its line to the control store.
        self.control: End
        #: Living actors, by id.
        self.hosts: dict[bytes, Host] = {}
        self._by_address: dict[str, Host] = {}
        self._warned: set[str] = set()
        self._since = time.time()

    def control_table(self) -> dict[type, Handler]:
        """Return which message of the control store goes where."""
        return {control.PlaceActor: self._place, control.StopActor: self._stop}

    def core_table(self) -> dict[type, Handler]:
        """Return which message of the driver goes where. There is no store: the rest needs no answer."""
        return {node.StoreStatus: self._store}

    def _store(self, connection: Connection, message: node.StoreStatus) -> None:
        used, objects = self._stored()
        connection.send(node.StoreReport(message.request, used, objects, self._capacity, 0, []))

    def _stored(self) -> tuple[int, int]:
        """Return the bytes and the number of the objects that would lie in shared memory elsewhere."""
        limit = Config().max_inline_bytes
        sizes = [
            len(entry.data)
            for entry in self._refs.entries.values()
            if len(entry.data) > limit and entry.kind != ERROR
        ]
        return sum(sizes), len(sizes)

    # ------------------------------------------------------------------ actors

    def _place(self, connection: Connection, message: control.PlaceActor) -> None:
        spec = unpack(message.spec, type=control.ActorSpec)
        self.check(f"actor {spec.class_name}", spec.placement, spec.environment)
        unfit = self.unfit(f"actor {spec.class_name}", spec.requirement, spec.placement)
        if unfit:
            error = dump_error(errors.ActorUnschedulableError(f"actor {spec.class_name}: {unfit}"))
            self.control.send(control.ActorStarted(message.actor_id, message.incarnation, b"", "", error))
            return
        try:
            host = _make_host(self.host_parts, message, spec)
        except RuntimeError as failed:  # no thread can be started for it
            error = dump_error(errors.RaySystemError(f"actor {spec.class_name} was not started: {failed}"))
            self.control.send(control.ActorStarted(message.actor_id, message.incarnation, b"", "", error))
            return
        self.hosts[host.actor_id] = self._by_address[host.address] = host
        host.begin()

    def _stop(self, connection: Connection, message: control.StopActor) -> None:
        host = self.hosts.get(message.actor_id)
        if host is None or host.incarnation != message.incarnation:
            return
        host.stop(graceful=message.graceful)
        self.ended(host, message.cause, intended=False)

    def started(self, host: Actor, error: bytes) -> None:
        """A constructor returned, or raised ``error``."""
        shown = host.repr if host.repr != host.spec.class_name else ""
        self.control.send(
            control.ActorStarted(host.actor_id, host.incarnation, host.id, host.address, error, shown)
        )

    def ended(self, host: Actor, cause: str, *, intended: bool) -> None:
        """An incarnation is over."""
        self.hosts.pop(host.actor_id, None)
        self._by_address.pop(host.address, None)
        self.control.send(control.ActorEnded(host.actor_id, host.incarnation, cause, intended, *host.begun))

    def host_at(self, address: str) -> Host | None:
        """Return the living incarnation of this address."""
        return self._by_address.get(address)

    def unfit(self, what: str, requirement: bytes, resources: Resources) -> str:
        """Return why this node, the only one, may never serve what has this requirement; "": it may."""
        if not requirement:
            return ""
        here = NodeView(self.node_id.hex(), self.labels, self.resources, self.resources)
        found = place(requirements.decode(requirement), resources, [here])
        if not isinstance(found, Infeasible):
            return ""
        if not found.fatal:
            self._warn(f"{what}: {found.reason}; a real session would let it wait, in-process mode runs it")
        return found.reason if found.fatal else ""

    # ------------------------------------------------------------------ what is not as elsewhere

    def check(self, what: str, resources: Resources, environment: bytes) -> None:
        """Say so, once, if a real session would treat this task or actor in another way."""
        if not fits(resources, self.resources):
            self._warn(
                f"{what} needs {describe(resources)}, more than this session has "
                f"({describe(self.resources)}): a real session would let it wait; in-process mode runs it"
            )
        if environment and environment != self._context.environment:
            self._warn(
                f"{what} has a runtime_env, which in-process mode does not enter: it runs with the "
                "variables, folder and packages of this process"
            )

    def _warn(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            self._context.warn(text)

    # ------------------------------------------------------------------ questions

    def available(self) -> Resources:
        """Return what nobody uses."""
        free = dict(self.resources)
        held = [work.resources for work in self._player.tasks.values()]
        held += [host.spec.running for host in self.hosts.values()]
        for one in held:
            for name, units in one.items():
                free[name] = free.get(name, 0) - units
        return free

    def rows(self, what: str) -> list[dict[str, Any]]:
        """Return what a daemon tells of its node: see ``_node.reporting.state``."""
        context, tasks = self._context, self._player.tasks
        if what == "store":
            used, objects = self._stored()
            return [
                {"capacity": self._capacity, "used": used, "kept": 0, "on_disk": 0, "objects": objects,
                 "available": to_float(self.available()), "total": to_float(self.resources)}
            ]  # fmt: skip
        if what not in ("workers", "tasks", "stacks", "waits"):
            return []
        times = [self._since, self._since, self._since, 0.0]
        facts: dict[str, Any] = {"pid": context.pid, "job": context.job_id.hex(), "times": times}
        rows = [
            {"worker_id": context.worker_id.hex(), "worker_type": "DRIVER", "state": "CONNECTED", **facts}
        ]
        for work in tasks.values():
            rows.append(
                {"worker_id": self.task_worker_id.hex(), "worker_type": "WORKER", "state": "LEASED",
                 "actor_id": "", "name": work.name, "begun": [work.owner.hex(), work.seq],
                 "lease_owner": work.owner.hex(), "resources": to_float(work.resources), **facts}
            )  # fmt: skip
        if not tasks:
            rows.append(
                {"worker_id": self.task_worker_id.hex(), "worker_type": "WORKER", "state": "IDLE",
                 "actor_id": "", "name": "", "begun": None, "lease_owner": "", "resources": {}, **facts}
            )  # fmt: skip
        for host in self.hosts.values():
            owner, seq = host.begun
            rows.append(
                {"worker_id": host.id.hex(), "worker_type": "WORKER", "state": "ACTOR",
                 "actor_id": host.actor_id.hex(), "name": host.spec.class_name,
                 "begun": [owner.hex(), seq] if seq else None, "lease_owner": "",
                 "resources": to_float(host.spec.running), **facts}
            )  # fmt: skip
        return rows


def _make_host(parts: HostParts, message: control.PlaceActor, spec: control.ActorSpec) -> Host:
    """Return the host of an actor, of the kind that it needs."""
    if not spec.is_async:
        return Host(parts, message)
    from skate._inline.loops import LoopHost  # asyncio takes a while to import

    return LoopHost(parts, message)
