"""Carries out what the lease table decides: grants to lessees, starts of workers, reports of resources."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from skate._node.context import NodeContext
from skate._node.events import WorkerEnded
from skate._node.leases.accounts import NO_GROUP, Place
from skate._node.leases.groups import Group, Reserved
from skate._node.leases.lessee import Lessee
from skate._node.leases.records import (
    AskForGroup,
    Command,
    EndWorker,
    Grant,
    OwnerLeft,
    Reclaim,
    Refuse,
    StartWorkers,
)
from skate._node.leases.table import LeaseTable
from skate._scheduling import requirements
from skate._scheduling.placement import Infeasible, NodeView, place
from skate._transport.connection import Connection, Handler
from skate._transport.reactor import Timer
from skate._wire import node

#: A demand that waits this long asks others for their share.
_TIME_SLICE_S = 0.01
#: The free resources are reported to the control store at most this often.
_REPORT_INTERVAL_S = 0.005


class LeaseService:
    """The only caller of the lease table's events; others state theirs here.

    Args:
        context: of the daemon.
        table: of this node.
        start_workers: starts so many workers for a worker pool.
        end_worker: kills a worker, for a reason that its exit report names.
        on_leases: called while there are leases.
        on_group: called with a placement group and the attempt whose bundles are reserved, or None: what is
            known of the group is to be asked for.
        report_free: tells the control store what is free.
    """

    def __init__(
        self,
        context: NodeContext,
        table: LeaseTable,
        *,
        start_workers: Callable[[bytes, int], None],
        end_worker: Callable[[bytes, str], None],
        on_group: Callable[[bytes, int | None], None],
        on_leases: Callable[[], None],
        report_free: Callable[[Mapping[str, int]], None],
    ) -> None:
        self._context = context
        self._table = table
        self._start_workers = start_workers
        self._end_worker = end_worker
        self._on_group = on_group
        self._on_leases = on_leases
        self._report_free = report_free
        self._lessees: dict[bytes, Lessee] = {}
        self._slice: Timer | None = None
        self._report: Timer | None = None
        self._retire: Timer | None = None
        self._reported: dict[str, int] = {}

    def handlers(self) -> dict[type, Handler]:
        """Return the handlers of this part's messages."""
        return {node.LeaseReturned: self._returned, node.Blocked: self._blocked,
                node.ExitRefused: self._exit_refused}  # fmt: skip

    # ------------------------------------------------------------------ lessees

    def add_lessee(self, lessee_id: bytes, lessee: Lessee) -> None:
        """Serve the demands of a lessee."""
        self._lessees[lessee_id] = lessee

    def lessee_gone(self, lessee_id: bytes) -> None:
        """End the leases and demands of a process that ended."""
        self._lessees.pop(lessee_id, None)
        self.run(self._table.owner_gone(lessee_id))

    def demand(
        self,
        lessee: bytes,
        shape: int,
        pool: bytes,
        resources: Mapping[str, int],
        count: int,
        depth: int,
        infeasible: str = "",
        *,
        dedicated: bool = False,
        place: Place = NO_GROUP,
    ) -> None:
        """Take a lessee's demand: so many leases of this shape in all (see ``LeaseTable.demand``)."""
        self.run(
            self._table.demand(
                lessee, shape, pool, resources, count, depth, infeasible, dedicated=dedicated, place=place
            )
        )

    def returned(self, lease_id: int) -> None:
        """End a lease that its lessee needs no more."""
        self.run(self._table.returned(lease_id))

    def refuse(self, refusal: Refuse) -> None:
        """Tell a lessee that a demand cannot be served, which the lease table never heard of."""
        self.run([refusal])

    def refuse_pool(self, pool: bytes, reason: str) -> None:
        """Refuse the demands that wait for workers of a pool: these cannot be had."""
        self.run(self._table.refuse_pool(pool, reason))

    def leased_worker(self, lease_id: int, lessee: bytes) -> bytes:
        """Return the worker of a lease, if the lease is this lessee's; else an empty id."""
        lease = self._table.leases.get(lease_id)
        return lease.worker if lease is not None and lease.owner == lessee else b""

    def _returned(self, connection: Connection, message: node.LeaseReturned) -> None:
        lease = self._table.leases.get(message.lease)
        if lease is not None and lease.owner == connection.peer.id:
            self.returned(message.lease)

    # ------------------------------------------------------------------ what fits

    def too_large(self, resources: Mapping[str, int]) -> str:
        """Return why this node could not hold these resources if all of it were free; empty: it could."""
        return self._table.node.lack(resources)

    def infeasible(self, requirement: bytes, resources: Mapping[str, int]) -> Infeasible | None:
        """Return why this node, the only one, may not serve what has this requirement; None: it may."""
        context, table = self._context, self._table
        here = NodeView(context.settings.node_id, context.labels, table.total, table.free)
        found = place(requirements.decode(requirement), resources, [here])
        return found if isinstance(found, Infeasible) else None

    # ------------------------------------------------------------------ placement groups

    def reserve_group(self, group: Group) -> None:
        """Reserve the bundles of a placement group as soon as they fit; ``on_group`` is called then."""
        self.run(self._table.reserve_group(group))

    def remove_group(self, group: bytes, reason: str, *, for_good: bool) -> None:
        """End what runs in a placement group; refuse what would, if the group is gone ``for_good``."""
        self.run(self._table.remove_group(group, reason, for_good=for_good))

    # ------------------------------------------------------------------ workers

    def start_workers(self, pool: bytes, count: int) -> None:
        """Have workers started ahead of any demand."""
        self._start_workers(pool, count)

    def workers_starting(self, pool: bytes, count: int) -> None:
        """Expect so many workers of a pool."""
        self._table.starting(pool, count)

    def worker_not_started(self, pool: bytes, cause: str) -> None:
        """Expect one worker of a pool less."""
        self.run(self._table.worker_not_started(pool, cause))

    def worker_ready(self, worker: bytes, pool: bytes) -> None:
        """Grant a worker that said hello."""
        self.run(self._table.worker_ready(worker, pool))

    def worker_ending(self, worker: bytes) -> None:
        """Grant a worker no more: it is certain to end."""
        self._table.worker_ending(worker)

    def refused_dedication(self, worker: bytes) -> None:
        """Grant a worker no more for dedicated leases: it owns objects. ``release`` ends the present one."""
        self._table.refused_dedication(worker)

    def release(self, worker: bytes) -> None:
        """End the lease of a worker that goes on without it."""
        lease = self._table.lease_of(worker)
        if lease is not None:
            self.returned(lease.id)

    def worker_ended(self, ended: WorkerEnded) -> None:
        """End what a dead worker held, tell the lessee of its lease, and serve others with what is free."""
        if not ended.was_ready:
            counts = ended.counts_as_failed_start
            self.run(self._table.worker_not_started(ended.pool, ended.cause, counts=counts))
            return
        lease, commands = self._table.worker_lost(ended.worker)
        self._lessees.pop(ended.worker, None)
        commands += self._table.owner_gone(ended.worker)
        lessee = self._lessees.get(lease.owner) if lease is not None else None
        if lease is not None and lessee is not None:
            lessee.worker_died(lease, ended)
        self.run(commands)

    def _blocked(self, connection: Connection, message: node.Blocked) -> None:
        self.run(self._table.blocked(connection.peer.id, message.blocked))

    def retire_idle(self) -> None:
        """Ask idle workers beyond the node's CPUs to end."""
        for worker in self._table.take_idle(max(1, self._context.cpu_count)):
            self._context.send(worker, node.Exit())

    def _exit_refused(self, connection: Connection, message: node.ExitRefused) -> None:
        self.run(self._table.put_back(connection.peer.id))

    # ------------------------------------------------------------------ effects

    def run(self, commands: Sequence[Command]) -> None:
        """Carry out commands of the lease table, then arm the timers that its state asks for."""
        context, table = self._context, self._table
        for command in commands:
            if isinstance(command, Grant):
                self._grant(command)
            elif isinstance(command, StartWorkers):
                self._start_workers(command.pool, command.number)
            elif isinstance(command, OwnerLeft):
                context.send(command.worker, node.OwnerLeft(command.owner))
            elif isinstance(command, EndWorker):
                self._end_worker(command.worker, command.reason)
            elif isinstance(command, Reserved):
                self._on_group(command.group, command.attempt)
            elif isinstance(command, AskForGroup):
                self._on_group(command.group, None)
            else:
                self._tell(command)
        if context.closing:
            return
        if table.leases:
            self._on_leases()
        if self._slice is None and table.waiting:
            # At once for idle leases, again each time slice while a demand waits.
            self._time_slice()
        if self._report is None and table.free != self._reported:
            self._report = context.reactor.call_later(_REPORT_INTERVAL_S, self._send_report)
        if self._retire is None and table.worker_count > context.cpu_count:
            delay = context.config.idle_worker_ms / 1000
            self._retire = context.reactor.call_later(delay, self._retire_later)

    def _grant(self, command: Grant) -> None:
        lease = command.lease
        if self._table.lease_of(lease.worker) is not lease:
            return  # an earlier command of this list ended the lease: its demand is served again
        lessee = self._lessees.get(lease.owner)
        if lessee is not None:
            lessee.granted(lease, self._table.node.gpus.names(lease.gpus))

    def _tell(self, command: Refuse | Reclaim) -> None:
        lessee = self._lessees.get(command.owner)
        if lessee is None:
            return
        if isinstance(command, Refuse):
            lessee.refused(command)
        else:
            lessee.reclaim(command.busy)

    def _time_slice(self) -> None:
        self._slice = None
        commands = self._table.unmet()
        if self._table.waiting and not self._context.closing:
            self._slice = self._context.reactor.call_later(_TIME_SLICE_S, self._time_slice)
        for command in commands:
            if isinstance(command, Reclaim):
                self._tell(command)
        others = [command for command in commands if not isinstance(command, Reclaim)]
        if others:  # a placement group began to let others pass
            self.run(others)

    def _send_report(self) -> None:
        self._report = None
        self._reported = dict(self._table.free)
        self._report_free(self._reported)

    def _retire_later(self) -> None:
        self._retire = None
        self.retire_idle()
