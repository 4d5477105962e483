"""The text of an execution that makes no progress: who waits for what."""

from __future__ import annotations

from collections.abc import Sequence

from skate.data._exec.stages import Kind
from skate.data._exec.states import ReplicaState, StageState
from skate.data._exec.statistics import Statistics


def describe_stall(stages: Sequence[StageState], stats: Statistics, waited_s: float) -> str:
    """Return who waits for what in an execution in which nothing happens.

    Args:
        stages: of the execution.
        stats: its figures.
        waited_s: seconds since the last event.
    """
    lines = [f"the execution made no progress for {waited_s:,.0f} s:"]
    for state in stages:
        lines += [f"  {state.spec.name}: {words}" for words in _waits(state, stages, stats)]
    lines.append(
        "A task makes progress when it yields a block or ends: look at what its process does "
        "(skate stack), give it fewer rows at a time (batch_size=), or raise "
        "DataContext.execution_no_progress_timeout_s (None: no limit)"
    )
    return "\n".join(lines)


def _waits(state: StageState, stages: Sequence[StageState], stats: Statistics) -> list[str]:
    """Return what a stage that is not done does or waits for."""
    if state.is_done:
        return []
    found = []
    if state.running:
        ages = [stats.age_s(number) for number in state.running]
        found.append(f"{_count(len(state.running), 'task')} under way, the oldest for {max(ages):,.0f} s")
    loading = [one for one in state.replicas.values() if one.state is ReplicaState.STARTING]
    if loading:
        found.append(f"{_count(len(loading), 'replica')} of {len(state.replicas)} loading")
    if found:
        return found
    above = [stages[index].spec.name for index in state.spec.inputs if not stages[index].is_done]
    if above:
        return [f"waits for {' and '.join(above)}"]
    if state.spec.kind is not Kind.SOURCE or state.inbox.has_bundle():
        return ["has input, and waits for CPUs, memory or a replica"]
    return []


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
