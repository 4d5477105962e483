"""Polls for a moment before a waiting thread blocks.

A process that sleeps has to be woken, which takes longer than most replies of this runtime: 25 to 50
microseconds on a virtual machine, twice for each call. So a waiting thread polls for 50 us before it blocks.
That pays only while replies are fast, and it must not take a core from processes that have work to do. So
after polls that found nothing, the thread blocks at once in the next wait, then in the next three, seven, and
so on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from skate._base.clock import perf_counter

#: After polls that found nothing, at most this many waits in a row block at once.
MAX_SKIPPED_POLLS = 256


class Spin:
    """Decides whether a wait begins with polls, and polls. One thread at a time."""

    __slots__ = ("seconds", "polls_to_skip", "_last")

    def __init__(self, seconds: float) -> None:
        #: How long to poll; 0: never. On one CPU, the process that is awaited needs it.
        self.seconds = seconds if len(os.sched_getaffinity(0)) > 1 else 0.0
        #: How many of the next waits block at once; below zero: all.
        self.polls_to_skip = 0 if self.seconds else -1
        self._last = 0

    def look(self, poll: Callable[[int], Sequence[Any]]) -> Sequence[Any]:
        """Call ``poll(0)`` until it finds something or the time is up; return what it found.

        Return nothing, at once, if this wait is one that skips the polls.
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
