"""Turns the placement options of users into a Requirement. Decisions only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from skate._scheduling import group_options, labels
from skate._scheduling.strategies import (
    NodeAffinitySchedulingStrategy,
    NodeLabelSchedulingStrategy,
    PlacementGroupSchedulingStrategy,
)
from skate._wire.specs import Condition, Requirement

_pack = msgspec.msgpack.encode


def check_strategy(name: str, value: Any) -> None:
    """Raise unless the value can be the option ``scheduling_strategy``."""
    if value in (None, "DEFAULT", "SPREAD"):
        return
    if isinstance(value, PlacementGroupSchedulingStrategy):
        group_options.check_strategy(value)
        return
    if not isinstance(value, (NodeAffinitySchedulingStrategy, NodeLabelSchedulingStrategy)):
        kind = TypeError if not isinstance(value, str) else ValueError
        raise kind(
            f"Invalid {name} value {value!r}. Valid values are 'DEFAULT', 'SPREAD', a "
            "NodeAffinitySchedulingStrategy, a NodeLabelSchedulingStrategy or a "
            "PlacementGroupSchedulingStrategy of skate.util.scheduling_strategies"
        )


def check_selector(name: str, value: Any) -> None:
    """Raise unless the value can be the option ``label_selector``."""
    labels.selector(value, f"option {name!r}")


def check_fallbacks(name: str, value: Any) -> None:
    """Raise unless the value can be the option ``fallback_strategy``."""
    _fallbacks(name, value)


def _fallbacks(name: str, value: Any) -> list[list[Condition]]:
    if value is None:
        return []
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"option {name!r} takes a list like [{{'label_selector': {{...}}}}], got {value!r}")
    found = []
    for index, one in enumerate(value):
        what = f"option {name!r}[{index}]"
        if not isinstance(one, Mapping) or set(one) != {"label_selector"}:
            raise ValueError(f"{what} takes {{'label_selector': {{...}}}} and nothing else, got {one!r}")
        found.append(labels.selector(one["label_selector"], f"{what}['label_selector']"))
    return found


def encode(given: Mapping[str, Any]) -> bytes:
    """Return the packed Requirement of checked options; empty: any node may serve."""
    strategy = group_options.strategy_of(given)
    selector = labels.selector(given.get("label_selector"), "option 'label_selector'")
    fallbacks = _fallbacks("fallback_strategy", given.get("fallback_strategy"))
    hard: list[Condition] = []
    preferred: list[Condition] = []
    node, soft = "", False
    group, bundle, captures = b"", -1, False
    if isinstance(strategy, NodeAffinitySchedulingStrategy):
        node, soft = strategy.node_id, strategy.soft
    elif isinstance(strategy, NodeLabelSchedulingStrategy):
        hard, preferred = strategy.conditions()
    elif isinstance(strategy, PlacementGroupSchedulingStrategy):
        group = strategy.placement_group.id.binary()
        bundle = strategy.placement_group_bundle_index
        captures = bool(strategy.placement_group_capture_child_tasks)
    alternatives = [[*one, *hard] for one in (selector, *fallbacks)]
    spread = strategy == "SPREAD"
    if not (any(alternatives) or preferred or node or spread or group):
        return b""
    return _pack(Requirement(alternatives, preferred, node, soft, spread, group, bundle, captures))


def in_group(packed: bytes, group: bytes) -> bytes:
    """Return a packed Requirement for what the caller's placement group captures.

    Args:
        packed: as the options say it: of a group of its own it keeps that.
        group: the id of the caller's group.
    """
    found = decode(packed) or Requirement([[]], [], "", False, False)
    return _pack(msgspec.structs.replace(found, group=found.group or group, captures=True))


def group_of(packed: bytes) -> tuple[bytes, int, bool]:
    """Return what a packed Requirement says of a placement group: its id (empty: none), the index of the
    bundle, and whether child tasks are captured."""
    found = decode(packed)
    return (found.group, found.bundle, found.captures) if found is not None else (b"", -1, False)


def decode(packed: bytes) -> Requirement | None:
    """Return the Requirement that ``encode`` packed; None: any node may serve."""
    return msgspec.msgpack.decode(packed, type=Requirement) if packed else None
