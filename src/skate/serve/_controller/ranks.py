"""The ranks of a deployment's replicas. Decisions only: no I/O, no clock.

A replica gets the lowest rank that no other has, and keeps it until its process has ended. During an update
more replicas live than are wanted, so some ranks exceed the wanted number; when the deployment is at rest,
those replicas move to the ranks that became free, and no other replica moves.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping


def lowest_free(taken: Collection[int]) -> int:
    """Return the lowest rank that is not taken."""
    return next(rank for rank in range(len(taken) + 1) if rank not in taken)


def moved(ranks: Mapping[str, int]) -> dict[str, int]:
    """Return the replicas that must move so that the ranks are 0, 1, ... without a gap, and their new ranks.

    Args:
        ranks: the rank of each replica that lives; all differ.
    """
    free = sorted({*range(len(ranks))}.difference(ranks.values()))
    beyond = sorted((rank, name) for name, rank in ranks.items() if rank >= len(ranks))
    return {name: rank for (_, name), rank in zip(beyond, free, strict=True)}
