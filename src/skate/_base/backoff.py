"""When to try something again that failed, and when to stop trying. Decisions only: the time is passed in.

For what fails for a while and then works: a system call that lacks descriptors or memory, a connection that
ended although nobody certified the end of the process behind it. The pauses grow, so that nothing spins.
"""

from __future__ import annotations

#: Pauses between two attempts (seconds): the first, and the longest.
FIRST_PAUSE = 0.01
LONGEST_PAUSE = 0.25
#: Attempts end after this time (seconds): whoever waits gets an error that says why. Short, since a call
#: that is known to be stuck helps nobody, and long enough for a burst of files or connections to pass.
PATIENCE = 3.0
#: What went well for so long works again (seconds).
QUIET = 1.0


class Backoff:
    """The attempts at one thing."""

    def __init__(self, now: float, patience: float = PATIENCE) -> None:
        self._until = now + patience
        self._failed = now
        self._pause = 0.0

    def again(self, now: float) -> float | None:
        """An attempt failed at ``now`` (seconds). Return how long to wait before the next one; None: give
        up."""
        self._failed = now
        if now >= self._until:
            return None
        self._pause = min(max(FIRST_PAUSE, 2 * self._pause), LONGEST_PAUSE)
        return self._pause

    def stale(self, now: float) -> bool:
        """Tell whether the last failure is so long ago that a new series begins."""
        return now > self._failed + QUIET
