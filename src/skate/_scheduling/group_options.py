"""Reads the options that place a task or an actor in a placement group. Decisions only.

The strategy says it, or the three options ``placement_group...``, as older programs write it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skate._base.ids import PlacementGroupID
from skate._base.resources import describe, fits, to_fixed
from skate._scheduling.strategies import PlacementGroupSchedulingStrategy

#: The value of the option ``placement_group`` that stands for: as the caller's.
DEFAULT = "default"


class GroupHandle:
    """A placement group as placement needs it: see ``skate.util.placement_group.PlacementGroup``."""

    id: PlacementGroupID

    @property
    def bundle_specs(self) -> list[dict[str, float]]:
        """The resources of each bundle."""
        raise NotImplementedError

    @property
    def is_empty(self) -> bool:
        """Whether it stands for no group."""
        return self.id.is_nil()


def check_group(name: str, value: Any) -> None:
    """Raise unless the value can be the option ``placement_group``."""
    if value is not None and value != DEFAULT and not isinstance(value, GroupHandle):
        raise ValueError(
            f"option {name!r} takes a PlacementGroup, None (in none) or 'default' (as the caller), "
            f"got {value!r}"
        )


def check_index(name: str, value: Any) -> None:
    """Raise unless the value can be the index of a bundle, or -1."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"option {name!r} takes the index of a bundle, or -1 for any, got {value!r}")


def check_strategy(strategy: PlacementGroupSchedulingStrategy) -> None:
    """Raise unless the parts of a strategy are what they should be."""
    group = strategy.placement_group
    if group is not None and not isinstance(group, GroupHandle):
        raise ValueError(f"PlacementGroupSchedulingStrategy takes a PlacementGroup, got {group!r}")
    check_index("placement_group_bundle_index", strategy.placement_group_bundle_index)


def strategy_of(given: Mapping[str, Any]) -> Any:
    """Return the scheduling strategy of options, also if older ones say it; None: they say nothing.

    Raises:
        ValueError: they contradict each other.
    """
    strategy = given.get("scheduling_strategy")
    group = given.get("placement_group", DEFAULT)
    index = given.get("placement_group_bundle_index", -1)
    if strategy is not None:
        if group != DEFAULT:
            raise ValueError(
                "Placement groups should be specified via the scheduling_strategy option: both it and "
                f"placement_group are given ({strategy!r} and {group!r}); leave placement_group out"
            )
        if isinstance(strategy, PlacementGroupSchedulingStrategy) and not _names_group(strategy):
            _check_no_bundle(strategy.placement_group_bundle_index)
            return "DEFAULT"
        return strategy
    if isinstance(group, GroupHandle) and not group.is_empty:
        captures = given.get("placement_group_capture_child_tasks")
        return PlacementGroupSchedulingStrategy(group, index, captures)
    _check_no_bundle(index)
    return None if group == DEFAULT else "DEFAULT"


def may_be_captured(strategy: Any) -> bool:
    """Tell whether options leave it to the place of the call whether a placement group captures."""
    if isinstance(strategy, PlacementGroupSchedulingStrategy):
        return strategy.placement_group_capture_child_tasks is None
    return strategy is None


def _names_group(strategy: PlacementGroupSchedulingStrategy) -> bool:
    return strategy.placement_group is not None and not strategy.placement_group.is_empty


def _check_no_bundle(index: int) -> None:
    if index != -1:
        raise ValueError(
            f"If placement group is not set, the value of bundle index must be -1, got {index}: "
            "placement_group_bundle_index is the index of a bundle of a placement group"
        )


def check_fit(strategy: Any, resources: Mapping[str, int], placement: Mapping[str, int], what: str) -> None:
    """Raise if no bundle of the placement group that a strategy names can ever give what is needed.

    Args:
        strategy: of the options; if it is another one, there is nothing to check.
        resources: what the task or actor takes, in fixed point.
        placement: what an actor needs to be placed.
        what: ``a task``, ``an actor``: for the message.

    Raises:
        ValueError: none can, or there is no such bundle.
    """
    if not isinstance(strategy, PlacementGroupSchedulingStrategy) or not _names_group(strategy):
        return
    group, index = strategy.placement_group, strategy.placement_group_bundle_index
    bundles = [to_fixed(one) for one in group.bundle_specs]
    if not -1 <= index < len(bundles):
        raise ValueError(
            f"placement group bundle index {index} is invalid. Valid placement group indexes: "
            f"0-{len(bundles) - 1}, or -1 for any of the group's {len(bundles)} bundles"
        )
    chosen = bundles if index < 0 else [bundles[index]]
    shown = ", ".join(map(describe, bundles))
    if not any(fits(resources, one) for one in chosen):
        where = "any bundles" if index < 0 else f"bundle {index}"
        raise ValueError(
            f"Cannot schedule {what} with the placement group because the resource request "
            f"{describe(resources)} cannot fit into {where} for the placement group, {shown}. Ask for less, "
            "or make the group with larger bundles"
        )
    if not any(fits(placement, one) for one in chosen):
        raise ValueError(
            f"Cannot schedule {what} with the placement group because an actor without resources of its own "
            f"requires 1 CPU for creation, and that cannot fit into any bundles for the placement group, "
            f"{shown}. Say num_cpus=0, or make the group with CPUs"
        )
