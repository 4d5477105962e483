"""The fate of replicas that outlived their controller, as the next one decides it. Decisions only: no I/O, no
clock.

Traffic went on meanwhile. A replica that may have requests is never ended at once: it goes on, or it leaves
the tables and drains.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from typing import Any

from skate.serve._targets import DeploymentId


class Fate(enum.Enum):
    """The fates that a replica may have."""

    #: It serves on.
    STAY = enum.auto()
    #: It finishes its requests, and ends.
    DRAIN = enum.auto()
    #: It never served: it ends at once.
    END = enum.auto()


def fate_of(is_wanted: bool, was_ready: bool, counts: Mapping[str, Any] | None) -> Fate:
    """Return the fate of a replica.

    Args:
        is_wanted: its deployment exists still, and is to have replicas.
        was_ready: the controller before was about to count on it, or did.
        counts: what the replica said of itself; None: it did not answer in time. Its process may be stopped,
            or it waits for resources to start with.
    """
    if counts is None:
        if not was_ready:
            return Fate.END
        return Fate.STAY if is_wanted else Fate.DRAIN
    if is_wanted and counts["ready"] and not counts["draining"]:
        return Fate.STAY
    # One that was about to be ready may have accepted connections already.
    return Fate.DRAIN if counts["ready"] or counts["draining"] or counts["accepts"] else Fate.END


def watchers(name: DeploymentId, found: Iterable[Mapping[str, Any]]) -> list[tuple[Any, str]]:
    """Return the watchers of the former controller's tables, as far as the replicas of a deployment know.

    Until these have the new controller's tables, they may send requests by the old ones.

    Args:
        name: the deployment.
        found: what its replicas said of themselves.

    Returns:
        Pairs of the table's name and the watcher.
    """
    pairs: list[tuple[Any, str]] = []
    for counts in found:
        pairs += [(("deployment", name), router) for router in counts["routers"]]
        if counts["accepts"]:
            pairs.append((("routes",), counts["process"]))
    return pairs
