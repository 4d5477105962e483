"""How many rows a task gets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from skate.data._exec.shares import LEAST_TASK_S, MOST_TASK_S, rows_for_task

times = st.one_of(st.none(), st.just(0.0), st.floats(1e-9, 1e3))


@given(st.integers(1, 10**9), st.integers(1, 1000), st.integers(1, 5000), times)
def test_shares_are_whole_units(waiting: int, slots: int, unit: int, seconds: float | None) -> None:
    rows = rows_for_task(waiting, slots, unit, seconds)
    assert rows >= unit
    assert rows % unit == 0


@given(st.integers(1, 10**7), st.integers(1, 100), st.floats(1e-6, 10))
def test_tasks_are_neither_short_nor_long(waiting: int, slots: int, seconds: float) -> None:
    rows = rows_for_task(waiting, slots, 1, seconds)
    assert rows == 1 or LEAST_TASK_S <= rows * seconds <= MOST_TASK_S + seconds


def test_the_first_tasks_are_small() -> None:
    assert rows_for_task(10**6, 2, 32, None) == 32


def test_parts_become_smaller_and_cover_all_rows() -> None:
    left, parts = 1000, []
    while left:
        parts.append(min(left, rows_for_task(left, 4, 1, 0.002)))
        left -= parts[-1]
    assert sum(parts) == 1000
    assert parts[0] == 125
    assert parts[:-1] == sorted(parts[:-1], reverse=True)
    assert min(parts[:-1]) == 25
