"""Passes the numbers that this process records on to Ray's metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any

Key = tuple[str, tuple[tuple[str, str], ...]]


class Forwarder:
    """Tells Ray what has changed since the last time.

    Args:
        rows: returns all numbers of this process: ``engine.metrics.registry.rows``.
        module: Ray's module ``ray.util.metrics``.
    """

    def __init__(self, rows: Callable[[], list[dict[str, Any]]], module: Any) -> None:
        self._rows = rows
        self._module = module
        self._lock = Lock()
        self._metrics: dict[str, Any] = {}
        #: Values that Ray has been given: of histograms, the observations and their sum.
        self._given: dict[Key, Any] = {}

    def forward(self) -> None:
        """Tell Ray what is new."""
        with self._lock:
            for row in self._rows():
                key = row["name"], tuple(sorted(row["tags"].items()))
                metric = self._metric(row)
                if row["kind"] == "counter":
                    more = row["value"] - self._given.get(key, 0.0)
                    if more > 0:
                        metric.inc(more, row["tags"])
                    self._given[key] = row["value"]
                elif row["kind"] == "gauge":
                    if self._given.get(key) != row["value"]:
                        metric.set(row["value"], row["tags"])
                    self._given[key] = row["value"]
                else:
                    self._observe(metric, key, row)

    def _observe(self, metric: Any, key: Key, row: Mapping[str, Any]) -> None:
        count, total = sum(row["counts"]), row["sum"]
        count_before, total_before = self._given.get(key, (0, 0.0))
        more = count - count_before
        for _ in range(more):
            # Called after each observation, it passes on the very value; after several, their mean.
            metric.observe((total - total_before) / more, row["tags"])
        self._given[key] = count, total

    def _metric(self, row: Mapping[str, Any]) -> Any:
        found = self._metrics.get(row["name"])
        if found is None:
            keys = tuple(sorted(row["tags"]))
            if row["kind"] == "histogram":
                found = self._module.Histogram(row["name"], row["description"], row["boundaries"], keys)
            else:
                kind = self._module.Counter if row["kind"] == "counter" else self._module.Gauge
                found = kind(row["name"], row["description"], keys)
            self._metrics[row["name"]] = found
        return found
