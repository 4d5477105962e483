"""Decides which stages' output could reach the consumer, and which tasks are held. Decisions only."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from skate.data._exec.replicas import Replicas
from skate.data._exec.stage_sets import StageSets
from skate.data._exec.states import StageState, Task


class Demand:
    """Looks from the consumer up through the stages.

    Args:
        stages: all of them.
        is_full: tells whether a stage's output is ahead of what is taken.
    """

    def __init__(self, stages: StageSets, is_full: Callable[[StageState], bool]) -> None:
        self._stages = stages
        self._is_full = is_full

    def is_wanted(self, state: StageState) -> bool:
        """Tell whether a stage's output could reach the consumer now."""
        return self._stages.is_wanted(state)

    def starves_below(self, state: StageState, has_output: bool) -> bool:
        """Tell whether the stage below, or the consumer, can do nothing without more of a stage's output.

        Args:
            state: of the stage.
            has_output: blocks lie before the consumer.
        """
        if state.consumer is None:
            return not has_output
        inbox = self._stages.all[state.consumer].inbox
        return inbox.wants(state.side) and not inbox.has_bundle()

    def goes_on(self, above: StageState) -> bool:
        """Tell whether a task of a stage, or of one that is served before it, is not held."""
        return any(_going(state) for state in self._stages.busy() if state.spec.index >= above.spec.index)

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
        for state in self._stages.busy():
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

    def used_cpus(self) -> float:
        """Return the CPUs that running calls use.

        A task that waits in a replica behind another one uses none. A held task lends its own.
        """
        used = 0.0
        for state in self._stages.busy():
            used += _used_cpus(state, _going(state))
        return used

    def lent_cpus(self, state: StageState) -> float:
        """Return the CPUs of held tasks that a stage cannot get, though they are lent.

        More tasks whose output goes to the same stage would only be held, too. Where inputs take turns, the
        one whose turn it is would not.
        """
        has_turns = state.consumer is not None and self._stages.all[state.consumer].inbox.has_turns
        lent = 0.0
        for one in self._stages.busy():
            if one is state or (one.consumer == state.consumer and not has_turns):
                going = _going(one)
                if len(going) < len(one.running):
                    lent += _used_cpus(one, one.running.values()) - _used_cpus(one, going)
        return lent


def _going(state: StageState) -> list[Task]:
    return [task for task in state.running.values() if not task.is_held]


def _used_cpus(state: StageState, tasks: Collection[Task]) -> float:
    calls = len(tasks) if state.spec.pool is None else len({task.replica for task in tasks})
    return state.spec.cpus * calls
