"""Decides how many replicas a pool has, and which one gets a task. Decisions only."""

from __future__ import annotations

from skate.data._exec.commands import StartReplica, StopReplica
from skate.data._exec.states import Replica, ReplicaState, StageState

#: How many replicas of a stage may die without a task, one after the other, without one that finishes a task.
MAX_REPLICA_DEATHS = 3


class Replicas:
    """All replicas of an execution."""

    def __init__(self) -> None:
        self._next = 0
        self._all: dict[int, Replica] = {}

    def start_first(self, state: StageState) -> list[StartReplica]:
        """Start the replicas that a pool begins with."""
        assert state.spec.pool is not None
        return [self._start(state) for _ in range(state.spec.pool.initial_size)]

    def scale(self, state: StageState, has_work: bool) -> list[StartReplica]:
        """Start replicas up to the least number, and one more if all have as many tasks as they may.

        Args:
            state: of a stage with a pool.
            has_work: there is a bundle for it.
        """
        pool = state.spec.pool
        assert pool is not None
        wanted = pool.min_size
        if has_work:
            wanted = max(1, wanted)
            if all(len(replica.tasks) >= pool.in_flight for replica in state.replicas.values()):
                wanted = max(wanted, len(state.replicas) + 1)
        return [self._start(state) for _ in range(min(wanted, pool.max_size) - len(state.replicas))]

    def _start(self, state: StageState) -> StartReplica:
        replica = Replica(self._next, state.spec.index)
        self._next += 1
        state.replicas[replica.number] = self._all[replica.number] = replica
        return StartReplica(replica.number, state.spec.index)

    def stop_all(self, state: StageState) -> list[StopReplica]:
        """Stop all replicas of a stage."""
        numbers = list(state.replicas)
        state.replicas.clear()
        for number in numbers:
            del self._all[number]
        return [StopReplica(number) for number in numbers]

    def ready(self, number: int, resident_bytes: int) -> None:
        """Note that a replica has loaded, and the memory that its process has."""
        if number in self._all:
            self._all[number].state = ReplicaState.READY
            self._all[number].resident_bytes = resident_bytes

    def died(self, number: int) -> Replica | None:
        """Forget a replica. Return what it was, or None if it is not known any more."""
        return self._all.pop(number, None)

    def free(self, state: StageState) -> Replica | None:
        """Return the replica that gets the next task, or None if none may have another one."""
        assert state.spec.pool is not None
        ready = [
            replica
            for replica in state.replicas.values()
            if replica.state is ReplicaState.READY and len(replica.tasks) < state.spec.pool.in_flight
        ]
        return min(ready, key=lambda replica: (len(replica.tasks), replica.number), default=None)

    def has_after(self, number: int | None, task: int, others: set[int]) -> bool:
        """Tell whether a task stands before one of others in its replica."""
        if number is None or number not in self._all:
            return False
        return any(other > task and other in others for other in self._all[number].tasks)

    def task_ended(self, number: int | None, task: int) -> None:
        """Note that a replica has one task less."""
        if number is not None and number in self._all:
            self._all[number].tasks.discard(task)
