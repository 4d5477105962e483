"""Replaces the node daemon: places actors, ends them, counts the resources in use."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from skate._base import clock, errors, ids
from skate._base.config import Config
from skate._base.kinds import ERROR
from skate._base.resources import Resources, describe, fits, to_float
from skate._inline.actor import InlineActor
from skate._inline.context import Actor, ActorParts
from skate._inline.executor import InlineExecutor
from skate._inline.groups import InlineGroups
from skate._scheduling import requirements
from skate._scheduling.labels import NODE_ID
from skate._scheduling.placement import Infeasible, NodeView, place
from skate._serialize.exceptions import dump_error
from skate._transport.connection import Connection, Handler
from skate._wire import control
from skate._wire.codec import unpack
from skate._worker.objects.refs import RefTable
from skate._worker.process.context import ProcessContext

if TYPE_CHECKING:
    from skate._inline.reactor import LocalConnection
    from skate._launch.machine import Offer


class InlineNode:
    """The node of an in-process session. All methods run under the lock unless they say otherwise."""

    def __init__(
        self, context: ProcessContext, refs: RefTable, executor: InlineExecutor, offer: Offer
    ) -> None:
        self._context = context
        self._refs = refs
        self._executor = executor
        #: The parts that actors get. Set by InlineCore.
        self.actor_parts: ActorParts
        self.node_id = ids.new_node_id()
        #: The worker that runs the tasks, as reports show it.
        self.task_worker_id = ids.new_worker_id()
        self.resources: Resources = offer.resources
        self.labels = {**offer.labels, NODE_ID: self.node_id.hex()}
        self._capacity = offer.store_capacity
        #: Its connection to the control store.
        self.control: LocalConnection
        #: Living actors, by id.
        self.actors: dict[bytes, InlineActor] = {}
        self._by_address: dict[str, InlineActor] = {}
        self.groups = InlineGroups(self.resources, offer.gpus, self._group_removed)
        #: Ends the tasks of a placement group that was removed. Set by InlineCore.
        self.end_tasks: Callable[[bytes, str], None]
        #: Incarnations of actors that wait for their placement groups.
        self._waiting: set[tuple[bytes, int]] = set()
        self._warned: set[str] = set()
        self._since = clock.time()

    def control_table(self) -> dict[type, Handler]:
        """Return the handlers of the control store's messages."""
        return {
            control.PlaceActor: self._place,
            control.StopActor: self._stop,
            **self.groups.handlers(),
        }

    def connected(self, connection: LocalConnection) -> None:
        """Use this connection to the control store."""
        self.control = self.groups.control = connection

    def _group_removed(self, group: bytes, reason: str) -> None:
        self.end_tasks(group, reason)  # its actors are ended by the control store

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
        infeasible_reason = self.infeasible_reason(
            f"actor {spec.class_name}", spec.requirement, spec.placement
        )
        if infeasible_reason:
            self._failed(
                message, errors.ActorUnschedulableError(f"actor {spec.class_name}: {infeasible_reason}")
            )
            return
        group, bundle, _ = requirements.group_of(spec.requirement)
        if not group:
            self._begin(message, spec)
            return
        incarnation = message.actor_id, message.incarnation

        def go() -> None:
            if incarnation in self._waiting:  # else it was ended meanwhile
                self._waiting.discard(incarnation)
                self._begin(message, spec)

        def fail(reason: str, removed: bool) -> None:
            kind = errors.ActorPlacementGroupRemoved if removed else errors.ActorUnschedulableError
            self._waiting.discard(incarnation)
            self._failed(message, kind(f"actor {spec.class_name}: {reason}"))

        self._waiting.add(incarnation)
        self.groups.admit((group, bundle), spec.running, go, fail)

    def _failed(self, message: control.PlaceActor, failed: Exception) -> None:
        """Report an actor dead that was not started: callers get this error."""
        error = dump_error(failed)
        self.control.send(control.ActorStarted(message.actor_id, message.incarnation, b"", "", error))

    def _begin(self, message: control.PlaceActor, spec: control.ActorSpec) -> None:
        try:
            actor = _make_actor(self.actor_parts, message, spec)
        except RuntimeError as failed:  # no thread can be started for it
            self._failed(message, errors.RaySystemError(f"actor {spec.class_name} was not started: {failed}"))
            return
        self.actors[actor.actor_id] = self._by_address[actor.address] = actor
        actor.begin()

    def _stop(self, connection: Connection, message: control.StopActor) -> None:
        incarnation = message.actor_id, message.incarnation
        if incarnation in self._waiting:
            self._waiting.discard(incarnation)
            self.control.send(control.ActorEnded(*incarnation, message.cause, False, b"", 0))
            return
        actor = self.actors.get(message.actor_id)
        if actor is None or actor.incarnation != message.incarnation:
            return
        actor.stop(graceful=message.graceful)
        self.ended(actor, message.cause, intended=False)

    def started(self, actor: Actor, error: bytes) -> None:
        """Tell the control store that a constructor returned, or raised ``error``."""
        shown = actor.repr if actor.repr != actor.spec.class_name else ""
        self.control.send(
            control.ActorStarted(actor.actor_id, actor.incarnation, actor.id, actor.address, error, shown)
        )

    def ended(self, actor: Actor, cause: str, *, intended: bool) -> None:
        """Forget an incarnation that ended, and tell the control store."""
        self.actors.pop(actor.actor_id, None)
        self._by_address.pop(actor.address, None)
        self.control.send(
            control.ActorEnded(actor.actor_id, actor.incarnation, cause, intended, *actor.begun)
        )

    def actor_at(self, address: str) -> InlineActor | None:
        """Return the living incarnation of this address."""
        return self._by_address.get(address)

    def infeasible_reason(self, what: str, requirement: bytes, resources: Resources) -> str:
        """Return why this node, the only one, can never meet this requirement; "" if it can."""
        if not requirement:
            return ""
        here = NodeView(self.node_id.hex(), self.labels, self.resources, self.resources)
        found = place(requirements.decode(requirement), resources, [here])
        if not isinstance(found, Infeasible):
            return ""
        if not found.fatal:
            self._warn(f"{what}: {found.reason}; a real session would let it wait, in-process mode runs it")
        return found.reason if found.fatal else ""

    # ------------------------------------------------------------------ differences from a real session

    def check(self, what: str, resources: Resources, environment: bytes) -> None:
        """Warn, once, if a real session would treat this task or actor in another way."""
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
        """Return the resources that no task or actor holds."""
        free = dict(self.groups.free)
        held = [work.resources for work in self._executor.tasks.values() if not work.group_id]
        held += [actor.spec.running for actor in self.actors.values() if not actor.group[0]]
        for one in held:
            for name, units in one.items():
                free[name] = free.get(name, 0) - units
        return free

    def rows(self, what: str) -> list[dict[str, Any]]:
        """Return the rows that a daemon reports of its node: see ``_node.reporting.state``."""
        context, tasks = self._context, self._executor.tasks
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
        for actor in self.actors.values():
            owner, seq = actor.begun
            rows.append(
                {"worker_id": actor.id.hex(), "worker_type": "WORKER", "state": "ACTOR",
                 "actor_id": actor.actor_id.hex(), "name": actor.spec.class_name,
                 "begun": [owner.hex(), seq] if seq else None, "lease_owner": "",
                 "resources": to_float(actor.spec.running), **facts}
            )  # fmt: skip
        return rows


def _make_actor(parts: ActorParts, message: control.PlaceActor, spec: control.ActorSpec) -> InlineActor:
    """Return a new actor, with a loop if it is async."""
    if not spec.is_async:
        return InlineActor(parts, message)
    from skate._inline.async_actor import AsyncActor  # asyncio takes a while to import

    return AsyncActor(parts, message)
