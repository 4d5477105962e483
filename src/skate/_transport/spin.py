"""Looks a few times before going to sleep.

A process that sleeps has to be woken, which takes longer than most replies of this runtime: 25 to 50
microseconds on a virtual machine, twice for each call. So whoever waits looks for a moment first. That
pays only while replies are fast, and it must not take a core from those who have work to do: who looked
in vain sleeps at once the next time, and twice as often each time that happens again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from skate._base.clock import perf_counter

#: Waits that begin with sleep, after looks in vain: at most so many in a row.
MAX_SKIPPED_POLLS = 256


class Spin:
    """One waiter's habit of looking. One thread at a time."""

    __slots__ = ("seconds", "polls_to_skip", "_last")

    def __init__(self, seconds: float) -> None:
        #: How long a look takes; 0: never look. On one CPU, whoever is awaited needs it.
        self.seconds = seconds if len(os.sched_getaffinity(0)) > 1 else 0.0
        #: So many waits to come do not begin with a look.
        self.polls_to_skip = 0 if self.seconds else -1
        self._last = 0

    def look(self, poll: Callable[[int], Sequence[Any]]) -> Sequence[Any]:
        """Call ``poll(0)`` until it finds something or the time is up; return what it found.

        Nothing, at once, if this wait is one that is not to begin with a look.
        """
        if self.polls_to_skip:
            if self.polls_to_skip > 0:
                self.polls_to_skip -= 1
            return ()
        until = perf_counter() + self.seconds
        while perf_counter() < until:
            found = poll(0)
            if found:
                self._last = 0
                return found
        self.polls_to_skip = self._last = min(self._last * 2 + 1, MAX_SKIPPED_POLLS)
        return ()
