"""Notices that user code blocks the replica's loop, and says where: the loop itself cannot."""

from __future__ import annotations

import asyncio
import sys
import threading
from asyncio.base_events import BaseEventLoop
from collections.abc import Callable
from types import FrameType

from skate.serve._observing.frames import place_in

#: The loop is blocked if it does nothing for this time (seconds).
_BLOCKED_S = 1.0
#: A loop that waits for events does so in a call of ``select`` by this code. User code has frames between.
_STEP = BaseEventLoop._run_once.__code__  # type: ignore[attr-defined]


def is_idle(frame: FrameType | None) -> bool:
    """Tell whether a loop waits for events, and nothing else runs on its thread.

    Args:
        frame: the innermost one of the thread.
    """
    if frame is None or frame.f_code.co_name != "select":
        return False
    return frame.f_back is not None and frame.f_back.f_code is _STEP


class LoopWatch:
    """A thread that looks each second whether the loop is idle, and asks it for a sign of life if not.

    An idle loop is not woken: its process does nothing else. A loop of another kind than asyncio's is asked
    each time.

    Args:
        loop: of the calling thread.
        changed: called on the watch's thread with the place where the loop is blocked, and with "" when it
            goes on.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, changed: Callable[[str], object]) -> None:
        self._loop = loop
        self._thread_of_loop = threading.get_ident()
        self._changed = changed
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="skate-serve-watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Watch no more."""
        self._closed.set()

    def _frame(self) -> FrameType | None:
        return sys._current_frames().get(self._thread_of_loop)

    def _run(self) -> None:
        while not self._closed.wait(_BLOCKED_S):
            if is_idle(self._frame()):
                continue
            alive = threading.Event()
            try:
                self._loop.call_soon_threadsafe(alive.set)
            except RuntimeError:
                return  # the loop has ended
            if alive.wait(_BLOCKED_S):
                continue
            frame = self._frame()
            if frame is None:
                return
            self._changed(place_in(frame))
            del frame
            alive.wait()
            self._changed("")
