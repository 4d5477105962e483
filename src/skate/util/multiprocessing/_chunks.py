"""Defines jobs and chunks of calls, and decides how many chunks a worker may have at a time."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any, Protocol

#: A worker is sent chunks of a short function for this many seconds, and at most this number.
_AHEAD_S = 0.004
_MAX_CHUNKS_AHEAD = 32
#: The assumed duration of chunks that could not be run.
_ASSUMED_S = 1.0
#: Functions whose durations are remembered.
_MAX_FUNCTIONS = 64


class Job(Protocol):
    """The calls of one function to which chunks belong."""

    token: int
    form: int
    #: The function that its chunks call.
    function: Any

    def argument(self) -> Any:
        """Return the function as it is sent to workers."""

    def deliver(self, index: int, results: list[Any], failed: tuple[int, ...]) -> None:
        """Take the results of a chunk. Called under the group's lock."""

    def call_back(self) -> None:
        """Run the callbacks. Called on the background thread, after ``WorkerGroup.have_called_back``."""


class Chunk:
    """Calls that a worker makes one after the other, with one report."""

    __slots__ = ("job", "index", "items")

    def __init__(self, job: Job, index: int, items: Sequence[Any]) -> None:
        self.job = job
        self.index = index
        self.items = items


class Paces:
    """Records how long the chunks of functions take. Decisions only.

    A worker that is busy for long must not have a second chunk: another worker may be free before, and
    the first chunk may wait for the second. So chunks of a function are sent one by one until it is
    known to be short.
    """

    def __init__(self) -> None:
        #: By id of a function: a weak reference to it, and the expected seconds.
        self._known: dict[int, tuple[weakref.ref[Any], float]] = {}

    def _seconds(self, function: Any) -> float | None:
        known = self._known.get(id(function))
        return known[1] if known is not None and known[0]() is function else None

    def depth(self, function: Any) -> int:
        """Return how many chunks of calls of a function a worker may have at a time."""
        seconds = self._seconds(function)
        if seconds is None:
            return 1
        return max(1, min(_MAX_CHUNKS_AHEAD, int(_AHEAD_S / max(seconds, 1e-6))))

    def note(self, function: Any, seconds: float) -> None:
        """Record the duration of a chunk."""
        before = self._seconds(function)
        if before is not None:
            # One long chunk raises the estimate at once; short ones lower it slowly.
            seconds = max(seconds, 0.8 * before + 0.2 * seconds)
        elif len(self._known) >= _MAX_FUNCTIONS:
            del self._known[next(iter(self._known))]
        try:
            self._known[id(function)] = (weakref.ref(function), seconds)
        except TypeError:
            pass  # its type allows no weak references: its duration stays unknown

    def distrust(self, function: Any) -> None:
        """Send the chunks of a function one by one for a while, as several failed together."""
        self.note(function, _ASSUMED_S)
