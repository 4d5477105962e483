"""The live view: what happened between two looks at serve. Decisions only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from skate.serve._observing.families import FAMILIES
from skate.serve._observing.ledger import merged
from skate.serve._observing.metrics import Labels, Snapshot

_LATENCY = "ray_serve_deployment_processing_latency_ms"
_BATCH = "ray_serve_actual_batch_size"


@dataclass(frozen=True)
class Row:
    """A deployment, or one replica of it.

    Args:
        application, deployment: which.
        replica: which of its replicas; "": all of them.
        rate: requests that ended a second.
        p50_ms, p99_ms: of the time in its code; None: none ended.
        ongoing: requests in it now.
        queued: requests that wait for it now, in all processes of serve; None in the row of a replica.
        batch: mean size of the batches; None: none ran.
    """

    application: str
    deployment: str
    replica: str
    rate: float
    p50_ms: float | None
    p99_ms: float | None
    ongoing: int
    queued: int | None
    batch: float | None


def rows(before: Mapping[str, Snapshot], now: Mapping[str, Snapshot], seconds: float) -> list[Row]:
    """Return the rows of all deployments, each with those of its replicas below it.

    Args:
        before, now: the series of each process at the two looks.
        seconds: between them.
    """
    replicas: dict[tuple[str, str], list[str]] = {}
    for snapshot in now.values():
        for name, labels in snapshot:
            if name == "ray_serve_replica_processing_queries":
                replicas.setdefault((labels[1], labels[0]), []).append(labels[2])
    found = []
    everything = merged(now.values())
    for (application, deployment), names in sorted(replicas.items()):
        labels = (deployment, application)
        changes = [_change(before.get(one, {}), now.get(one, {})) for one in sorted(names)]
        queued = _total(everything, "ray_serve_deployment_queued_queries", labels)
        found.append(_row(labels, "", merged(changes), everything, seconds, int(queued)))
        found += [
            _row(labels, name, change, now.get(name, {}), seconds, None)
            for name, change in zip(sorted(names), changes, strict=True)
        ]
    return found


def _row(
    labels: Labels, replica: str, change: Snapshot, now: Snapshot, seconds: float, queued: int | None
) -> Row:
    latency = _histogram(change, _LATENCY, labels)
    bounds = FAMILIES[_LATENCY].bounds
    batches = _histogram(change, _BATCH, labels)
    return Row(
        labels[1],
        labels[0],
        replica,
        sum(latency[1:]) / seconds if seconds > 0 else 0.0,
        quantile(bounds, latency[1:], 0.5),
        quantile(bounds, latency[1:], 0.99),
        int(_total(now, "ray_serve_replica_processing_queries", labels)),
        queued,
        batches[0] / sum(batches[1:]) if sum(batches[1:]) else None,
    )


def quantile(bounds: Sequence[float], counts: Sequence[float], share: float) -> float | None:
    """Return a quantile of a histogram, straight between the ends of its bucket; None: it is empty.

    Example:
        >>> quantile((10.0, 20.0), [0, 4, 0], 0.5)
        15.0
    """
    wanted = sum(counts) * share
    if not wanted:
        return None
    low = so_far = 0.0
    for end, count in zip(bounds, counts, strict=False):
        if count and so_far + count >= wanted:
            return low + (end - low) * (wanted - so_far) / count
        so_far += count
        low = end
    return low


def _change(before: Snapshot, now: Snapshot) -> Snapshot:
    """Return how much counters and histograms have grown."""
    found: Snapshot = {}
    for key, value in now.items():
        old = before.get(key)
        if isinstance(value, tuple):
            found[key] = (
                tuple(new - was for new, was in zip(value, old, strict=True))
                if isinstance(old, tuple)
                else value
            )
        elif FAMILIES[key[0]].kind == "counter":
            found[key] = value - (old if isinstance(old, int | float) else 0)
    return found


def _histogram(series: Snapshot, family: str, labels: Labels) -> tuple[float, ...]:
    """Return the histograms of a family whose first labels these are, together."""
    total: tuple[float, ...] = (0.0,) * (len(FAMILIES[family].bounds) + 2)
    for (name, found), value in series.items():
        if name == family and found[: len(labels)] == labels and isinstance(value, tuple):
            total = tuple(a + b for a, b in zip(total, value, strict=True))
    return total


def _total(series: Snapshot, family: str, labels: Labels) -> float:
    return sum(
        value
        for (name, found), value in series.items()
        if name == family and found[: len(labels)] == labels and not isinstance(value, tuple)
    )
