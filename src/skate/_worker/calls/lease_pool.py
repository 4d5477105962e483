"""Chooses a leased worker for each task, and the number of leases to demand. Decisions only.

One pool a resource shape. Calls of a function that is not known to be short are sent one a worker; those of a
short one are pipelined (``FunctionRecord.depth``), but a worker never gets more than an even share of the
queue, so that the last tasks do not queue behind each other while a worker idles. Effects are callbacks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from skate._worker.calls.records import TaskRecord, take_out

if TYPE_CHECKING:
    from skate._transport.connection import Connection


class WorkerLease:
    """A worker that is leased to this process."""

    __slots__ = (
        "id",
        "worker_id",
        "connection",
        "inflight",
        "retiring",
        "slow",
        "idle_since",
        "pool",
        "gpus",
    )

    def __init__(self, lease_id: int, worker_id: bytes, connection: Connection, pool: LeasePool) -> None:
        self.id = lease_id
        self.worker_id = worker_id
        self.connection = connection
        #: Calls sent and not answered, in the order sent.
        self.inflight: dict[int, TaskRecord] = {}
        #: To be given back when its calls in flight are finished.
        self.retiring = False
        #: It returned calls because one takes long: nothing more until the next reply.
        self.slow = False
        self.idle_since = 0.0
        #: Comma-separated ids of its GPUs.
        self.gpus: str | None = None
        self.pool = pool


class LeasePool:
    """Tasks and leases of one resource shape."""

    def __init__(
        self,
        shape: int,
        resources: dict[str, int],
        send: Callable[[WorkerLease, TaskRecord], None],
        demand: Callable[[LeasePool, int], None],
        give_back: Callable[[WorkerLease], None],
    ) -> None:
        self.shape = shape
        self.resources = resources
        #: The environment of its workers; empty: that of this process.
        self.environment = b""
        #: Which nodes may serve it: a packed Requirement; empty: any.
        self.requirement = b""
        #: The placement group in which its tasks run, and whether that captures the tasks that they start.
        self.group: tuple[bytes, bool] = (b"", False)
        #: Why that group is gone; empty: it is not.
        self.removed = ""
        self.queue: deque[TaskRecord] = deque()
        self.leases: list[WorkerLease] = []
        #: How deep the deepest caller of these tasks is nested.
        self.depth = 0
        self._send = send
        self._demand = demand
        self._give_back = give_back
        self._demanded = 0

    def submit(self, task: TaskRecord) -> None:
        """Send or queue a task that is ready to run."""
        if not self.queue:
            function = task.function
            assert function is not None
            best = None
            for lease in self.leases:
                load = len(lease.inflight)
                if not load:
                    if not lease.retiring:
                        best = lease
                        break
                elif (
                    load < function.depth
                    and not lease.retiring
                    and not lease.slow
                    and (best is None or load < len(best.inflight))
                ):
                    best = lease
            if best is not None:
                best.inflight[task.seq] = task
                self._send(best, task)
                return
        self.queue.append(task)
        self._demand_more()

    def _needed(self) -> int:
        """Return how many leases the waiting and running tasks need."""
        count = len(self.queue)
        busy = 0
        for lease in self.leases:
            if lease.inflight:
                busy += 1
                count += len(lease.inflight) - 1 if not lease.slow else 0
        if not count:
            return busy
        first = self.queue[0] if self.queue else None
        depth = first.function.depth if first is not None and first.function is not None else 1
        return busy + (count + depth - 1) // depth

    def _demand_more(self) -> None:
        needed = max(self._needed(), 1 if self.queue else 0)
        if needed > self._demanded:
            self._demanded = needed
            self._demand(self, needed)

    def granted(self, lease: WorkerLease) -> None:
        """Add a lease that the node granted, and send it tasks."""
        self.leases.append(lease)
        self.feed(lease)

    def feed(self, lease: WorkerLease) -> None:
        """Send the lease as many queued tasks as it may take."""
        queue = self.queue
        if not queue or lease.slow or lease.retiring:
            return
        share = -(-len(queue) // len(self.leases))
        inflight = lease.inflight
        while queue and share > 0:
            function = queue[0].function
            assert function is not None
            if len(inflight) >= function.depth and inflight:
                break
            task = queue.popleft()
            inflight[task.seq] = task
            self._send(lease, task)
            share -= 1
        if queue:
            following = queue[0].function
            if following is not None and following.depth == 1:
                self._demand_more()  # the last demand may have counted it among short ones

    def replied(self, lease: WorkerLease, now: Callable[[], float]) -> None:
        """Send the lease more tasks: a call of it is finished (and out of ``inflight``)."""
        lease.slow = False
        if self.queue and not lease.retiring:
            self.feed(lease)
        elif not lease.inflight:
            if self._demanded > len(self.leases) and not self.queue:
                self._demanded = len(self.leases)
                self._demand(self, self._demanded)
            if lease.retiring or (self.group[0] and not self.resources):
                # It takes no resources of a group: it is ``ready()``. Its worker would end with the group.
                self.give_back(lease)
            else:
                lease.idle_since = now()

    def returned(self, lease: WorkerLease, tasks: list[TaskRecord]) -> None:
        """Queue tasks again that a worker returned because the one before them takes long."""
        lease.slow = bool(lease.inflight)
        self.requeue(tasks)

    def requeue(self, tasks: list[TaskRecord]) -> None:
        """Queue tasks that were sent, and did not begin, before all others."""
        self.queue.extendleft(reversed(tasks))
        for lease in self.leases:
            if not lease.inflight:
                self.feed(lease)
        if self.queue:
            self._demand_more()

    def withdraw(self, task: TaskRecord) -> None:
        """Forget a cancelled task; do nothing if it was sent."""
        take_out(self.queue, task)

    def refused(self) -> list[TaskRecord]:
        """Return the queued tasks: the node refused the demand."""
        tasks = list(self.queue)
        self.queue.clear()
        self._demanded = len(self.leases)
        return tasks

    def unreachable(self) -> list[TaskRecord]:
        """Demand no more than the present leases: this process cannot dial the worker that was granted.

        Without any lease, return the queued tasks: they cannot be run.
        """
        self._demanded = len(self.leases)
        self._demand(self, self._demanded)
        return [] if self.leases else self.refused()

    def reclaim(self, busy: int) -> None:
        """Give back idle leases now, and ``busy`` more when their calls are finished: other owners wait."""
        for lease in list(self.leases):
            if not lease.inflight and not self.queue:
                self.give_back(lease)
            elif busy > 0 and not lease.retiring:
                busy -= 1
                lease.retiring = True
                if not lease.inflight:
                    self.give_back(lease)
        if self.queue:
            self._demand_more()  # retiring leases take nothing more

    def give_back_idle(self, since: float) -> bool:
        """Give back leases idle since before ``since``; tell whether other idle ones are left."""
        left = False
        for lease in list(self.leases):
            if not lease.inflight:
                if lease.idle_since <= since:
                    self.give_back(lease)
                else:
                    left = True
        return left

    def give_back(self, lease: WorkerLease) -> None:
        """End the lease; demand another one for queued tasks."""
        self.leases.remove(lease)
        self._demanded = self._needed()
        self._demand(self, self._demanded)
        self._give_back(lease)

    def lost(self, lease: WorkerLease) -> None:
        """Forget a lease whose worker died; the caller decides about its calls."""
        if lease in self.leases:
            self.leases.remove(lease)
        self._demanded = self._needed()
        self._demand(self, self._demanded)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is queued, in flight or leased."""
        return not self.queue and not self.leases
