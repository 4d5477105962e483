"""Counts finished and failed calls of each function and method, exactly. Decisions only.

A call counts in the process that made it, once, when it is finished. Its path finds the tally in a dict of
the function or the actor's client, under the method's name; the first call finds none there and comes here.
Now and then the process sends the counts to the daemon, so that they outlive it: then those dicts are
emptied, and the next call comes here again, which marks its tally as changed. Counting costs an addition.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from skate._base.counts import MAX_NAMES, OTHERS, Key


class Tally:
    """The calls of one name."""

    __slots__ = ("name", "function", "kind", "finished", "failed")

    def __init__(self, name: str, function: str, kind: str) -> None:
        #: The name of its calls, and the function behind that (of a method: with its class).
        self.name = name
        self.function = function
        #: NORMAL_TASK or ACTOR_TASK.
        self.kind = kind
        self.finished = 0
        self.failed = 0


class Tallies:
    """All tallies of one process."""

    def __init__(self) -> None:
        self._tallies: dict[Key, Tally] = {}
        #: Tallies that may have changed since the last snapshot, and the dicts that lead to them.
        self._changed: dict[int, Tally] = {}
        self._shortcuts: list[dict[str, Tally]] = []

    def of(self, name: str, function: str, kind: str, shortcuts: dict[str, Tally] | None, key: str) -> Tally:
        """Return a tally to count a call in.

        Args:
            name: of its calls.
            function: the function behind that.
            kind: NORMAL_TASK or ACTOR_TASK.
            shortcuts: the dict in which the path of a call finds it from now on; None: in none.
            key: its key there.
        """
        found = self._tallies.get((name, function, kind))
        if found is None:
            if len(self._tallies) >= MAX_NAMES:
                name = function = OTHERS
                shortcuts = None
                found = self._tallies.get((OTHERS, OTHERS, kind))
            if found is None:
                found = self._tallies[name, function, kind] = Tally(name, function, kind)
        self._changed[id(found)] = found
        if shortcuts is not None:
            if not shortcuts:
                self._shortcuts.append(shortcuts)
            shortcuts[key] = found
        return found

    def snapshot(self) -> list[dict[str, Any]]:
        """Return the tallies that may have changed since the last snapshot, as rows for the daemon."""
        for shortcuts in self._shortcuts:
            shortcuts.clear()
        self._shortcuts.clear()
        rows = _rows(self._changed.values())
        self._changed.clear()
        return rows

    def rows(self) -> list[dict[str, Any]]:
        """Return all tallies as rows."""
        return _rows(self._tallies.values())


def _rows(tallies: Iterable[Tally]) -> list[dict[str, Any]]:
    return [
        {"name": one.name, "function": one.function, "type": one.kind,
         "FINISHED": one.finished, "FAILED": one.failed}
        for one in tallies
    ]  # fmt: skip
