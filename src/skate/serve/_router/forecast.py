"""How long a request would wait in a router's queue. Decisions only: no I/O, no clock.

The queue's drain rate is measured where it matters: between two departures while requests wait. It forgets
old departures by their number, not by time, so that it means the same for services of a millisecond and of a
minute. While nothing departs, the rate falls.
"""

from __future__ import annotations

from collections import deque

#: The rate is that of about so many latest departures, or of two for each slot if these are more.
_DEPARTURES = 16
#: The median is that of so many latest requests; it is looked up anew when a quarter of them are new.
_SERVICES = 64


class Forecast:
    """The drain rate and the service times of one router's requests. Times are seconds of one clock.

    Example:
        >>> forecast.served(0.1)
        >>> forecast.wait_s(now=5.0, ahead=19, slots=2)
        1.0
    """

    def __init__(self) -> None:
        #: Departures, and the time in which they came; the older, the less each counts.
        self._departures = self._time = 0.0
        #: Of the latest departure, or of when the queue began; None: no request waits.
        self._since: float | None = None
        self._services: deque[float] = deque(maxlen=_SERVICES)
        self._median = self._enough = 0.0
        self._unsorted = 0

    @property
    def service_s(self) -> float:
        """The median time from sending a request to its end (seconds); 0: none has ended."""
        self._sort()
        return self._median

    @property
    def enough_s(self) -> float:
        """The time in which nine of ten requests end, but at most twice the median (seconds).

        With the median itself, a queue of requests that are all about to be late ends every second one in
        vain. Twice the median is the bound for services of which a few take very long.
        """
        self._sort()
        return self._enough

    def _sort(self) -> None:
        if 4 * self._unsorted >= len(self._services) > 0:
            ordered = sorted(self._services)
            self._median = ordered[len(ordered) // 2]
            self._enough = min(ordered[len(ordered) * 9 // 10], 2 * self._median)
            self._unsorted = 0

    def queued(self, ahead: int, now: float) -> None:
        """A request waits, behind so many."""
        if not ahead:
            self._since = now

    def sent(self, left: int, slots: int, now: float) -> None:
        """A request was sent, and so many still wait.

        Args:
            left: how many wait.
            slots: of all replicas.
            now: seconds.
        """
        if self._since is None:
            return  # it did not wait
        kept = 1 - 1 / max(_DEPARTURES, 2 * slots)
        self._departures = self._departures * kept + 1
        self._time = self._time * kept + now - self._since
        self._since = now if left else None

    def served(self, seconds: float) -> None:
        """A request has ended, so long after it was sent."""
        self._services.append(seconds)
        self._unsorted += 1

    def wait_s(self, ahead: int, slots: int, now: float) -> float | None:
        """Return how long a request would wait behind others (seconds); None: nothing is known.

        Args:
            ahead: how many wait.
            slots: of all replicas.
            now: seconds.
        """
        # Not faster than by all slots: the first of a burst leave at once, which says nothing of the rest.
        interval = self.service_s / max(slots, 1)
        elapsed = now - self._since if self._since is not None and ahead else 0.0
        if self._departures:
            measured = self._time / self._departures
            stalled = (self._time + elapsed) / (self._departures + 1)
            interval = max(interval, measured, stalled)
        if not interval:
            return None
        return ahead * interval + max(0.0, interval - elapsed)

    def too_long_s(self, ahead: int, slots: int, remaining: float, now: float) -> float | None:
        """Return how long a request would wait (seconds), if that is too long for its deadline; else None.

        Args:
            ahead: how many wait.
            slots: of all replicas.
            remaining: until its deadline (seconds).
            now: seconds.
        """
        if not ahead:  # one always waits: its end is what is learned from
            return None
        wait = self.wait_s(ahead, slots, now)
        return wait if wait is not None and wait > remaining - self.enough_s else None

    def is_hopeless(self, others: int, remaining: float) -> bool:
        """Tell whether a request that waited should give its turn to another.

        Args:
            others: how many would have no turn otherwise.
            remaining: until its deadline (seconds).
        """
        return remaining <= 0 or (others > 0 and remaining < self.enough_s)
