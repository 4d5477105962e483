"""Watchers of actors, to whom the control store sends their states: a table without I/O.

A pair ends when either side does: the connection closes, or the actor is dead and this was published. Nothing
is kept of pairs that ended.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

W = TypeVar("W", bound=Hashable)
K = TypeVar("K", bound=Hashable)
V = TypeVar("V", bound=Hashable)


class Watchers(Generic[W]):
    """Pairs of an actor and a watcher, which is any hashable object."""

    def __init__(self) -> None:
        # Dicts keep the order: the first watcher is sent a state first.
        self._of_actor: dict[bytes, dict[W, None]] = {}
        self._actors: dict[W, dict[bytes, None]] = {}

    def __len__(self) -> int:
        """Return the number of actors and of watchers of which anything is kept."""
        return len(self._of_actor) + len(self._actors)

    def watch(self, actor: bytes, watcher: W) -> None:
        """Add a pair; a repetition changes nothing."""
        self._of_actor.setdefault(actor, {})[watcher] = None
        self._actors.setdefault(watcher, {})[actor] = None

    def of(self, actor: bytes) -> list[W]:
        """Return the watchers of an actor, the first one first."""
        return list(self._of_actor.get(actor, ()))

    def actor_ended(self, actor: bytes) -> None:
        """Remove all pairs of an actor."""
        for watcher in self._of_actor.pop(actor, ()):
            self._remove(self._actors, watcher, actor)

    def watcher_left(self, watcher: W) -> None:
        """Remove all pairs of a watcher."""
        for actor in self._actors.pop(watcher, ()):
            self._remove(self._of_actor, actor, watcher)

    @staticmethod
    def _remove(table: dict[K, dict[V, None]], key: K, value: V) -> None:
        left = table[key]
        del left[value]
        if not left:
            del table[key]
