"""Decides which stages' output could reach the consumer, and which tasks are held. Decisions only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from skate.data._exec.replicas import Replicas
from skate.data._exec.states import StageState, Task


class Demand:
    """Looks from the consumer up through the stages.

    Args:
        stages: their states; they are read and not written.
        is_full: tells whether a stage's output is ahead of what is taken.
    """

    def __init__(self, stages: Sequence[StageState], is_full: Callable[[StageState], bool]) -> None:
        self._stages = stages
        self._is_full = is_full

    def is_wanted(self, state: StageState) -> bool:
        """Tell whether a stage's output could reach the consumer now."""
        while state.consumer is not None:
            below = self._stages[state.consumer]
            if not below.inbox.wants(state.side):
                return False
            state = below
        return True

    def starves_below(self, state: StageState, has_output: bool) -> bool:
        """Tell whether the stage below, or the consumer, can do nothing without more of a stage's output.

        Args:
            state: of the stage.
            has_output: blocks lie before the consumer.
        """
        if state.consumer is None:
            return not has_output
        inbox = self._stages[state.consumer].inbox
        return inbox.wants(state.side) and not inbox.has_bundle()

    def goes_on(self, above: StageState) -> bool:
        """Tell whether a task of a stage, or of one that is served before it, is not held."""
        served = self._stages[above.spec.index :]
        return not all(task.is_held for state in served for task in state.running.values())

    def holds(
        self, replicas: Replicas, has_output: bool, is_over: bool = False
    ) -> Iterator[tuple[Task, bool]]:
        """Yield each running task, and whether it is to be held.

        A task is held if its stage's output is not being taken, or memory is short. The one whose turn it is
        goes on if the stages below it wait for it.

        Args:
            replicas: that run the tasks of pools.
            has_output: blocks lie before the consumer.
            is_over: the execution holds and uses more than its budget.
        """
        is_idle_below = not has_output
        held: list[Task] = []
        going: set[int] = set()
        for state in reversed(self._stages):
            is_full = is_over or self._is_full(state)
            is_wanted = self.is_wanted(state)
            for task in sorted(state.running.values(), key=lambda one: one.sequence):
                has_turn = not state.spec.is_ordered or task.sequence == state.turn
                if is_full and not (has_turn and is_idle_below and is_wanted):
                    held.append(task)
                else:
                    going.add(task.number)
                    yield task, False
            if going:
                is_idle_below = False
        for task in held:
            # A task that runs again may stand behind a held one in its replica.
            yield task, not replicas.has_after(task.replica, task.number, going)

    def used_cpus(self, wanted: StageState) -> float:
        """Return the CPUs that a stage cannot get, since running calls use them.

        A task that waits in a replica behind another one uses none. A held task lends its own, but not for
        more tasks of the same stage: those would only be held, too.
        """
        used = 0.0
        for state in self._stages:
            using = [task for task in state.running.values() if state is wanted or not task.is_held]
            replicas = {task.replica for task in using}
            used += state.spec.cpus * (len(using) if state.spec.pool is None else len(replicas))
        return used
