"""Lists the living named actors."""

from __future__ import annotations

from typing import Any

from skate import cluster


def list_named_actors(all_namespaces: bool = False) -> list[Any]:
    """Return the names of the living named actors.

    Args:
        all_namespaces: also those of other namespaces than this program's.

    Returns:
        A list of names; of dicts with ``name`` and ``namespace`` if ``all_namespaces``.

    Example:
        >>> skate.util.list_named_actors()
        ['counter']
    """
    found = cluster.actor_names(all_namespaces=all_namespaces)
    if all_namespaces:
        return [{"name": name, "namespace": namespace} for namespace, name in found]
    return [name for _, name in found]
