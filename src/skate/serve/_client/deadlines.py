"""One timer for the deadlines of all requests that wait in one place."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Deadlines:
    """A timer for the earliest deadline; on the loop.

    Args:
        loop: where it is used; deadlines are times of its clock (seconds).
        passed: called when the earliest one has passed; returns the earliest of those that still matter, or
            0 for none.

    A deadline whose request was sent or cancelled meanwhile costs one call of ``passed``, at most.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, passed: Callable[[], float]) -> None:
        self._loop = loop
        self._passed = passed
        self._timer: asyncio.TimerHandle | None = None

    def add(self, deadline: float) -> None:
        """Note the deadline of one more request; 0: it has none."""
        if not deadline or (self._timer is not None and self._timer.when() <= deadline):
            return
        self.close()
        self._timer = self._loop.call_at(deadline, self._due)

    def close(self) -> None:
        """Wait for nothing."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self) -> None:
        self._timer = None
        self.add(self._passed())
