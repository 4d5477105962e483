"""Defines the public classes that say where a task or an actor may run. See
``skate.util.scheduling_strategies``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skate._base import ids
from skate._scheduling import labels
from skate._wire.specs import Condition


class NodeAffinitySchedulingStrategy:
    """Run a task or an actor on this node only.

    While the node is busy it waits. If the node is not there (any more), or can never have the
    resources, it fails with TaskUnschedulableError or ActorUnschedulableError.

    Args:
        node_id: the node's id in hex, as ``get_runtime_context().get_node_id()`` returns it.
        soft: it may run elsewhere where it would fail.
        _spill_on_unavailable: with ``soft``: it may run elsewhere also while the node is busy.
        _fail_on_unavailable: not supported: must be False.

    Raises:
        ValueError: ``node_id`` is no node's id.

    Example:
        >>> here = skate.get_runtime_context().get_node_id()
        >>> f.options(scheduling_strategy=NodeAffinitySchedulingStrategy(here, soft=False)).remote()
    """

    def __init__(
        self,
        node_id: str,
        soft: bool,
        _spill_on_unavailable: bool = False,
        _fail_on_unavailable: bool = False,
    ) -> None:
        hex_id = node_id if isinstance(node_id, str) else node_id.hex()
        try:
            known = ids.NodeID.from_hex(hex_id)
        except ValueError:
            known = ids.NodeID.nil()
        if known.is_nil():
            raise ValueError(f"node_id takes the id of a node in hex, got {node_id!r}")
        if _fail_on_unavailable:
            raise ValueError("_fail_on_unavailable is not supported by this version of skate yet")
        if _spill_on_unavailable and not soft:
            raise ValueError(
                "_spill_on_unavailable=True needs soft=True: without it, only this node may run it"
            )
        self.node_id = hex_id
        self.soft = bool(soft)

    def __repr__(self) -> str:
        return f"NodeAffinitySchedulingStrategy(node_id={self.node_id!r}, soft={self.soft})"


class _Operator:
    """States which values a label may have."""

    operator = ""

    def __init__(self, *values: str) -> None:
        if not values:
            raise ValueError(f"{type(self).__name__} takes at least one value: {type(self).__name__}('a')")
        for index, value in enumerate(values):
            if not isinstance(value, str):
                raise ValueError(f"{type(self).__name__} takes strings, got {value!r} in position {index}")
        self.values = list(values)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.values))})"


class In(_Operator):
    """The label has one of these values."""

    operator = "in"


class NotIn(_Operator):
    """The label has none of these values; it need not be there."""

    operator = "!in"


class Exists(_Operator):
    """The label is there, whatever its value."""

    operator = "exists"

    def __init__(self) -> None:
        self.values = []


class DoesNotExist(_Operator):
    """The label is not there."""

    operator = "!exists"

    def __init__(self) -> None:
        self.values = []


class NodeLabelSchedulingStrategy:
    """Run a task or an actor on nodes whose labels fulfil all conditions.

    While there is no such node it waits, with a warning.

    Args:
        hard: label to In, NotIn, Exists or DoesNotExist: must hold.
        soft: the same: should hold; nodes where it does are preferred.

    Raises:
        ValueError: both are empty, or not such dicts.

    Example:
        >>> f.options(scheduling_strategy=NodeLabelSchedulingStrategy({"zone": In("a", "b")})).remote()
    """

    def __init__(
        self,
        hard: Mapping[str, In | NotIn | Exists | DoesNotExist],
        *,
        soft: Mapping[str, In | NotIn | Exists | DoesNotExist] | None = None,
    ) -> None:
        self.hard = _checked(hard, "hard")
        self.soft = _checked(soft, "soft") if soft is not None else {}
        if not self.hard and not self.soft:
            raise ValueError("NodeLabelSchedulingStrategy takes at least one condition, in hard or in soft")

    def conditions(self) -> tuple[list[Condition], list[Condition]]:
        """Return the conditions that must hold, and those that should."""
        return _conditions(self.hard), _conditions(self.soft)

    def __repr__(self) -> str:
        return f"NodeLabelSchedulingStrategy(hard={self.hard!r}, soft={self.soft!r})"


class PlacementGroupSchedulingStrategy:
    """Run a task or an actor in a placement group: it takes the resources of a bundle.

    It waits while the group waits. If the group is removed, what runs in it ends.

    Args:
        placement_group: the PlacementGroup; None: in none, also where a group captures.
        placement_group_bundle_index: which bundle, from 0; -1: any.
        placement_group_capture_child_tasks: tasks and actors that it starts run in the group, too, unless
            they have a strategy of their own. None: as where it is called; False in a driver.

    Example:
        >>> group = skate.util.placement_group([{"CPU": 1}])
        >>> f.options(scheduling_strategy=PlacementGroupSchedulingStrategy(group)).remote()
    """

    def __init__(
        self,
        placement_group: Any,
        placement_group_bundle_index: int = -1,
        placement_group_capture_child_tasks: bool | None = None,
    ) -> None:
        self.placement_group = placement_group
        self.placement_group_bundle_index = placement_group_bundle_index
        self.placement_group_capture_child_tasks = placement_group_capture_child_tasks

    def __repr__(self) -> str:
        return (
            f"PlacementGroupSchedulingStrategy({self.placement_group!r}, "
            f"{self.placement_group_bundle_index}, {self.placement_group_capture_child_tasks})"
        )


def _checked(given: Any, what: str) -> dict[str, _Operator]:
    if not isinstance(given, Mapping):
        raise ValueError(f"{what} takes a dict like {{'zone': In('a')}}, got {given!r}")
    for key, value in given.items():
        if not isinstance(key, str):
            raise ValueError(f"{what} has the key {key!r}; keys of labels are strings")
        labels.check_key(key, what)
        if not isinstance(value, _Operator):
            raise ValueError(
                f"{what}[{key!r}] takes In(...), NotIn(...), Exists() or DoesNotExist(), got {value!r}"
            )
    return dict(given)


def _conditions(given: Mapping[str, _Operator]) -> list[Condition]:
    return [Condition(key, value.operator, value.values) for key, value in given.items()]
