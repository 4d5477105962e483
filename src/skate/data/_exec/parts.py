"""Follows the rows of each part of a source to the sink, for writes that can be resumed. Decisions only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from skate.data._exec.commands import PartDone


@dataclass(slots=True)
class _Part:
    """The rows of a part of the source, below it.

    Attributes:
        live_rows: rows that wait for a task or are in one.
        is_read: the part's own task has ended.
        results: what the sink's tasks returned.
    """

    live_rows: int = 0
    is_read: bool = False
    results: list[Any] = field(default_factory=list)


class Parts:
    """Counts the rows of each part that are under way.

    Args:
        is_needed: False: nothing is followed, and every method does nothing.
    """

    def __init__(self, is_needed: bool) -> None:
        self._is_needed = is_needed
        self._parts: dict[str, _Part] = {}

    def _of(self, name: str) -> _Part:
        return self._parts.setdefault(name, _Part())

    def passed_on(self, name: str, rows: int) -> None:
        """Count rows that were put before another stage."""
        if self._is_needed:
            self._of(name).live_rows += rows

    def written(self, name: str, result: Any) -> None:
        """Keep what a task of the sink returned."""
        if self._is_needed:
            self._of(name).results.append(result)

    def task_ended(self, name: str, rows: int, was_read: bool) -> list[PartDone]:
        """Count a task's input off. Return a command if all rows of the part are through.

        Args:
            name: of the part.
            rows: rows of the task's input.
            was_read: the task read the part.
        """
        if not self._is_needed:
            return []
        part = self._of(name)
        part.is_read |= was_read
        part.live_rows -= rows
        if not part.is_read or part.live_rows:
            return []
        del self._parts[name]
        return [PartDone(name, tuple(part.results))]
