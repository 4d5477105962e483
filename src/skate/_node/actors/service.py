"""Actors of this node: the control store says which, here they get a worker and are started."""

from __future__ import annotations

import msgspec

from skate._base import descriptors
from skate._base.errors import ActorUnschedulableError, RuntimeEnvSetupError
from skate._node.cluster.membership import Membership
from skate._node.context import NodeContext
from skate._node.environments.service import EnvironmentService
from skate._node.environments.table import Wanted
from skate._node.events import WorkerEnded
from skate._node.jobs import Jobs
from skate._node.leases.records import Lease, Refuse
from skate._node.leases.service import LeaseService
from skate._node.workers.service import WorkerService
from skate._node.workers.table import WorkerProcess, Workers
from skate._transport.connection import Connection, Handler
from skate._wire import control, node
from skate._wire.codec import unpack

#: The id under which the actors of this node lease their workers. No process has it: those are longer.
LESSEE = b"actors"
#: An actor that nothing refers to any more is killed if it does not end within this time.
_END_TIMEOUT_S = 30.0
#: So many workers in a row may end before one accepts to be an actor; then that is the actor's end.
_MAX_LOST_WORKERS = 5


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


class ActorService:
    """The actors that the control store placed here; it is the lessee of their workers."""

    def __init__(
        self,
        context: NodeContext,
        worker_table: Workers,
        jobs: Jobs,
        membership: Membership,
        leases: LeaseService,
        environments: EnvironmentService,
        workers: WorkerService,
    ) -> None:
        self._context = context
        self._worker_table = worker_table
        self._jobs = jobs
        self._membership = membership
        self._leases = leases
        self._environments = environments
        self._workers = workers
        #: By the shape under which its lease is demanded.
        self._placements: dict[int, _Placement] = {}
        #: By the worker that was told to become it, until it accepted or refused. Not to be killed
        #: before: it may own objects that others need.
        self._starting: dict[bytes, _Placement] = {}
        self._last_shape = 0
        leases.add_lessee(LESSEE, self)

    def handlers(self) -> dict[type, Handler]:
        """Return the handlers of messages of workers."""
        return {node.ActorReady: self._ready, node.ActorRefused: self._refused_by_worker,
                node.ActorAccepted: self._accepted}  # fmt: skip

    def control_handlers(self) -> dict[type, Handler]:
        """Return the handlers of messages of the control store."""
        return {control.PlaceActor: self._place, control.StopActor: self._stop,
                control.ForgetJob: self._forget_job}  # fmt: skip

    def hosted(self) -> list[tuple[bytes, int]]:
        """Return the incarnations of actors that are here, or on their way."""
        placements = [*self._placements.values(), *self._starting.values()]
        placed = [(one.place.actor_id, one.place.incarnation) for one in placements]
        running = [worker.actor for worker in self._worker_table if worker.actor is not None]
        return list(dict.fromkeys(placed + running))

    def actor_of(self, lessee: bytes, shape: int) -> bytes | None:
        """Return the actor that a demand is for; None: it is not an actor's."""
        placement = self._placements.get(shape) if lessee == LESSEE else None
        return placement.place.actor_id if placement is not None else None

    def _place(self, connection: Connection, message: control.PlaceActor) -> None:
        spec = unpack(message.spec, type=control.ActorSpec)
        if spec.job_config:
            self._jobs.add_detached_actor(message.actor_id, spec.job_config, spec.owner_job)
        self._demand(_Placement(message, spec))

    def _demand(self, placement: _Placement) -> None:
        spec = placement.spec
        self._last_shape += 1
        shape = self._last_shape
        self._placements[shape] = placement
        infeasible = self._leases.infeasible(spec.requirement, spec.placement)
        if infeasible is not None and infeasible.fatal:
            del self._placements[shape]
            error = ActorUnschedulableError(f"actor {spec.class_name}: {infeasible.reason}")
            self._failed(placement, error)
            return
        reason = infeasible.reason if infeasible is not None else self._leases.too_large(spec.placement)
        pool = self._environments.pool(placement.job, spec.environment)
        # The resources for its placement say where it may go, those for running are what it takes: a default
        # actor starts on any node with a CPU, though all of them are held.
        self._environments.demand(Wanted(LESSEE, shape, pool, spec.running, 1, 0, reason, dedicated=True))

    # ------------------------------------------------------------------ as a lessee

    def granted(self, lease: Lease, gpus: list[str]) -> None:
        """Start the actor in the worker of a lease."""
        worker = self._worker_table.get(lease.worker)
        placement = self._placements.pop(lease.shape, None)
        if worker is None or placement is None:  # it was stopped
            self._leases.returned(lease.id)
            return
        place, spec = placement.place, placement.spec
        self._starting[worker.id] = placement
        actor = place.actor_id, place.incarnation
        self._worker_table.become_actor(worker, actor, spec.class_name, bool(spec.max_restarts))
        self._context.send(worker.id, node.StartActor(*actor, place.spec, gpus))
        # One lease is all it wanted; it keeps that until its worker ends.
        self._leases.demand(LESSEE, lease.shape, lease.pool, lease.resources, 0, 0)

    def refused(self, refusal: Refuse) -> None:
        """Tell the owner of an actor that nothing here can satisfy it. It waits on unless that is fatal.

        If its runtime environment cannot be had, its callers get that very error, at once.
        """
        placement = self._placements.get(refusal.shape)
        if placement is None:
            return
        text = f"actor {placement.spec.class_name}: {refusal.reason}"
        if refusal.environment:
            del self._placements[refusal.shape]
            self._failed(placement, RuntimeEnvSetupError(text))
            return
        self._context.send(placement.spec.owner_id, node.DemandRefused(-1, text, False))
        if refusal.fatal:
            del self._placements[refusal.shape]
            self._report(placement.place, f"it could not be placed: {refusal.reason}")

    def reclaim(self, busy: int) -> None:
        """Keep every lease: actors have theirs until they end."""

    def worker_died(self, lease: Lease, ended: WorkerEnded) -> None:
        """Report the end of the actor, or place it again if it had not begun."""
        placement = self._starting.pop(ended.worker, None)
        if ended.actor is None:
            return
        if placement is not None and not placement.stopped and self._may_go_on(placement, ended):
            # The worker was about to leave (max_calls), or was killed, when it was told to become the actor:
            # it had not accepted, so nothing of that began.
            self._demand(placement)
            return
        intended = bool(ended.left) and ended.intended
        self._membership.ended(
            control.ActorEnded(*ended.actor, ended.cause, intended, ended.begun_owner, ended.begun_seq)
        )

    def _may_go_on(self, placement: _Placement, ended: WorkerEnded) -> bool:
        """Tell whether another worker is asked to become the actor in place of one that ended."""
        placement.lost += not ended.left
        return placement.lost < _MAX_LOST_WORKERS and self._jobs.has(placement.job)

    # ------------------------------------------------------------------ starting and stopping

    def _failed(self, placement: _Placement, reason: Exception) -> None:
        """Report an actor dead as if its constructor had raised: callers get the error itself."""
        exceptions = descriptors.load("skate._serialize.exceptions")  # rare, and 10 ms
        place = placement.place
        error = exceptions.dump_error(reason)
        started = control.ActorStarted(place.actor_id, place.incarnation, b"", "", error)
        self._membership.started(started)

    def _refused_by_worker(self, connection: Connection, message: node.ActorRefused) -> None:
        worker = self._worker_table.get(connection.peer.id)
        if worker is None or worker.reason:
            return  # it was ended meanwhile: when it is dead, the placement goes on
        placement = self._starting.pop(worker.id, None)
        if placement is None:
            return
        self._worker_table.refused_actor(worker)
        self._leases.refused_dedication(worker.id)
        if placement.stopped:
            self._report(placement.place, placement.stopped)
        else:
            self._demand(placement)
        self._leases.release(worker.id)

    def _accepted(self, connection: Connection, message: node.ActorAccepted) -> None:
        worker = self._worker_table.get(connection.peer.id)
        placement = self._starting.pop(connection.peer.id, None)
        if worker is not None and placement is not None and placement.stopped:
            self._workers.kill(worker, placement.stopped, intended=True)

    def _ready(self, connection: Connection, message: node.ActorReady) -> None:
        worker = self._worker_table.get(connection.peer.id)
        if worker is None:
            return
        if message.error:
            self._worker_table.failed_to_construct(worker)
        self._membership.started(
            control.ActorStarted(
                message.actor_id,
                message.incarnation,
                worker.id,
                worker.address,
                message.error,
                message.repr_name,
            )
        )

    def _stop(self, connection: Connection, message: control.StopActor) -> None:
        for shape, placement in list(self._placements.items()):
            place = placement.place
            if (place.actor_id, place.incarnation) == (message.actor_id, message.incarnation):
                del self._placements[shape]
                self._environments.withdraw(LESSEE, shape)
                self._report(place, message.cause)
                return
        worker = self._worker_table.actor(message.actor_id, message.incarnation)
        if worker is None:
            return
        starting = self._starting.get(worker.id)
        if starting is not None:
            starting.stopped = message.cause
        elif message.graceful and worker.connection is not None:
            worker.connection.send(node.EndActor(message.cause))
            self._context.reactor.call_later(_END_TIMEOUT_S, lambda: self._kill_ending(worker, message.cause))
        else:
            self._workers.kill(worker, message.cause, intended=True)

    def _kill_ending(self, worker: WorkerProcess, cause: str) -> None:
        if not worker.exited:
            self._workers.kill(worker, f"{cause}, and it did not end by itself", intended=True)

    def _forget_job(self, connection: Connection, message: control.ForgetJob) -> None:
        self._jobs.end(message.job, "the detached actor that it worked for ended")

    def _report(self, place: control.PlaceActor, cause: str) -> None:
        """Report the end of an incarnation that never had a process."""
        self._membership.ended(control.ActorEnded(place.actor_id, place.incarnation, cause, False, b"", 0))
