"""Provides placement groups: resources that are reserved together, in bundles, before anything runs in them.

A bundle is on one node. Tasks and actors that are placed in a group (see
``skate.util.scheduling_strategies.PlacementGroupSchedulingStrategy``) take the resources of its bundles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from skate import api, cluster, exceptions
from skate._base.ids import PlacementGroupID
from skate._base.resources import to_fixed
from skate._scheduling import labels
from skate._scheduling.bundles import STRATEGIES
from skate._scheduling.group_options import GroupHandle
from skate._scheduling.strategies import PlacementGroupSchedulingStrategy
from skate.engine.interface import GroupRequest

if TYPE_CHECKING:
    from skate.engine.refs import ObjectRef

__all__ = [
    "PlacementGroup",
    "get_current_placement_group",
    "get_placement_group",
    "placement_group",
    "placement_group_table",
    "remove_placement_group",
]

_EXAMPLE = '`[{"CPU": 1.0}, {"GPU": 1.0}]`'


class PlacementGroup(GroupHandle):
    """A handle of a placement group. Pass it to tasks and actors: all copies are the same group.

    Made by ``placement_group``; ``get_placement_group`` and ``get_current_placement_group`` return one, too.

    Args:
        id: of the group.
        bundle_cache: the resources of its bundles; None: they are asked for when they are needed.
    """

    def __init__(
        self, id: PlacementGroupID, bundle_cache: Sequence[Mapping[str, float]] | None = None
    ) -> None:
        self.id = id
        self.bundle_cache = None if bundle_cache is None else [dict(one) for one in bundle_cache]
        #: The last ref that ``ready`` returned here, and the session in which that was.
        self._ready: tuple[str, ObjectRef[PlacementGroup]] | None = None

    @staticmethod
    def empty() -> PlacementGroup:
        """Return the handle that stands for no group."""
        return PlacementGroup(PlacementGroupID.nil(), [])

    @property
    def is_empty(self) -> bool:
        """Whether it stands for no group."""
        return self.id.is_nil()

    @property
    def bundle_specs(self) -> list[dict[str, float]]:
        """The resources of each bundle.

        Raises:
            ValueError: this session does not know the group.
        """
        if self.bundle_cache is None:
            row = cluster.placement_group(self.id.binary())
            if row is None:
                raise ValueError(f"{self!r} does not exist in this session")
            self.bundle_cache = row["bundles"]
        return [dict(one) for one in self.bundle_cache]

    @property
    def bundle_count(self) -> int:
        """How many bundles it has."""
        return len(self.bundle_specs)

    def ready(self) -> ObjectRef[PlacementGroup]:
        """Return a ref whose value, the group, is there when the group's resources are reserved.

        ``get`` of it raises TaskPlacementGroupRemoved if the group is removed.

        Example:
            >>> skate.get(group.ready(), timeout=60)
        """
        strategy = PlacementGroupSchedulingStrategy(self)
        check = api.remote(_itself).options(
            num_cpus=0, name="PlacementGroup.ready", scheduling_strategy=strategy
        )
        ref: ObjectRef[PlacementGroup] = check.remote(self)
        self._ready = cluster.session_dir(), ref
        return ref

    def wait(self, timeout_seconds: float = 30) -> bool:
        """Wait until the group's resources are reserved.

        Args:
            timeout_seconds: the longest time to wait.

        Returns:
            Whether they are.

        Raises:
            ValueError: the group was removed, or this session does not know it.

        Example:
            >>> group.wait(timeout_seconds=10)
            True
        """
        row = cluster.placement_group(self.id.binary())
        if row is None or row["state"] == "REMOVED":
            cause = f": {row['cause']}" if row is not None else ""
            raise ValueError(f"{self!r} does not exist (any more){cause}")
        if row["state"] == "CREATED":
            return True
        known = self._ready
        ref = known[1] if known is not None and known[0] == cluster.session_dir() else self.ready()
        found, _ = api.wait([ref], timeout=timeout_seconds)
        if not found:
            return False
        try:
            api.get(ref)
        except exceptions.TaskPlacementGroupRemoved as removed:
            raise ValueError(f"{self!r} does not exist any more: {removed}") from None
        return True

    def __reduce__(self) -> tuple[Any, ...]:
        return PlacementGroup, (self.id, self.bundle_cache)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PlacementGroup) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"PlacementGroup({self.id.hex()})"


def _itself(group: PlacementGroup) -> PlacementGroup:
    return group


def placement_group(
    bundles: list[dict[str, float]],
    strategy: str | None = None,
    name: str = "",
    lifetime: str | None = None,
    _soft_target_node_id: str | None = None,
    bundle_label_selector: list[dict[str, str]] | None = None,
    topology_strategy: Any = None,
) -> PlacementGroup:
    """Reserve resources together, before anything runs in them. It returns at once; the group may wait.

    Args:
        bundles: the resources of each bundle, which is on one node: ``[{"CPU": 2}, {"GPU": 1}]``.
        strategy: ``"PACK"`` (the default): on few nodes, if possible; ``"SPREAD"``: on many, if possible;
            ``"STRICT_PACK"``: on one node; ``"STRICT_SPREAD"``: each on a node of its own.
        name: by which ``get_placement_group`` finds it in this namespace; empty: none.
        lifetime: ``"detached"``: it stays until it is removed; None: it ends with the job.
        _soft_target_node_id: with STRICT_PACK: a node to try first, in hex.
        bundle_label_selector: the labels that the node of each bundle must have, as in ``label_selector``.
        topology_strategy: not supported: must be None.

    Returns:
        The group: ``wait()`` and ``ready()`` say when its resources are reserved. If no node can ever have
        its bundles it waits, and a warning says why.

    Raises:
        ValueError: the bundles or options are wrong.
        RaySystemError: a living group has the name.

    Example:
        >>> group = skate.util.placement_group([{"CPU": 1}, {"CPU": 1}])
        >>> group.wait(10)
        True
    """
    checked = _checked(bundles)
    strategy = "PACK" if strategy is None else strategy
    if strategy not in STRATEGIES:
        raise ValueError(
            f"Invalid placement group strategy {strategy}. Supported strategies are: {', '.join(STRATEGIES)}"
        )
    if not isinstance(name, str):
        raise TypeError(f"Placement group `name` must be a string, got {name!r}")
    if lifetime not in (None, "detached"):
        raise ValueError(
            f"Placement group `lifetime` argument must be either `None` or 'detached'. Got {lifetime}."
        )
    if _soft_target_node_id and strategy != "STRICT_PACK":
        raise ValueError(f"_soft_target_node_id currently only works with STRICT_PACK but got {strategy}")
    if topology_strategy:
        raise ValueError("topology_strategy is not supported by this version of skate yet: leave it out")
    selectors = list(bundle_label_selector or [{}] * len(checked))
    if len(selectors) != len(checked):
        raise ValueError(
            f"Invalid bundle label selector {bundle_label_selector}. The length of `bundle_label_selector` "
            f"should equal the length of `bundles`: {len(checked)}"
        )
    conditions = [
        labels.selector(one, f"bundle_label_selector[{index}]") for index, one in enumerate(selectors)
    ]
    request = GroupRequest(
        checked, strategy, conditions, name, lifetime == "detached", _soft_target_node_id or ""
    )
    group_id = cluster.create_placement_group(request)
    floats = [{resource: float(amount) for resource, amount in one.items()} for one in bundles]
    return PlacementGroup(PlacementGroupID(group_id), floats)


def _checked(bundles: Any) -> list[dict[str, int]]:
    """Return the resources of bundles in fixed point.

    Raises:
        ValueError: they are no bundles.
    """
    if not isinstance(bundles, list):
        raise ValueError(f"Placement group bundles must be a list, got {type(bundles)}.")
    what = f"Bundles must be a non-empty list of resource dictionaries. For example: {_EXAMPLE}."
    if not bundles:
        raise ValueError(f"{what} Got empty list instead.")
    checked = []
    for index, bundle in enumerate(bundles):
        if not isinstance(bundle, Mapping) or not all(
            isinstance(name, str) and isinstance(amount, (int, float)) and not isinstance(amount, bool)
            for name, amount in bundle.items()
        ):
            raise ValueError(f"{what} Bundle {index} is {bundle!r}")
        try:
            fixed = to_fixed(bundle)
        except ValueError as error:
            raise ValueError(f"bundle {index}: {error}") from None
        if not fixed:
            raise ValueError(
                "Bundles cannot be an empty dictionary or resources with only 0 values. "
                f"Bundle {index} is one. Bundles: {bundles}"
            )
        gpus = bundle.get("GPU", 0)
        if gpus > 1 and gpus != int(gpus):
            raise ValueError(
                f"bundle {index} takes a share of one GPU (below 1) or whole ones, got {gpus!r}: GPU "
                "resource quantities >1 must be whole numbers"
            )
        checked.append(fixed)
    return checked


def remove_placement_group(placement_group: PlacementGroup) -> None:
    """Remove a placement group: tasks and actors in it end, its resources are free again.

    Their callers get TaskPlacementGroupRemoved or ActorPlacementGroupRemoved. Do nothing if it is gone.

    Args:
        placement_group: the group.

    Example:
        >>> skate.util.remove_placement_group(group)
    """
    cluster.remove_placement_group(_id_of(placement_group))


def get_placement_group(placement_group_name: str) -> PlacementGroup:
    """Return the placement group of a name in this namespace.

    Args:
        placement_group_name: as given to ``placement_group``.

    Raises:
        ValueError: there is none.

    Example:
        >>> skate.util.get_placement_group("trainers").wait(10)
        True
    """
    if not placement_group_name:
        raise ValueError("Please supply a non-empty value to get_placement_group: the name of a group")
    row = cluster.named_placement_group(placement_group_name)
    return PlacementGroup(PlacementGroupID.from_hex(row["group_id"]), row["bundles"])


def get_current_placement_group() -> PlacementGroup | None:
    """Return the placement group in which the caller runs; None: in none, as a driver.

    Example:
        >>> @skate.remote
        ... def where():
        ...     return skate.util.get_current_placement_group()
        >>> strategy = PlacementGroupSchedulingStrategy(group)
        >>> skate.get(where.options(scheduling_strategy=strategy).remote()) == group
        True
    """
    group = cluster.current_placement_group()
    return PlacementGroup(PlacementGroupID(group)) if group else None


def placement_group_table(placement_group: PlacementGroup | None = None) -> dict[str, Any]:
    """Return the facts of a placement group, or of all: state, strategy, bundles, nodes.

    Args:
        placement_group: the group; None: all of the session, by their ids in hex.

    Returns:
        A dict with ``placement_group_id``, ``name``, ``bundles``, ``bundles_to_node_id``, ``strategy``,
        ``state`` (PENDING, CREATED, REMOVED, RESCHEDULING) and ``stats``; empty if the group is not known.

    Example:
        >>> skate.util.placement_group_table(group)["state"]
        'CREATED'
    """
    if placement_group is None:
        return {row["group_id"]: _facts(row) for row in cluster.placement_groups()}
    row = cluster.placement_group(_id_of(placement_group))
    return _facts(row) if row is not None else {}


def _id_of(group: Any) -> bytes:
    if not isinstance(group, PlacementGroup):
        raise TypeError(f"a PlacementGroup was expected, got {group!r} ({type(group).__name__})")
    return group.id.binary()


def _facts(row: Mapping[str, Any]) -> dict[str, Any]:
    created, reserved, _ = row["times"]
    took = max(0.0, (reserved - created) * 1000) if reserved else 0.0
    return {
        "placement_group_id": row["group_id"],
        "name": row["name"],
        "bundles": dict(enumerate(row["bundles"])),
        "bundles_to_node_id": dict(enumerate(row["placed"])),
        "strategy": row["strategy"],
        "state": row["state"],
        "stats": {
            "end_to_end_creation_latency_ms": took,
            "scheduling_latency_ms": took,
            "scheduling_attempt": max(1, row["attempt"]),
            "highest_retry_delay_ms": 0.0,
            "scheduling_state": row["scheduling"],
        },
    }
