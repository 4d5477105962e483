"""How many calls of each function and method are through, and how: exact, whatever is remembered of them.
Decisions only.

A call counts where it was made, once, when it is through. The path of a call finds its tally in a dict of the
function or the actor's client, under the method's name; the first call finds none there and comes here.
Now and then the daemon is told what was counted, so that it is not gone with the process: then those dicts
are emptied, and the next call comes here again and says so by that. Counting costs an addition.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from skate._base.counts import MAX_NAMES, OTHERS, Key


class Tally:
    """The calls of one name."""

    __slots__ = ("name", "function", "kind", "finished", "failed")

    def __init__(self, name: str, function: str, kind: str) -> None:
        #: What its calls are called, and the function behind that (of a method: with its class).
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
        #: Since the daemon was told last: what may have changed, and the dicts that lead there.
        self._changed: dict[int, Tally] = {}
        self._shortcuts: list[dict[str, Tally]] = []

    def of(self, name: str, function: str, kind: str, shortcuts: dict[str, Tally] | None, key: str) -> Tally:
        """Return a tally to count a call in.

        Args:
            shortcuts: where the path of a call finds it from now on, under ``key``; None: nowhere.
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
        """Return rows of what may have changed, for the daemon; calls to come are told of the next time."""
        for shortcuts in self._shortcuts:
            shortcuts.clear()
        self._shortcuts.clear()
        rows = _rows(self._changed.values())
        self._changed.clear()
        return rows

    def rows(self) -> list[dict[str, Any]]:
        """Return what was counted."""
        return _rows(self._tallies.values())


def _rows(tallies: Iterable[Tally]) -> list[dict[str, Any]]:
    return [
        {"name": one.name, "function": one.function, "type": one.kind,
         "FINISHED": one.finished, "FAILED": one.failed}
        for one in tallies
    ]  # fmt: skip
