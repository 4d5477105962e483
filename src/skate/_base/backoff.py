"""Decides when a failed attempt is repeated, and when attempts stop. Decisions only: the time is passed in.

It serves calls that fail for a while and then work: a system call that lacks descriptors or memory, a
connection that ended although no exit report of the process behind it has come. The delays grow, so that no
process spins.
"""

from __future__ import annotations

#: Delays between two attempts: the first one and the longest one (seconds).
FIRST_DELAY_S = 0.01
MAX_DELAY_S = 0.25
#: Attempts end after this time (seconds), and the waiting call raises an error that says why. The time is
#: short, since a call that is known to be stuck helps nobody, and long enough for a burst of files or
#: connections to pass.
RETRY_TIMEOUT_S = 3.0
#: After so long without a failure a new series of attempts begins (seconds).
QUIET_S = 1.0


class Backoff:
    """Counts the attempts at one operation."""

    def __init__(self, now: float, patience: float = RETRY_TIMEOUT_S) -> None:
        self._until = now + patience
        self._failed = now
        self._delay = 0.0

    def again(self, now: float) -> float | None:
        """Record that an attempt failed at ``now`` (seconds). Return the delay before the next one; None:
        give up."""
        self._failed = now
        if now >= self._until:
            return None
        self._delay = min(max(FIRST_DELAY_S, 2 * self._delay), MAX_DELAY_S)
        return self._delay

    def stale(self, now: float) -> bool:
        """Tell whether the last failure is so long ago that a new series begins."""
        return now > self._failed + QUIET_S
