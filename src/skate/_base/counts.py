"""Adds up the counts of calls that processes report in rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

#: The most names that are counted apart; calls of further names are counted together (count).
MAX_NAMES = 10_000
OTHERS = "(others)"

Key = tuple[str, str, str]
"""What calls are called, the function or method behind that, and NORMAL_TASK or ACTOR_TASK."""


def total(rows: Iterable[Mapping[str, Any]], into: dict[Key, list[int]]) -> None:
    """Add rows of one process to the numbers of calls that finished and that failed."""
    for row in rows:
        key: Key = (row["name"], row["function"], row["type"])
        if key not in into and len(into) >= MAX_NAMES:
            key = (OTHERS, OTHERS, row["type"])
        counts = into.setdefault(key, [0, 0])
        counts[0] += row["FINISHED"]
        counts[1] += row["FAILED"]
