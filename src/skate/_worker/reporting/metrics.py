"""Counters, gauges and histograms that the program records in this process. See ``skate.util.metrics``.

One registry a process, across its sessions. Recording changes numbers under the lock of the tables; the
process sends the absolute values to the daemon, a few times a second at most, so that they outlive it.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import Any

from skate._transport.table_lock import TableLock

Tags = tuple[tuple[str, str], ...]


class _Family:
    """One metric: its kind and description, and its value for each combination of tags."""

    __slots__ = ("kind", "description", "boundaries", "values")

    def __init__(self, kind: str, description: str, boundaries: Sequence[float]) -> None:
        self.kind = kind
        self.description = description
        self.boundaries = list(boundaries)
        #: Of histograms: observations in each bucket, their sum.
        self.values: dict[Tags, Any] = {}


class Registry:
    """All metrics of this process."""

    def __init__(self) -> None:
        #: Guards the numbers, and is held for nothing else.
        self._lock = TableLock()
        self._families: dict[str, _Family] = {}

    def declare(self, name: str, kind: str, description: str, boundaries: Sequence[float] = ()) -> None:
        """Add a metric, unless it is there already.

        Raises:
            ValueError: the name is taken by another kind, or with other boundaries.
        """
        with self._lock:
            family = self._families.get(name)
            if family is None:
                self._families[name] = _Family(kind, description, boundaries)
            elif family.kind != kind or family.boundaries != list(boundaries):
                raise ValueError(
                    f"the metric {name!r} is a {family.kind} already"
                    + (f" with boundaries {family.boundaries}" if family.boundaries else "")
                    + "; choose another name"
                )

    def add(self, name: str, tags: Tags, value: float) -> None:
        """Add to the value of a counter."""
        with self._lock:
            values = self._families[name].values
            values[tags] = values.get(tags, 0.0) + value

    def set(self, name: str, tags: Tags, value: float) -> None:
        """Set the value of a gauge."""
        with self._lock:
            self._families[name].values[tags] = value

    def observe(self, name: str, tags: Tags, value: float) -> None:
        """Add an observation to a histogram."""
        with self._lock:
            family = self._families[name]
            counts, total = family.values.get(tags) or ([0] * (len(family.boundaries) + 1), 0.0)
            counts[bisect.bisect_left(family.boundaries, value)] += 1
            family.values[tags] = (counts, total + value)

    def rows(self) -> list[dict[str, Any]]:
        """Return every value as plain data."""
        with self._lock:
            return [
                {
                    "name": name,
                    "kind": family.kind,
                    "description": family.description,
                    "tags": dict(tags),
                    **(
                        {"boundaries": family.boundaries, "counts": list(value[0]), "sum": value[1]}
                        if family.kind == "histogram"
                        else {"value": value}
                    ),
                }
                for name, family in self._families.items()
                for tags, value in family.values.items()
            ]


registry = Registry()
"""The metrics of this process. The copy in a forked child of user code is not used."""
