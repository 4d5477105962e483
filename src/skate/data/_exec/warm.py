"""Replicas that stay for another execution."""

from __future__ import annotations

import threading
from typing import Any

from skate import api


class WarmReplicas:
    """Keeps replicas for another execution with the same operators; one for each process that uses data."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[tuple[Any, ...], list[tuple[Any, threading.Timer]]] = {}

    def keep(self, key: tuple[Any, ...], handle: Any, seconds: float) -> None:
        """Keep an idle replica for some seconds, then end it."""
        timer = threading.Timer(seconds, self._expire, (key, handle))
        timer.daemon = True
        with self._lock:
            self._kept.setdefault(key, []).append((handle, timer))
        timer.start()

    def take(self, key: tuple[Any, ...]) -> Any:
        """Remove a replica and return it, or None."""
        with self._lock:
            found = self._kept.get(key)
            if not found:
                return None
            handle, timer = found.pop()
            if not found:
                del self._kept[key]
        timer.cancel()
        return handle

    def counts(self) -> dict[str, int]:
        """Return the number of warm replicas by the name of their stage."""
        with self._lock:
            counts: dict[str, int] = {}
            for key, kept in self._kept.items():
                counts[key[0]] = counts.get(key[0], 0) + len(kept)
            return counts

    def clear(self) -> None:
        """End all of them."""
        with self._lock:
            kept, self._kept = self._kept, {}
        for replicas in kept.values():
            for handle, timer in replicas:
                timer.cancel()
                kill_quietly(handle)

    def _expire(self, key: tuple[Any, ...], handle: Any) -> None:
        with self._lock:
            found = self._kept.get(key, [])
            left = [one for one in found if one[0] is not handle]
            if len(left) == len(found):
                return
            if left:
                self._kept[key] = left
            else:
                del self._kept[key]
        kill_quietly(handle)


def kill_quietly(handle: Any) -> None:
    try:
        if api.is_initialized():
            api.kill(handle)
    except Exception:
        pass  # of a session that has ended


warm = WarmReplicas()
