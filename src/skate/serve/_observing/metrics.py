"""Counters, histograms and their registry. Decisions only: plain numbers, no lock, no clock.

Each series is changed by one thread, the loop's, and read by others: a reader may be one request behind.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass

from skate.serve._observing.families import FAMILIES, Family

Labels = tuple[str, ...]
"""The values of a series' labels, in the order of its family."""
Value = int | float | tuple[int | float, ...]
"""Of a counter or gauge its number; of a histogram its sum, then the count of each bucket."""
Snapshot = dict[tuple[str, Labels], Value]
"""All series of a process: by family and labels."""


class Counter:
    """A number that grows."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: int | float = 0


class Histogram:
    """Counts of values in fixed buckets.

    Args:
        bounds: the upper ends of all buckets but the last, rising.
    """

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value; one at a bucket's upper end belongs to that bucket."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class Metrics:
    """The series of one process.

    Example:
        >>> metrics = Metrics()
        >>> metrics.counter("ray_serve_num_router_requests", "Model", "default").value += 1
    """

    def __init__(self) -> None:
        self._counters: dict[tuple[str, Labels], Counter] = {}
        self._histograms: dict[tuple[str, Labels], Histogram] = {}
        self._readers: list[Callable[[], Snapshot]] = []

    def counter(self, family: str, *labels: str) -> Counter:
        """Return a counter, the same for the same labels. Callers keep it where requests pass."""
        _check(family, labels, "counter")
        return self._counters.setdefault((family, labels), Counter())

    def histogram(self, family: str, *labels: str) -> Histogram:
        """Return a histogram, the same for the same labels."""
        bounds = _check(family, labels, "histogram").bounds
        return self._histograms.setdefault((family, labels), Histogram(bounds))

    def add_reader(self, read: Callable[[], Snapshot]) -> None:
        """Have a function asked for more series whenever somebody looks: gauges, and counters that are kept
        elsewhere. Any thread asks."""
        self._readers.append(read)

    def snapshot(self) -> Snapshot:
        """Return the present values. Any thread."""
        found: Snapshot = {key: one.value for key, one in list(self._counters.items())}
        for key, histogram in list(self._histograms.items()):
            found[key] = (histogram.sum, *histogram.counts)
        for read in list(self._readers):
            found.update(read())
        return found


@dataclass
class _Process:
    """The metrics of this process."""

    metrics: Metrics


this = _Process(Metrics())


def _check(family: str, labels: Labels, kind: str) -> Family:
    found = FAMILIES[family]
    if found.kind != kind or len(found.labels) != len(labels):
        raise TypeError(
            f"{family} is a {found.kind} with the labels {found.labels}, not a {kind} of {labels}"
        )
    return found
