"""Placement groups of a Ray cluster, by the ids that skate's handles have."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from skate._base.resources import to_float

if TYPE_CHECKING:
    from skate._wire.specs import Condition
    from skate.engine.interface import GroupRequest

#: Conditions on labels in the words of Ray's selectors, by operator and whether there are several values.
_SELECTORS = {
    ("in", False): "{}", ("in", True): "in({})", ("!in", False): "!{}", ("!in", True): "!in({})",
}  # fmt: skip


def native_group(ray: Any, group_id: bytes, bundles: Sequence[dict[str, float]] | None = None) -> Any:
    """Return Ray's handle of a group."""
    cache = [dict(one) for one in bundles] if bundles is not None else None
    module = importlib.import_module("ray.util.placement_group")
    return module.PlacementGroup(ray.PlacementGroupID(group_id), cache)


def create(ray: Any, request: GroupRequest) -> bytes:
    """See ``GroupEngine.create_group``."""
    options: dict[str, Any] = {}
    if any(request.selectors):
        options["bundle_label_selector"] = [_selector(one) for one in request.selectors]
    if request.target:
        options["_soft_target_node_id"] = request.target
    bundles = [to_float(one) for one in request.bundles]
    lifetime = "detached" if request.detached else None
    made = ray.util.placement_group(bundles, request.strategy, request.name, lifetime, **options)
    found: bytes = made.id.binary()
    return found


def _selector(conditions: list[Condition]) -> dict[str, str]:
    found = {}
    for one in conditions:
        words = _SELECTORS.get((one.operator, len(one.values) != 1))
        if words is None:
            raise ValueError(
                f"Ray's bundle_label_selector has no word for {one.operator!r} (label {one.key!r})"
            )
        found[one.key] = words.format(", ".join(one.values))
    return found


def find(ray: Any, name: str, group_id: bytes) -> dict[str, Any] | None:
    """See ``GroupEngine.find_group``."""
    if name:
        group_id = ray.util.get_placement_group(name).id.binary()
    facts = ray.util.placement_group_table(native_group(ray, group_id))
    return row(facts) if facts else None


def row(facts: dict[str, Any]) -> dict[str, Any]:
    """Return the row of a group as skate has it, of Ray's table."""
    stats = facts["stats"]
    took_s = stats.get("end_to_end_creation_latency_ms", 0.0) / 1000
    return {
        "group_id": facts["placement_group_id"],
        "name": facts["name"],
        "bundles": [facts["bundles"][index] for index in sorted(facts["bundles"])],
        "placed": [facts["bundles_to_node_id"].get(index, "") for index in sorted(facts["bundles"])],
        "strategy": facts["strategy"],
        "state": facts["state"],
        "cause": "",
        # Ray says how long it took, and not when.
        "times": (0.0, took_s, 0.0),
        "attempt": stats.get("scheduling_attempt", 0),
        "scheduling": stats.get("scheduling_state", ""),
    }
