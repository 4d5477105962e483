"""What a pool works on: jobs, in chunks of calls; and how many chunks a worker may have at a time."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any, Protocol

#: A worker has chunks of a function known to be short for this many seconds, so many at most.
_AHEAD_S = 0.004
_MAX_AHEAD = 32
#: What is taken for the duration (seconds) of chunks that could not be run.
_CAREFUL_S = 1.0
#: Functions whose durations are remembered.
_MAX_FUNCTIONS = 64


class Job(Protocol):
    """Whose chunks these are."""

    token: int
    form: int
    #: What its chunks call.
    function: Any

    def argument(self) -> Any:
        """Return what a worker is sent as the function."""

    def deliver(self, index: int, results: list[Any], failed: tuple[int, ...]) -> None:
        """A chunk is done. Called under the crew's lock."""

    def call_back(self) -> None:
        """Run the callbacks. Called on the background thread, after ``Crew.have_called_back``."""


class Chunk:
    """Calls that a worker makes in one go."""

    __slots__ = ("job", "index", "items")

    def __init__(self, job: Job, index: int, items: Sequence[Any]) -> None:
        self.job = job
        self.index = index
        self.items = items


class Paces:
    """How long the chunks of a function take. Decisions only.

    A worker that is busy for long must not have a second chunk: another worker may be free before,
    and what is behind may be what the first waits for. So chunks of a function are sent one by one
    until it is known to be short.
    """

    def __init__(self) -> None:
        #: By id of a function: itself, if it lives, and the seconds to count on.
        self._known: dict[int, tuple[weakref.ref[Any], float]] = {}

    def _seconds(self, function: Any) -> float | None:
        known = self._known.get(id(function))
        return known[1] if known is not None and known[0]() is function else None

    def depth(self, function: Any) -> int:
        """Return how many chunks of calls of a function a worker may have at a time."""
        seconds = self._seconds(function)
        if seconds is None:
            return 1
        return max(1, min(_MAX_AHEAD, int(_AHEAD_S / max(seconds, 1e-6))))

    def note(self, function: Any, seconds: float) -> None:
        """A chunk took that long."""
        before = self._seconds(function)
        if before is not None:
            # One long chunk is enough for being careful; short ones bring confidence back.
            seconds = max(seconds, 0.8 * before + 0.2 * seconds)
        elif len(self._known) >= _MAX_FUNCTIONS:
            del self._known[next(iter(self._known))]
        try:
            self._known[id(function)] = (weakref.ref(function), seconds)
        except TypeError:
            pass  # of a type that knows no weak references: it stays unknown

    def distrust(self, function: Any) -> None:
        """Chunks that travelled together failed together: send them one by one for a while."""
        self.note(function, _CAREFUL_S)
