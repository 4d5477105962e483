"""The placement groups of replicas: each has one of its own for as long as it lives, however it ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skate import cluster
from skate.serve._placement import STRATEGIES, resources_of, sum_of
from skate.serve._targets import DeploymentTarget
from skate.util.placement_group import placement_group
from skate.util.scheduling_strategies import PlacementGroupSchedulingStrategy

#: Begins the names of replicas' actors and groups.
PREFIX = "SERVE_REPLICA::"


class Groups:
    """The placement groups of all replicas, which have the names of their actors.

    A replica is stored before its group is made. So a controller that is restarted knows all groups by their
    names, those of replicas that ended meanwhile, too.
    """

    def __init__(self) -> None:
        #: By replica: the group's id.
        self._groups: dict[str, bytes] = {}

    def reserve(self, replica: str, name: str, target: DeploymentTarget) -> dict[str, Any]:
        """Have a replica's bundles reserved; return the options by which its actor runs in the first one.

        Args:
            replica: its id.
            name: of its actor.
            target: its deployment. Without bundles there is no group.
        """
        if not target.bundles:
            return {}
        group = placement_group([*target.bundles], target.strategy, name, lifetime="detached")
        self._groups[replica] = group.id.binary()
        strategy = PlacementGroupSchedulingStrategy(group, 0, placement_group_capture_child_tasks=True)
        # An actor that names no CPUs would need a bundle with one to be placed.
        return {"num_cpus": target.actor_options.get("num_cpus") or 0, "scheduling_strategy": strategy}

    def recover(self, names: Mapping[str, str]) -> None:
        """Find the groups of the controller before; remove those of no replica.

        Args:
            names: of the actors of the replicas that were started, by replica.
        """
        living = {
            row["name"]: bytes.fromhex(row["group_id"])
            for row in cluster.placement_groups()
            if row["name"].startswith(PREFIX) and row["state"] != "REMOVED"
        }
        self._groups = {replica: living.pop(name) for replica, name in names.items() if name in living}
        for group in living.values():
            cluster.remove_placement_group(group)

    def remove(self, replica: str) -> None:
        """Give back what a replica had that has ended, and end what it started there."""
        group = self._groups.pop(replica, None)
        if group is not None:
            cluster.remove_placement_group(group)

    def waits_for(self, replica: str, target: DeploymentTarget) -> str:
        """Return the resources that a replica waits for, as text; "": it has them, or may get them."""
        group = self._groups.get(replica)
        if group is None:
            return _lack(target)
        row = cluster.placement_group(group)
        if row is None or row["state"] == "CREATED":
            return ""
        if row["reason"]:
            return f"its placement group can never have its bundles: {row['reason']}"
        bundles = ", ".join(map(str, row["bundles"]))
        return f"its placement group waits until {bundles} are free: `skate why` says who has them"


def room_for(target: DeploymentTarget) -> tuple[bool, bool]:
    """Tell whether a deployment's replicas hold resources, and whether there is room for one more.

    There is "room" where one can never fit, too: it would be in vain that another replica ends for it.
    """
    wanted = _wanted(target)
    if not wanted:
        return False, True
    if target.bundles and target.strategy == STRATEGIES[-1] and len(target.bundles) > len(cluster.nodes()):
        return True, True
    if _lack(target):
        return True, True
    available = cluster.available_resources()
    return True, all(available.get(name, 0) >= amount for name, amount in wanted.items())


def _lack(target: DeploymentTarget) -> str:
    """Return why a replica can never have its resources, as text; "": it can, as far as amounts say."""
    total = cluster.cluster_resources()
    lacking = [
        f"{amount:g} {name} of {total.get(name, 0):g}"
        for name, amount in _wanted(target).items()
        if total.get(name, 0) < amount
    ]
    return f"it needs more than the whole session has: {', '.join(lacking)}" if lacking else ""


def _wanted(target: DeploymentTarget) -> dict[str, float]:
    return sum_of(target.bundles) if target.bundles else resources_of(target.actor_options)
