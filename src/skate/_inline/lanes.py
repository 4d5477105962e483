"""Decides which calls of an actor begin: in order of arrival, up to a limit at a time. Decisions only.

Each concurrency group has a limit of its own; the group "" is for all other methods. No call begins before
the constructor has returned, and none after ``close``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Generic, NamedTuple, TypeVar

Key = tuple[bytes, int]
"""A call: owner and seq."""

T = TypeVar("T")


class LaneRow(NamedTuple):
    """The calls of one group at this moment."""

    slots: int
    running: tuple[Key, ...]
    queued: tuple[Key, ...]


class Lanes(Generic[T]):
    """The queued and running calls of an actor, by group. ``T``: the caller's type for a call."""

    def __init__(self, limits: Mapping[str, int]) -> None:
        self._limits = dict(limits)
        self._queued: dict[str, deque[tuple[Key, T]]] = {group: deque() for group in limits}
        self._running: dict[str, dict[Key, T]] = {group: {} for group in limits}
        self._open = False

    def arrive(self, key: Key, group: str, call: T) -> list[T]:
        """Add a call that arrived; return the calls that begin now.

        Raises:
            KeyError: there is no such group.
        """
        self._queued[group].append((key, call))
        return self._begin(group)

    def opened(self) -> list[T]:
        """Note that the constructor has returned; return the calls that begin now."""
        self._open = True
        return [call for group in self._limits for call in self._begin(group)]

    def ended(self, key: Key) -> list[T]:
        """Remove a call that ended; return the calls that begin in its place."""
        for group, running in self._running.items():
            if running.pop(key, None) is not None:
                return self._begin(group)
        return []

    def withdraw(self, key: Key) -> T | None:
        """Remove a call that has not begun, and return it; None if there is none."""
        for queue in self._queued.values():
            for item in queue:
                if item[0] == key:
                    queue.remove(item)
                    return item[1]
        return None

    def close(self) -> list[T]:
        """Let no further call begin: forget the queued calls, and return the running ones."""
        self._open = False
        for queue in self._queued.values():
            queue.clear()
        return [call for running in self._running.values() for call in running.values()]

    def running(self, key: Key) -> T | None:
        """Return a call that has begun and not ended."""
        for running in self._running.values():
            if key in running:
                return running[key]
        return None

    def rows(self) -> list[LaneRow]:
        """Return a row for every group."""
        return [
            LaneRow(limit, tuple(self._running[group]), tuple(key for key, _ in self._queued[group]))
            for group, limit in self._limits.items()
        ]

    def _begin(self, group: str) -> list[T]:
        begun: list[T] = []
        queue, running = self._queued[group], self._running[group]
        while self._open and queue and len(running) < self._limits[group]:
            key, call = queue.popleft()
            running[key] = call
            begun.append(call)
        return begun
