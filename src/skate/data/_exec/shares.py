"""Decides how many rows one task of a stage gets, so that all processes have work. Decisions only."""

from __future__ import annotations

import math

from skate.data._exec.states import StageState

#: A task should run this long at least, or its own cost shows, and this long at most, or others wait for it.
LEAST_TASK_S, MOST_TASK_S = 0.05, 0.5


def rows_for_task(waiting_rows: int, slots: int, unit_rows: int, seconds_per_row: float | None) -> int:
    """Return how many of the rows that wait the next task gets at most.

    Each task gets a part of what is left for each slot, so parts become smaller towards the end and all slots
    end at about the same time (guided self-scheduling: Polychronopoulos and Kuck, 1987).

    Args:
        waiting_rows: rows that wait now.
        slots: tasks of the stage that may run at a time.
        unit_rows: the answer is a multiple of this.
        seconds_per_row: measured time of a row; None: no task has ended yet, so the first ones are small.

    Example:
        >>> rows_for_task(100, slots=2, unit_rows=1, seconds_per_row=0.02)
        25
    """
    if seconds_per_row is None:
        return unit_rows
    a_row = max(seconds_per_row, 1e-9)
    rows = min(max(waiting_rows / (2 * slots), LEAST_TASK_S / a_row), MOST_TASK_S / a_row)
    return max(1, math.ceil(rows / unit_rows)) * unit_rows


def rows_for_next(state: StageState, cpus: float) -> int | None:
    """Return the rows after which the next bundle of a stage is cut; None: it is not cut.

    Args:
        state: of the stage.
        cpus: that all stages may use.
    """
    spec = state.spec
    if not spec.unit_rows:
        return None
    if spec.pool is not None:
        slots = len(state.replicas) * spec.pool.max_concurrency
    else:
        slots = int(cpus / max(spec.cpus, 0.01))
        slots = min(slots, spec.max_tasks or slots)
    return rows_for_task(state.inbox.rows, max(1, slots), spec.unit_rows, state.seconds_per_row)
