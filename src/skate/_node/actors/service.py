"""Actors of this node: the control store says which, here they get a worker and are started."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from skate._base import descriptors
from skate._base.errors import ActorUnschedulableError, RuntimeEnvSetupError
from skate._node.leases.records import Lease
from skate._node.leases.service import CONTROL
from skate._node.workers.table import WorkerProcess
from skate._transport.connection import Connection, Handler
from skate._wire import control, node
from skate._wire.codec import unpack

if TYPE_CHECKING:
    from skate._node.daemon import Daemon


#: An actor that nobody refers to may clean up for so long (seconds).
_FAREWELL = 30.0
#: So many workers in a row may end before one accepts to be an actor; then that is the actor's end.
_LOST_LIMIT = 5


class _Placement(msgspec.Struct):
    """An incarnation that the control store wants here, until it has a worker."""

    place: control.PlaceActor
    spec: control.ActorSpec
    #: Why it is to end, if the control store said so before the worker accepted to be it.
    stopped: str = ""
    #: Workers that ended, though nothing made them leave, before they accepted to be it.
    lost: int = 0

    @property
    def job(self) -> bytes:
        """Whose worker it gets: its creator's driver's; a detached actor is the root of its own job."""
        return self.place.actor_id if self.spec.job_config else self.spec.owner_job


class ActorHandlers:
    """The daemon's part about actors."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        #: By the shape under which its lease is demanded.
        self._placements: dict[int, _Placement] = {}
        #: By the worker that was told to become it, until it accepted or refused. Not to be killed
        #: before: it may own objects that others need.
        self._starting: dict[bytes, _Placement] = {}
        #: Workers that are actors which would be restarted.
        self._restartable: set[bytes] = set()
        self._last_shape = 0

    def table(self) -> dict[type, Handler]:
        """Return which message of workers goes where."""
        return {node.ActorReady: self._ready, node.ActorRefused: self._refused_by_worker,
                node.ActorAccepted: self._accepted}  # fmt: skip

    def control_table(self) -> dict[type, Handler]:
        """Return which message of the control store goes where."""
        return {control.PlaceActor: self._place, control.StopActor: self._stop,
                control.ForgetJob: self._forget_job}  # fmt: skip

    def hosted(self) -> list[tuple[bytes, int]]:
        """Return the incarnations of actors that are here, or on their way."""
        placements = [*self._placements.values(), *self._starting.values()]
        placed = {(one.place.actor_id, one.place.incarnation) for one in placements}
        return [*(placed | {worker.actor for worker in self._daemon.workers if worker.actor is not None})]

    def _place(self, connection: Connection, message: control.PlaceActor) -> None:
        spec = unpack(message.spec, type=control.ActorSpec)
        if spec.job_config:
            self._daemon.processes.add_job(message.actor_id, spec.job_config, spec.owner_job)
        self._demand(_Placement(message, spec))

    def _demand(self, placement: _Placement) -> None:
        spec = placement.spec
        self._last_shape += 1
        shape = self._last_shape
        self._placements[shape] = placement
        environments = self._daemon.environments
        crew = environments.crew(placement.job, spec.environment)
        unfit = self._daemon.lease_handlers.unfit(spec.requirement, spec.placement)
        if unfit is not None and unfit.fatal:
            del self._placements[shape]
            self._failed(placement, ActorUnschedulableError(f"actor {spec.class_name}: {unfit.reason}"))
            return
        reason = unfit.reason if unfit is not None else self._daemon.lease_handlers.too_large(spec.placement)
        # What it needs to be placed says where it may go, what it needs to run is what it takes: a default
        # actor starts on any node with a CPU, though all of them are held.
        environments.demand(CONTROL, shape, crew, spec.running, 1, 0, reason)

    def granted(self, lease: Lease, worker: WorkerProcess) -> None:
        """There is a worker for it: start the actor there."""
        daemon = self._daemon
        placement = self._placements.pop(lease.shape, None)
        if placement is None:  # it was stopped
            daemon.lease_handlers.run(daemon.leases.returned(lease.id))
            return
        place, spec = placement.place, placement.spec
        self._starting[worker.id] = placement
        worker.actor = (place.actor_id, place.incarnation)
        worker.name = spec.class_name
        if spec.max_restarts:
            self._restartable.add(worker.id)
        gpus = daemon.leases.gpus.names(lease.gpus)
        worker.connection.send(node.StartActor(place.actor_id, place.incarnation, place.spec, gpus))
        # One lease is all it wanted; it keeps that until its worker ends.
        commands = daemon.leases.demand(CONTROL, lease.shape, lease.job, lease.resources, 0, 0)
        daemon.lease_handlers.run(commands)

    def placed(self, shape: int) -> bytes:
        """Return the actor for which a lease of that shape is wanted."""
        return self._placements[shape].place.actor_id

    def refused(self, shape: int, reason: str, fatal: bool, environment: bool = False) -> None:
        """Nothing here can satisfy it: its owner is told; it waits on unless that is fatal.

        ``environment``: that is what cannot be had; its callers get that very error, at once.
        """
        placement = self._placements.get(shape)
        if placement is None:
            return
        if environment:
            del self._placements[shape]
            text = f"actor {placement.spec.class_name}: {reason}"
            self._failed(placement, RuntimeEnvSetupError(text))
            return
        owner = self._daemon.clients.get(placement.spec.owner_id)
        text = f"actor {placement.spec.class_name}: {reason}"
        if owner is not None:
            owner.connection.send(node.DemandRefused(-1, text, False))
        if fatal:
            del self._placements[shape]
            self._report(placement.place, f"it could not be placed: {reason}")

    def _failed(self, placement: _Placement, reason: Exception) -> None:
        """As if its constructor had raised: it is dead, and callers get the error itself."""
        exceptions = descriptors.load("skate._serialize.exceptions")  # rare, and 10 ms
        place = placement.place
        error = exceptions.dump_error(reason)
        started = control.ActorStarted(place.actor_id, place.incarnation, b"", "", error)
        self._daemon.membership.started(started)

    def _refused_by_worker(self, connection: Connection, message: node.ActorRefused) -> None:
        daemon = self._daemon
        worker = daemon.workers.get(connection.peer.id)
        if worker is None or worker.reason:
            return  # it was ended meanwhile: its certificate has the placement go on
        placement = self._starting.pop(worker.id, None)
        if placement is None:
            return
        worker.actor, worker.name = None, ""
        daemon.leases.unfit_for_actor(worker.id)
        if placement.stopped:
            self._report(placement.place, placement.stopped)
        else:
            self._demand(placement)
        lease = daemon.leases.lease_of(worker.id)
        if lease is not None:
            daemon.lease_handlers.run(daemon.leases.returned(lease.id))

    def _accepted(self, connection: Connection, message: node.ActorAccepted) -> None:
        worker = self._daemon.workers.get(connection.peer.id)
        placement = self._starting.pop(connection.peer.id, None)
        if worker is not None and placement is not None and placement.stopped:
            self._daemon.processes.kill(worker, placement.stopped, intended=True)

    def _ready(self, connection: Connection, message: node.ActorReady) -> None:
        worker = self._daemon.workers.get(connection.peer.id)
        if worker is None:
            return
        worker.failed_to_construct = bool(message.error)
        self._daemon.membership.started(
            control.ActorStarted(
                message.actor_id,
                message.incarnation,
                worker.id,
                worker.address,
                message.error,
                message.repr_name,
            )
        )

    def restartable(self, worker: bytes) -> bool:
        """Tell whether a worker is an actor that would be restarted."""
        return worker in self._restartable

    def worker_ended(self, worker: WorkerProcess, cause: str, begun_owner: bytes, begun_seq: int) -> None:
        """The actor's process is dead: report its certificate."""
        assert worker.actor is not None
        placement = self._starting.pop(worker.id, None)
        self._restartable.discard(worker.id)
        if placement is not None and not placement.stopped and self._may_go_on(placement, worker):
            # It was about to leave (max_calls), or was killed, when it was told to become the actor: it had
            # not accepted, so nothing of that began.
            self._demand(placement)
            return
        intended = bool(worker.left) and worker.intended
        self._daemon.membership.ended(
            control.ActorEnded(*worker.actor, cause, intended, begun_owner, begun_seq)
        )

    def _may_go_on(self, placement: _Placement, worker: WorkerProcess) -> bool:
        """Tell whether another worker is asked to become the actor in place of one that ended."""
        placement.lost += not worker.left
        return placement.lost < _LOST_LIMIT and self._daemon.processes.has_job(placement.job)

    def _stop(self, connection: Connection, message: control.StopActor) -> None:
        for shape, placement in list(self._placements.items()):
            place = placement.place
            if (place.actor_id, place.incarnation) == (message.actor_id, message.incarnation):
                del self._placements[shape]
                self._daemon.environments.withdrawn(CONTROL, shape)
                self._daemon.lease_handlers.run(
                    self._daemon.leases.demand(CONTROL, shape, placement.job, {}, 0, 0)
                )
                self._report(place, message.cause)
                return
        worker = self._daemon.workers.actor(message.actor_id, message.incarnation)
        if worker is None:
            return
        starting = self._starting.get(worker.id)
        if starting is not None:
            starting.stopped = message.cause
        elif message.graceful and worker.connection is not None:
            worker.connection.send(node.EndActor(message.cause))
            self._daemon.reactor.call_later(_FAREWELL, lambda: self._lose_patience(worker, message.cause))
        else:
            self._daemon.processes.kill(worker, message.cause, intended=True)

    def _lose_patience(self, worker: WorkerProcess, cause: str) -> None:
        if not worker.exited:
            self._daemon.processes.kill(worker, f"{cause}, and it did not end by itself", intended=True)

    def _forget_job(self, connection: Connection, message: control.ForgetJob) -> None:
        self._daemon.processes.end_job(message.job, "the detached actor that it worked for ended")

    def _report(self, place: control.PlaceActor, cause: str) -> None:
        """An incarnation is over that never had a process."""
        self._daemon.membership.ended(
            control.ActorEnded(place.actor_id, place.incarnation, cause, False, b"", 0)
        )
