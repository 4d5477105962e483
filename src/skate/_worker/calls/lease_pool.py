"""Which task goes to which leased worker, and how many leases to ask for. Decisions only.

One pool a resource shape. A function that is not known to be short is sent one call a worker; a
short one is pipelined (``FunctionRecord.depth``), but never more than an even share of what waits,
so that the last tasks do not queue behind each other while a worker idles. Effects are callbacks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from skate._worker.calls.records import TaskRecord, take_out

if TYPE_CHECKING:
    from skate._transport.connection import Connection


class WorkerLease:
    """A worker that is ours for now."""

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
        #: To be given back when what is in flight is through.
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
        #: Of its workers; empty: that of this process.
        self.environment = b""
        #: Which nodes may serve it: a packed Requirement; empty: any.
        self.requirement = b""
        self.queue: deque[TaskRecord] = deque()
        self.leases: list[WorkerLease] = []
        #: How deep the deepest caller of these tasks is nested.
        self.depth = 0
        self.warned = False
        self._send = send
        self._demand = demand
        self._give_back = give_back
        self._demanded = 0

    def submit(self, task: TaskRecord) -> None:
        """A task is ready to run."""
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
        self._ask()

    def _wanted(self) -> int:
        """Return how many leases the waiting and running tasks are worth."""
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

    def _ask(self) -> None:
        wanted = max(self._wanted(), 1 if self.queue else 0)
        if wanted > self._demanded:
            self._demanded = wanted
            self._demand(self, wanted)

    def granted(self, lease: WorkerLease) -> None:
        """The node gave us a worker."""
        self.leases.append(lease)
        self.feed(lease)

    def feed(self, lease: WorkerLease) -> None:
        """Send the lease what it may take of what waits."""
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
                self._ask()  # what was asked for may have counted it among short ones

    def replied(self, lease: WorkerLease, now: Callable[[], float]) -> None:
        """A call of the lease is through (and out of ``inflight``)."""
        lease.slow = False
        if self.queue and not lease.retiring:
            self.feed(lease)
        elif not lease.inflight:
            if self._demanded > len(self.leases) and not self.queue:
                self._demanded = len(self.leases)
                self._demand(self, self._demanded)
            if lease.retiring:
                self.give_back(lease)
            else:
                lease.idle_since = now()

    def returned(self, lease: WorkerLease, tasks: list[TaskRecord]) -> None:
        """The worker gave calls back because the one before them takes long: run them elsewhere."""
        lease.slow = bool(lease.inflight)
        self.requeue(tasks)

    def requeue(self, tasks: list[TaskRecord]) -> None:
        """Tasks that were sent, and did not begin, come first again."""
        self.queue.extendleft(reversed(tasks))
        for lease in self.leases:
            if not lease.inflight:
                self.feed(lease)
        if self.queue:
            self._ask()

    def withdraw(self, task: TaskRecord) -> None:
        """Nobody wants a task any more; nothing, if it was sent."""
        take_out(self.queue, task)

    def refused(self) -> list[TaskRecord]:
        """The node will not give what was asked for. Return the tasks that waited for it."""
        tasks = list(self.queue)
        self.queue.clear()
        self._demanded = len(self.leases)
        return tasks

    def unreachable(self) -> list[TaskRecord]:
        """A worker that was granted cannot be dialled by this process. Ask for no more than the leases that
        it has; without any, return the tasks that waited: they cannot be run."""
        self._demanded = len(self.leases)
        self._demand(self, self._demanded)
        return [] if self.leases else self.refused()

    def reclaim(self, busy: int) -> None:
        """Others wait: idle leases go back now, ``busy`` more when they are through."""
        for lease in list(self.leases):
            if not lease.inflight and not self.queue:
                self.give_back(lease)
            elif busy > 0 and not lease.retiring:
                busy -= 1
                lease.retiring = True
                if not lease.inflight:
                    self.give_back(lease)
        if self.queue:
            self._ask()  # those that are to go take nothing more

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
        """End the lease. What is still queued asks for another."""
        self.leases.remove(lease)
        self._demanded = self._wanted()
        self._demand(self, self._demanded)
        self._give_back(lease)

    def lost(self, lease: WorkerLease) -> None:
        """The worker of the lease died; its calls are the caller's to decide about."""
        if lease in self.leases:
            self.leases.remove(lease)
        self._demanded = self._wanted()
        self._demand(self, self._demanded)

    @property
    def idle(self) -> bool:
        """Whether nothing is queued, in flight or leased."""
        return not self.queue and not self.leases
