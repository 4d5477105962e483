"""Replicas that stay for another execution."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from skate import api
from skate.runtime_context import get_runtime_context


@dataclass(eq=False, slots=True)
class _Kept:
    """An idle replica; without a timer it stays until it is released."""

    handle: Any
    seconds: float
    timer: threading.Timer | None = None


class WarmReplicas:
    """Keeps replicas for another execution with the same operators; one for each process that uses data.

    A key begins with the name of the stage and ends with the session.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[tuple[Any, ...], list[_Kept]] = {}
        self._holders = 0

    @property
    def is_holding(self) -> bool:
        """Whether replicas stay without limit of time."""
        return self._holders > 0

    def hold(self) -> None:
        """Keep all replicas until ``release`` is called as often."""
        with self._lock:
            self._holders += 1
            for one in self._all():
                if one.timer is not None:
                    one.timer.cancel()
                    one.timer = None

    def release(self) -> None:
        """Let replicas stay for their seconds from now, unless somebody else holds them."""
        with self._lock:
            self._holders -= 1
            if not self._holders:
                for key, kept in self._kept.items():
                    for one in kept:
                        self._start(key, one)

    def keep(self, key: tuple[Any, ...], handle: Any, seconds: float) -> None:
        """Keep an idle replica for some seconds, then end it; longer while replicas are held."""
        one = _Kept(handle, seconds)
        with self._lock:
            self._kept.setdefault(key, []).append(one)
            if not self._holders:
                self._start(key, one)

    def _start(self, key: tuple[Any, ...], one: _Kept) -> None:
        one.timer = threading.Timer(one.seconds, self._expire, (key, one))
        one.timer.daemon = True
        one.timer.start()

    def _all(self) -> Iterator[_Kept]:
        for kept in self._kept.values():
            yield from kept

    def take(self, key: tuple[Any, ...]) -> Any:
        """Remove a replica and return it, or None."""
        with self._lock:
            found = self._kept.get(key)
            if not found:
                return None
            one = found.pop()
            if not found:
                del self._kept[key]
        if one.timer is not None:
            one.timer.cancel()
        return one.handle

    def counts(self, session: str | None = None) -> dict[str, int]:
        """Return the number of warm replicas by the name of their stage; None: of all sessions."""
        with self._lock:
            counts: dict[str, int] = {}
            for key, kept in self._kept.items():
                if session is None or key[-1] == session:
                    counts[key[0]] = counts.get(key[0], 0) + len(kept)
            return counts

    def clear(self, name: str | None = None) -> int:
        """End all of them, or those of the stages of a name; return how many those were."""
        with self._lock:
            keys = [key for key in self._kept if name is None or key[0] == name]
            ended = [one for key in keys for one in self._kept.pop(key)]
        for one in ended:
            if one.timer is not None:
                one.timer.cancel()
            kill_quietly(one.handle)
        return len(ended)

    def _expire(self, key: tuple[Any, ...], one: _Kept) -> None:
        with self._lock:
            found = self._kept.get(key, [])
            if one not in found or one.timer is None:
                return  # it was taken, or is held now
            found.remove(one)
            if not found:
                del self._kept[key]
        kill_quietly(one.handle)


def session() -> str:
    """Return an id of the session that this process is in: an ended one has no replicas any more."""
    return get_runtime_context().get_worker_id()


def kill_quietly(handle: Any) -> None:
    """End a replica, unless its session has ended before."""
    try:
        if api.is_initialized():
            api.kill(handle)
    except Exception:
        pass  # of a session that has ended


warm = WarmReplicas()
