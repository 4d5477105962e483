"""An actor's order of steps: whatever the order of arrivals, the same."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skate.dag._schedule import Schedule, Turn

from ..effort import effort


def schedule(needs: list[set[int]], keeps: list[set[int]] | None = None) -> Schedule:
    keeps = keeps or [set() for _ in needs]
    return Schedule([frozenset(one) for one in needs], [frozenset(one) for one in keeps])


def run(table: Schedule, made: dict[int, Any] | None = None) -> list[tuple[int, int]]:
    """Run every step that may; return (execution, step) of each."""
    ran = []
    while (turn := table.turn()) is not None:
        ran.append((turn.execution, turn.step))
        table.done(turn, made or {})
    return ran


def test_a_step_runs_when_all_that_it_needs_is_there() -> None:
    table = schedule([{1, 2}])
    assert table.turn() is None
    table.arrived(0, 1, "one")
    assert table.turn() is None
    table.arrived(0, 2, "two")
    assert table.turn() == Turn(0, 0, {1: "one", 2: "two"})


def test_executions_run_one_after_the_other() -> None:
    table = schedule([{1}])
    table.arrived(2, 1, None)
    table.arrived(1, 1, None)
    assert run(table) == []
    assert table.waiting == 2
    table.arrived(0, 1, None)
    assert run(table) == [(0, 0), (1, 0), (2, 0)]
    assert (table.waiting, table.execution) == (0, 3)


def test_a_later_step_holds_up_the_next_execution() -> None:
    table = schedule([{1}, {2}])
    table.arrived(0, 1, None)
    table.arrived(1, 1, None)
    assert run(table) == [(0, 0)]
    table.arrived(0, 2, None)
    assert run(table) == [(0, 1), (1, 0)]


def test_values_made_here_are_there_for_later_steps() -> None:
    table = schedule([{1}, {5, 1}], [{5}, set()])
    table.arrived(0, 1, "in")
    turn = table.turn()
    assert turn is not None
    table.done(turn, {5: "made"})
    assert table.turn() == Turn(0, 1, {1: "in", 5: "made"})


def test_what_is_not_expected_is_refused() -> None:
    table = schedule([{1}, {5}], [{5}, set()])
    table.arrived(0, 1, None)
    for execution, number in [(0, 1), (0, 5), (0, 9)]:
        with pytest.raises(ValueError, match="not expected"):
            table.arrived(execution, number, None)
    turn = table.turn()
    assert turn is not None
    table.done(turn, {5: None})
    with pytest.raises(ValueError, match="out of turn"):
        table.done(turn, {})
    assert run(table) == [(0, 1)]
    with pytest.raises(ValueError, match="not expected"):
        table.arrived(0, 1, None)


def test_nothing_is_kept_in_the_end() -> None:
    table = schedule([{1, 2}])
    table.arrived(0, 1, None)
    table.arrived(3, 2, None)
    table.forget()
    assert (table.waiting, table.turn()) == (0, None)


def test_an_actor_has_steps() -> None:
    with pytest.raises(ValueError, match="at least one step"):
        schedule([])


@effort(100)
@given(
    st.lists(st.sets(st.integers(0, 3), min_size=1), min_size=1, max_size=4),
    st.integers(1, 4),
    st.randoms(use_true_random=False),
)
def test_any_order_of_arrivals_gives_the_same_order_of_steps(
    needs: list[set[int]], executions: int, random: Any
) -> None:
    table = schedule(needs)
    arrivals = [(e, n) for e in range(executions) for n in sorted(set().union(*needs))]
    random.shuffle(arrivals)
    ran = []
    for execution, number in arrivals:
        table.arrived(execution, number, None)
        ran += run(table)
    assert ran == [(e, s) for e in range(executions) for s in range(len(needs))]
    assert table.waiting == 0
