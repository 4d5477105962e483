"""The requests that wait in a router, in lines. Decisions only: no I/O, no clock.

Requests of one line take credits of the same replicas. Each line has the order of arrival, and the oldest of
the heads of all lines goes first. In the plain case there is one line.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

Key = Hashable
Ranks = tuple[tuple[str, ...], ...]
"""Replicas: one of the first group that has a credit is taken."""


class Line:
    """Requests that take credits of the same replicas.

    Args:
        ranks: the replicas; None: any.
        session: whose replica they wait for; "": none.
        model: that they are for; "": none.
    """

    __slots__ = ("ranks", "session", "model", "keys", "pressed")

    def __init__(self, ranks: Ranks | None = None, session: str = "", model: str = "") -> None:
        self.ranks = ranks
        self.session = session
        self.model = model
        #: The requests in their order, with their numbers.
        self.keys: dict[Key, int] = {}
        #: Requests up to this number have waited for long.
        self.pressed = 0

    @property
    def first(self) -> int:
        """The number of the oldest request."""
        return next(iter(self.keys.values()))

    @property
    def is_pressed(self) -> bool:
        """Whether the oldest request has waited for long."""
        return self.first <= self.pressed

    def put(self, key: Key, number: int) -> None:
        """Add a request."""
        is_last = not self.keys or number > next(reversed(self.keys.values()))
        self.keys[key] = number
        if not is_last:
            self.keys = dict(sorted(self.keys.items(), key=lambda pair: pair[1]))


class Queued(NamedTuple):
    """A request that waits: its deadline (0: none), and where it stands."""

    deadline: float
    line: Line


class Lines:
    """All requests that wait."""

    def __init__(self) -> None:
        #: The oldest first.
        self.queue: dict[Key, Queued] = {}
        #: Those that take any credit.
        self.any = Line()
        #: Those that were in other lines and take any credit now.
        self.loose = Line()
        #: Those that a custom request router has not chosen for.
        self.undecided = Line(())
        #: The lines that are not empty, but for ``any``.
        self.others: set[Line] = set()
        #: Those of them that wait for a model.
        self.models: dict[str, Line] = {}
        #: How many requests wait for the replica of their session.
        self.patient = 0
        #: Requests have the numbers between these two.
        self._before, self._last = 0, 0

    @property
    def next_deadline(self) -> float:
        """The earliest deadline; 0: none has one."""
        return min((one.deadline for one in self.queue.values() if one.deadline), default=0.0)

    def join(self, key: Key, line: Line, deadline: float) -> None:
        """A request came to a line."""
        self._last += 1
        self.queue[key] = Queued(deadline, line)
        self._put(key, line, self._last)

    def come_first(self, key: Key, deadline: float) -> None:
        """A request is to go before all others."""
        self._before -= 1
        self.queue = {key: Queued(deadline, self.loose), **self.queue}
        self._put(key, self.loose, self._before)

    def move(self, key: Key, line: Line) -> None:
        """A request changes its line and keeps its place."""
        deadline, old = self.queue[key]
        number = self._take(key, old)
        self.queue[key] = Queued(deadline, line)
        self._put(key, line, number)

    def leave(self, key: Key) -> Line:
        """A request waits no more; return its line."""
        line = self.queue.pop(key).line
        self._take(key, line)
        return line

    def heads(self) -> list[Line]:
        """Return the lines that are not empty, that of the oldest request first."""
        lines = [*self.others, self.any] if self.any.keys else [*self.others]
        return sorted(lines, key=lambda line: line.first)

    def wants(self) -> tuple[int, dict[str, int]]:
        """Return how many requests wait that may go to every replica, and how many to some, by replica."""
        everywhere = len(self.any.keys)
        ranked: dict[str, int] = {}
        for line in self.others:
            count = len(line.keys)
            if line.ranks is None or line is self.undecided:
                everywhere += count
                continue
            for name in {name for rank in line.ranks for name in rank}:
                ranked[name] = ranked.get(name, 0) + count
        return everywhere, ranked

    def _put(self, key: Key, line: Line, number: int) -> None:
        line.put(key, number)
        if line is not self.any:
            self.others.add(line)
        if line.session:
            self.patient += 1
        if line.model:
            self.models[line.model] = line

    def _take(self, key: Key, line: Line) -> int:
        number = line.keys.pop(key)
        if line.session:
            self.patient -= 1
        if not line.keys:
            self.others.discard(line)
            if line.model:
                del self.models[line.model]
        return number
