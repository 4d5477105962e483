"""Splits the time of a process by what it was spent on; the parts add up to all of it. Pure.

::

    replica   |loading|running      |other|blocked |waiting  |     from its start to its end
    worker    |loading|reading|running     |other  |waiting  |     from its first task on
    program   |loading|reading|running|other|consuming|waiting     the whole execution
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class TimeShares:
    """The parts of a time, by what it was spent on; they add up to 1.

    Attributes:
        loading: starting a process, making instances of the user's classes.
        reading: reading files.
        running: functions, expressions, sorting and the like.
        other: conversions, moving of blocks, the runtime.
        consuming: the program, with the rows that it had taken.
        blocked: handing output on, and waiting for somebody to take it.
        waiting: waiting for input, or for results.
    """

    loading: float = 0.0
    reading: float = 0.0
    running: float = 0.0
    other: float = 0.0
    consuming: float = 0.0
    blocked: float = 0.0
    waiting: float = 0.0

    @property
    def working(self) -> float:
        """The part in which something was done, without loading."""
        return self.reading + self.running + self.other

    def percentages(self) -> dict[str, int]:
        """Return whole numbers that add up to 100, in the order of the attributes, without zeros."""
        exact = {kind: getattr(self, kind) * 100 for kind in KINDS}
        whole = {kind: int(value) for kind, value in exact.items()}
        missing = round(sum(exact.values())) - sum(whole.values())
        for kind in sorted(KINDS, key=lambda one: whole[one] - exact[one])[: max(0, missing)]:
            whole[kind] += 1
        return {kind: number for kind, number in whole.items() if number}

    def as_data(self) -> dict[str, float]:
        """Return the parts by name."""
        return {kind: getattr(self, kind) for kind in KINDS}

    def as_text(self, **words: str) -> str:
        """Return the percentages in words.

        Args:
            words: other words than the common ones, by attribute.
        """
        shown = [f"{words.get(kind, _WORDS[kind])} {one}%" for kind, one in self.percentages().items()]
        return ", ".join(shown) or "nothing"


#: Names of the parts of a time, in the order in which they are shown.
KINDS = tuple(one.name for one in fields(TimeShares))
_WORDS = {
    "loading": "starting",
    "reading": "reading",
    "running": "running",
    "other": "overhead",
    "consuming": "using rows",
    "blocked": "handing output on",
    "waiting": "waiting for input",
}


def average(shares: Iterable[TimeShares]) -> TimeShares:
    """Return the shares of several processes together; of none, nothing."""
    found = list(shares)
    if not found:
        return TimeShares()
    return TimeShares(*(sum(getattr(one, kind) for one in found) / len(found) for kind in KINDS))


def split(
    spent: dict[str, float],
    under_way: float,
    life: float,
    loading: float,
    busy: float | None,
    consuming: float = 0.0,
) -> TimeShares:
    """Split a time by what was spent on what.

    Args:
        spent: seconds of tasks that have ended.
        under_way: seconds of one that has not.
        life: the time.
        loading: seconds before the first task.
        busy: seconds in which there was a task; less than those of all tasks together if several ran at a
            time. None: as much as they spent.
        consuming: seconds of the program.
    """
    if life <= 0:
        return TimeShares()
    loading = min(life, loading)
    consuming = min(life - loading, consuming)
    total = spent.get("total", 0.0)
    blocked = min(total, spent.get("blocked", 0.0))
    reading, running = spent.get("read", 0.0), spent.get("run", 0.0)
    parts = [reading, running, max(0.0, total - blocked - reading - running), blocked]
    sum_of_parts = sum(parts)
    left = max(0.0, life - loading - consuming)
    in_tasks = min(left, sum_of_parts if busy is None else busy)
    scale = in_tasks / sum_of_parts if sum_of_parts else 0.0
    reading, running, other, blocked = (part * scale / life for part in parts)
    under_way = min(under_way, max(0.0, left - in_tasks))
    used = loading + consuming + under_way + (in_tasks if sum_of_parts else 0.0)
    return TimeShares(
        loading / life,
        reading,
        running + under_way / life,
        other,
        consuming / life,
        blocked,
        max(0.0, life - used) / life,
    )
