"""The measurements that user code of replicas records, for autoscaling policies. Decisions only: no I/O, no
clock."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from skate.serve.config import AggregationFunction


class TimeStampedValue(NamedTuple):
    """One measurement.

    Args:
        timestamp: when it came (seconds of the wall clock).
        value: as user code returned it.
    """

    timestamp: float
    value: float


Series = dict[str, dict[str, list[TimeStampedValue]]]
"""Measurements by the name of what was measured and the replica, in their order."""


class Measures:
    """The measurements of one deployment over its look-back period."""

    def __init__(self) -> None:
        self._found: Series = {}

    def recorded(self, replica: str, values: Mapping[str, float], period_s: float, now: float) -> None:
        """A replica recorded values by name.

        Args:
            replica: its id.
            values: by name.
            period_s: what is older is forgotten (seconds).
            now: seconds of the wall clock.
        """
        for name, value in values.items():
            known = self._found.setdefault(name, {}).get(replica, [])
            since = now - period_s
            kept = [one for one in known if one.timestamp > since]
            self._found[name][replica] = [*kept, TimeStampedValue(now, value)]

    def over(self, period_s: float, replicas: Collection[str], now: float) -> Series:
        """Return the measurements of a period that ends now. The latest of each replica is always there.

        Args:
            period_s: the period (seconds).
            replicas: those that run: what others recorded is forgotten.
            now: seconds of the wall clock.
        """
        since = now - period_s
        found: Series = {}
        for name, by_replica in self._found.items():
            for replica in replicas:
                if known := by_replica.get(replica):
                    kept = [one for one in known if one.timestamp > since] or known[-1:]
                    found.setdefault(name, {})[replica] = kept
        self._found = {name: dict(by_replica) for name, by_replica in found.items()}
        return found


def aggregated(series: Series, function: AggregationFunction | str) -> dict[str, dict[str, float]]:
    """Return one value for each series.

    Args:
        series: by name and replica; none is empty.
        function: the mean, the largest or the smallest.
    """
    return {
        name: {replica: _one([each.value for each in values], function) for replica, values in found.items()}
        for name, found in series.items()
    }


def _one(values: list[float], function: AggregationFunction | str) -> float:
    if function == AggregationFunction.MEAN:
        return sum(values) / len(values)
    return max(values) if function == AggregationFunction.MAX else min(values)
