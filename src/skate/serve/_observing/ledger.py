"""Merges the metrics of processes so that no counter ever goes back. Decisions only.

A counter in the merged page is the sum over the living processes and over those that have ended. A replica's
last snapshot is taken while it leaves; of one that was killed the latest that anybody has seen counts on. A
process that does not answer counts with its latest snapshot, too.
"""

from __future__ import annotations

from collections.abc import Iterable

from skate.serve._observing.families import FAMILIES
from skate.serve._observing.metrics import Snapshot, Value


class Ledger:
    """The latest snapshots of processes, and the sum of those that have ended."""

    def __init__(self) -> None:
        self.living: dict[str, Snapshot] = {}
        self.ended_sum: Snapshot = {}

    def saw(self, process: str, snapshot: Snapshot) -> None:
        """A process has shown its series."""
        self.living[process] = snapshot

    def ended(self, process: str) -> None:
        """A process has ended: its counters stay in the sum, its gauges are gone."""
        last = self.living.pop(process, None)
        if last is not None:
            self.ended_sum = merged([self.ended_sum, _without_gauges(last)])

    def total(self) -> Snapshot:
        """Return the series of all."""
        return merged([self.ended_sum, *self.living.values()])


def merged(snapshots: Iterable[Snapshot]) -> Snapshot:
    """Return the sums of series by family and labels."""
    found: Snapshot = {}
    for snapshot in snapshots:
        for key, value in snapshot.items():
            before = found.get(key)
            found[key] = value if before is None else _sum(before, value)
    return found


def _sum(one: Value, other: Value) -> Value:
    if isinstance(one, tuple) and isinstance(other, tuple):
        return tuple(a + b for a, b in zip(one, other, strict=True))
    assert not isinstance(one, tuple)
    assert not isinstance(other, tuple)
    return one + other


def _without_gauges(snapshot: Snapshot) -> Snapshot:
    return {key: value for key, value in snapshot.items() if FAMILIES[key[0]].kind != "gauge"}
