"""Decides what an execution may hold: one number of bytes for blocks, running tasks and pools. No I/O."""

from __future__ import annotations

from skate.data._exec.stage_sets import StageSets
from skate.data._exec.stages import Kind
from skate.data._exec.states import Limits, Replica, StageState

#: Bytes that a task is expected to use before one of its stage has been measured: more than most use, so that
#: a small budget lets one run, and a large one all that have a CPU.
FIRST_GUESS_BYTES = 512 << 20
#: A task's blocks, and what it has made and nobody has read, are at most a part of its share of the budget.
_BLOCKS_IN_SHARE, _WINDOWS_IN_SHARE = 4, 8
#: No block and no window is cut below these sizes, however small the budget is.
_LEAST_BLOCK, _MOST_WINDOW = 1 << 20, 64 << 20
#: Memory that a process may keep from a task for the next one. Fresh pages are dear: a process that decodes
#: pictures and gives their memory back each time spends a fifth of its time on page faults.
_LEAST_KEPT, _MOST_KEPT = 32 << 20, 512 << 20
_KEPT_IN_SHARE = 4


def block_bytes(limits: Limits, target_bytes: int) -> int:
    """Return the size at which tasks cut their output.

    Args:
        limits: of the execution.
        target_bytes: the size that was asked for; less is returned if the budget is small.
    """
    return min(target_bytes, max(_LEAST_BLOCK, _share(limits) // _BLOCKS_IN_SHARE))


def window_bytes(limits: Limits) -> int:
    """Return the bytes of output that a task may be ahead of the driver."""
    return min(_MOST_WINDOW, max(_LEAST_BLOCK, _share(limits) // _WINDOWS_IN_SHARE))


def kept_bytes(limits: Limits) -> int:
    """Return the memory that a process may keep from a task for the next one: little if the user gave the
    budget, as kept memory is no part of it."""
    if limits.is_strict:
        return _LEAST_KEPT
    return min(_MOST_KEPT, max(_LEAST_KEPT, _share(limits) // _KEPT_IN_SHARE))


def _share(limits: Limits) -> int:
    """Return the budget of one of the tasks that run at a time, with the consumer as one more."""
    return int(limits.memory_bytes / (max(1.0, limits.cpus) + 1))


class Budget:
    """The memory of one execution: everything that it holds, and what it may begin.

    Args:
        stages: all of them.
        limits: the budget is ``memory_bytes``.
    """

    def __init__(self, stages: StageSets, limits: Limits) -> None:
        self._stages = stages
        self._bytes = limits.memory_bytes
        self._part_bytes = max(1, self._bytes // (2 * max(1, len(stages.all))))
        self._is_strict = limits.is_strict
        self._guess = FIRST_GUESS_BYTES
        if not limits.is_strict:
            self._guess = min(FIRST_GUESS_BYTES, _share(limits) // 2)

    def held(self, outbox_bytes: int) -> int:
        """Return the bytes of all blocks that the execution holds.

        Args:
            outbox_bytes: of those before the consumer.
        """
        held = outbox_bytes
        for state in self._stages.holders():
            if not state.spec.slices:
                held += state.inbox.bytes + state.waiting_bytes + state.made_bytes
            held += sum(task.bundle.memory_bytes for task in state.running.values())
        return held

    def _working(self, guess: int) -> int:
        """Return the bytes that running tasks and idle replicas are expected to use beyond those blocks.

        Args:
            guess: bytes of a task whose stage has not been measured.
        """
        found = 0
        for state in self._stages.holders():
            found += sum(one.resident_bytes for one in state.replicas.values())
            if state.running:
                found += _calls(state) * _expected(state, guess)
        return found

    def free(self, outbox_bytes: int) -> int:
        """Return the bytes that further tasks may use.

        Args:
            outbox_bytes: bytes of blocks before the consumer.
        """
        return self._bytes - self.held(outbox_bytes) - self._working(self._guess)

    def needs(self, state: StageState, replica: Replica | None) -> int:
        """Return the bytes that another task of a stage is expected to use.

        Args:
            state: of the stage.
            replica: the replica that would run it; one that is busy runs it later, in the same memory.
        """
        is_later = replica is not None and state.spec.pool is not None
        if is_later and len(replica.tasks) >= state.spec.pool.max_concurrency:  # type: ignore[union-attr]
            return 0
        return _expected(state, self._guess)

    def is_over(self, outbox_bytes: int) -> bool:
        """Tell whether a budget that the user gave is exceeded: what runs should not make more for now."""
        return self._is_strict and self.held(outbox_bytes) + self._working(guess=0) > self._bytes

    def is_full(self, state: StageState, outbox_bytes: int) -> bool:
        """Tell whether a stage's output is ahead of what is taken."""
        return state.waiting_bytes > self._part_bytes or self.is_full_below(state.consumer, outbox_bytes)

    def is_full_below(self, consumer: int | None, outbox_bytes: int) -> bool:
        """Tell whether what lies before a stage, or before the consumer (None), is not being taken."""
        if consumer is None:
            return outbox_bytes > self._part_bytes
        below = self._stages.all[consumer]
        return below.spec.kind is not Kind.BARRIER and below.inbox.bytes > self._part_bytes

    def is_barrier_full(self, state: StageState) -> bool:
        """Tell whether what a barrier has collected is so much that the rest goes to files."""
        assert state.consumer is not None
        held = self._stages.all[state.consumer].inbox.bytes + state.waiting_bytes + state.made_bytes
        return held > self._bytes // 4


def _expected(state: StageState, guess: int) -> int:
    """Return the bytes that one task of a stage uses: its working set, and a block that is on its way."""
    if not state.is_measured:
        return guess
    return state.peak_bytes + state.bytes_out // max(1, state.blocks_out)


def _calls(state: StageState) -> int:
    """Return the tasks of a stage that run now; in a replica, others wait behind them."""
    if state.spec.pool is None:
        return len(state.running)
    most = state.spec.pool.max_concurrency
    return sum(min(most, len(replica.tasks)) for replica in state.replicas.values())
