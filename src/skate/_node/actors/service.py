"""Carries out what the placements of actors decide: leases workers for them, starts and ends them there."""

from __future__ import annotations

from collections.abc import Sequence

from skate._base import descriptors
from skate._node.actors.placements import (
    AskToEnd,
    Command,
    Demand,
    Kill,
    NotAnActor,
    Placements,
    Release,
    ReportEnded,
    ReportFailed,
    Start,
    Withdraw,
)
from skate._node.cluster.membership import Membership
from skate._node.context import NodeContext
from skate._node.environments.service import EnvironmentService
from skate._node.environments.table import Wanted
from skate._node.events import WorkerEnded
from skate._node.jobs import Jobs
from skate._node.leases.records import Lease, Refuse
from skate._node.leases.service import LeaseService
from skate._node.workers.service import WorkerService
from skate._node.workers.table import WorkerProcess, WorkerTable
from skate._scheduling import requirements
from skate._transport.connection import Connection, Handler
from skate._wire import control, node
from skate._wire.codec import unpack

#: The id under which the actors of this node lease their workers. No process has it: those are longer.
LESSEE = b"actors"
#: An actor that was asked to end is killed if it has not ended within this time.
_END_TIMEOUT_S = 30.0


class ActorService:
    """The actors that the control store placed here; it is the lessee of their workers."""

    def __init__(
        self,
        context: NodeContext,
        worker_table: WorkerTable,
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
        self._placements = Placements(jobs.has)
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
        return self._placements.hosted()

    def actor_of(self, lessee: bytes, shape: int) -> bytes | None:
        """Return the actor that a demand is for; None: it is not an actor's."""
        return self._placements.actor_of(shape) if lessee == LESSEE else None

    # ------------------------------------------------------------------ events from the control store

    def _place(self, connection: Connection, message: control.PlaceActor) -> None:
        spec = unpack(message.spec, type=control.ActorSpec)
        if spec.job_config:
            self._jobs.add_detached_actor(message.actor_id, spec.job_config, spec.owner_job)
        actor = message.actor_id, message.incarnation
        self._run(self._placements.place(actor, spec, message.spec))

    def _stop(self, connection: Connection, message: control.StopActor) -> None:
        actor = message.actor_id, message.incarnation
        self._run(self._placements.stop(actor, message.cause, message.graceful))

    def _forget_job(self, connection: Connection, message: control.ForgetJob) -> None:
        self._jobs.end(message.job, "the detached actor that it worked for ended")

    # ------------------------------------------------------------------ as a lessee

    def granted(self, lease: Lease, gpus: list[str]) -> None:
        """Start the actor in the worker of a lease, or give the lease back if it was stopped."""
        self._run(self._placements.granted(lease.shape, lease.worker, gpus))

    def refused(self, refusal: Refuse) -> None:
        """End or keep waiting what cannot be satisfied here."""
        self._run(
            self._placements.refused(
                refusal.shape,
                refusal.reason,
                fatal=refusal.fatal,
                environment=refusal.environment,
                removed=refusal.removed,
            )
        )

    def reclaim(self, busy: int) -> None:
        """Keep every lease: actors have theirs until they end."""

    def worker_died(self, lease: Lease, ended: WorkerEnded) -> None:
        """Report the end of the actor, or place it again if it had not begun."""
        begun = ended.begun_owner, ended.begun_seq
        left, intended = bool(ended.left), ended.intended
        self._run(
            self._placements.worker_ended(
                ended.worker, ended.cause, left=left, intended=intended, begun=begun
            )
        )

    # ------------------------------------------------------------------ events from workers

    def _accepted(self, connection: Connection, message: node.ActorAccepted) -> None:
        self._run(self._placements.accepted(connection.peer.id))

    def _refused_by_worker(self, connection: Connection, message: node.ActorRefused) -> None:
        worker = self._worker_table.get(connection.peer.id)
        if worker is not None and not worker.reason:  # else it was killed, and its end decides
            self._run(self._placements.worker_refused(worker.id))

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

    # ------------------------------------------------------------------ effects

    def _run(self, commands: Sequence[Command]) -> None:
        for command in commands:
            if isinstance(command, Demand):
                self._demand(command)
            elif isinstance(command, Withdraw):
                self._environments.withdraw(LESSEE, command.shape)
            elif isinstance(command, Start):
                self._start(command)
            elif isinstance(command, NotAnActor):
                self._worker_table.refused_actor(command.worker)
                self._leases.refused_dedication(command.worker)
            elif isinstance(command, Release):
                self._leases.release(command.worker)
            elif isinstance(command, AskToEnd | Kill):
                self._end(command)
            elif isinstance(command, ReportEnded):
                cause, intended, begun = command.cause, command.intended, command.begun
                self._membership.ended(control.ActorEnded(*command.actor, cause, intended, *begun))
            elif isinstance(command, ReportFailed):
                self._report_failed(command)
            else:
                self._context.send(command.owner, node.DemandRefused(-1, command.text, False))

    def _demand(self, command: Demand) -> None:
        spec = command.placement.spec
        infeasible = self._leases.infeasible(spec.requirement, spec.placement)
        if infeasible is not None and infeasible.fatal:
            self._run(self._placements.unschedulable(command.shape, infeasible.reason))
            return
        reason = infeasible.reason if infeasible is not None else self._leases.too_large(spec.placement)
        place = requirements.group_of(spec.requirement)[:2]
        pool = self._environments.pool(command.placement.job, spec.environment)
        # The resources for its placement say where it may go, those for running are what it takes: a default
        # actor starts on any node with a CPU, though all of them are held.
        self._environments.demand(
            Wanted(LESSEE, command.shape, pool, spec.running, 1, 0, reason, dedicated=True, place=place)
        )

    def _start(self, command: Start) -> None:
        worker, placement, gpus = command
        spec = placement.spec
        self._worker_table.become_actor(worker, placement.actor, spec.class_name, bool(spec.max_restarts))
        self._context.send(worker, node.StartActor(*placement.actor, placement.encoded_spec, gpus))

    def _end(self, command: AskToEnd | Kill) -> None:
        worker = self._worker_table.get(command.worker)
        if worker is None:
            return
        if isinstance(command, AskToEnd) and self._context.send(worker.id, node.EndActor(command.cause)):
            self._context.reactor.call_later(_END_TIMEOUT_S, lambda: self._kill_ending(worker, command.cause))
        else:
            self._workers.kill(worker, command.cause, intended=True)

    def _kill_ending(self, worker: WorkerProcess, cause: str) -> None:
        if not worker.exited:
            self._workers.kill(worker, f"{cause}, and it did not end by itself", intended=True)

    def _report_failed(self, command: ReportFailed) -> None:
        exceptions = descriptors.load("skate._serialize.exceptions")  # rare, and 10 ms
        error = exceptions.dump_error(command.error)
        self._membership.started(control.ActorStarted(*command.actor, b"", "", error))
