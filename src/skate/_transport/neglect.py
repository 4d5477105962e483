"""Whether a loop that watches a reactor's descriptor neglects it, as user code blocks the loop.

The background thread asks. It must not poll the sockets beside the loop: it would wake at each message too,
take some of them itself, and hand them to the loop, which costs two switches between threads and the
interpreter's lock. So it looks a few hundred times a second while there is traffic, and sleeps in a poll of
its own when there is none.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Sized

#: Between two looks while there is traffic (seconds).
TICK_S = 0.004
#: After so many looks that found nothing, there is no traffic.
_QUIET_LOOKS = 25
#: The loop neglects what so many looks in a row find.
_LOOKS = 2


class Neglect:
    """Looks at what a loop is to do. On the background thread.

    Args:
        fd: returns the descriptor that the loop watches.
        queued: what is to be sent.
        sleep: sleeps for so many seconds, or less.
    """

    def __init__(self, fd: Callable[[], int], queued: Sized, sleep: Callable[[float], None]) -> None:
        self._fd = fd
        self._queued = queued
        self._sleep = sleep
        self._poll: select.poll | None = None
        #: The next look comes soon, and finds what was queued meanwhile; else only the descriptor wakes it.
        self.is_ticking = False
        self._entered = -1
        self._found = 0
        self._quiet = 0

    def looked(self, entered: int, longest_s: float) -> bool:
        """Sleep, look, and tell whether something lies there for so long that the loop must be blocked.

        Args:
            entered: how often a thread has taken turns, or has come to, up to now.
            longest_s: when this is to return at the latest, more or less (seconds).
        """
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(self._fd(), select.POLLIN)
        self.is_ticking = self._quiet < _QUIET_LOOKS
        if self.is_ticking:
            self._sleep(min(TICK_S, longest_s))
            found = bool(self._queued or self._poll.poll(0))
        else:
            found = bool(self._queued or self._poll.poll(longest_s * 1000))
        if not found:
            self._quiet += 1
            self._found = 0
            return False
        self._quiet = 0
        self._found = self._found + 1 if entered == self._entered else 1
        self._entered = entered
        if self._found < _LOOKS:
            return False
        self._found = 0
        return True
