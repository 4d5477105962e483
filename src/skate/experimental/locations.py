"""Where objects are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from skate import cluster
from skate.engine.refs import ObjectRef


def get_object_locations(
    obj_refs: Sequence[ObjectRef[Any]], timeout_ms: int = -1
) -> dict[ObjectRef[Any], dict[str, Any]]:
    """Tell where the values of refs are, and how large they are. It waits for none of them.

    Args:
        obj_refs: refs.
        timeout_ms: taken for Ray's sake: the answer comes from this machine.

    Returns:
        For each ref: ``node_ids`` (in hex) of the nodes that have the value in shared memory or on disk,
        none if it is not there yet or so small that its owner keeps it; ``object_size`` in bytes, None if
        that is not known; and ``did_spill``: whether it is on disk.

    Example:
        >>> get_object_locations([ref])[ref]["node_ids"]
        ['5f1c...']
    """
    if not isinstance(obj_refs, (list, tuple)) or not all(isinstance(one, ObjectRef) for one in obj_refs):
        raise TypeError(f"get_object_locations() takes a list of ObjectRefs, got {obj_refs!r:.80}")
    stored, node_id = cluster.stored_objects()
    found: dict[ObjectRef[Any], dict[str, Any]] = {}
    for ref in obj_refs:
        row = stored.get(ref.hex())
        found[ref] = {
            "node_ids": [node_id] if row is not None else [],
            "object_size": row["size"] if row is not None else None,
            "did_spill": row is not None and row["where"] == "disk",
        }
    return found


def get_local_object_locations(obj_refs: Sequence[ObjectRef[Any]]) -> dict[ObjectRef[Any], dict[str, Any]]:
    """Tell the same as ``get_object_locations``, of what this machine knows."""
    return get_object_locations(obj_refs)
