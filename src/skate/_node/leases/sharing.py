"""Decides which owners are asked for leases when others wait: fair shares of a node. Decisions only."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from skate._base.resources import Resources, fits
from skate._node.leases.accounts import NO_GROUP, Account
from skate._node.leases.groups import Groups
from skate._node.leases.records import Demand, Lease, LeaseState, Reclaim


def reclaims(
    leases: Collection[Lease], demands: Collection[Demand], groups: Groups, node: Account
) -> list[Reclaim]:
    """Return whom to ask for a share, a time slice after a demand or a placement group was left waiting.

    An owner that holds at least two leases more than one that waits gives one up when its current task is
    through; everybody gives up idle ones. The leases of the node and those of each placement group are
    shared apart.
    """
    waiting: dict[bytes, list[Demand]] = {}
    for demand in demands:
        if _could_be_served(demand, groups, node):
            waiting.setdefault(demand.place[0], []).append(demand)
    commands = _for_group(leases, groups, node) if groups.is_waiting else []
    for group, wanting in waiting.items():
        commands += _for_demands(
            wanting, [lease for lease in leases if lease.resources and lease.account.place[0] == group]
        )
    return commands


def _for_demands(waiting: Sequence[Demand], leases: Collection[Lease]) -> list[Reclaim]:
    held = _by_owner(leases)
    first = min(waiting, key=lambda d: (-d.depth, len(held.get(d.owner, ())), d.order))
    mine = len(held.get(first.owner, ()))
    commands: list[Reclaim] = []
    for owner, its in held.items():
        # Its own idle leases of other shapes count too, but none that is in use.
        has_more = len(its) > mine + 1 or mine == 0
        ask = owner != first.owner and has_more and not any(lease.retiring for lease in its)
        if ask:
            its[0].retiring = True
        commands.append(Reclaim(owner, int(ask)))
    return commands


def _for_group(leases: Collection[Lease], groups: Groups, node: Account) -> list[Reclaim]:
    """Ask for idle leases of tasks, and for busy ones of which the first group in line has a use."""
    first = groups.first_in_line
    commands: list[Reclaim] = []
    for owner, its in _by_owner([lease for lease in leases if is_of_tasks(lease, node)]).items():
        useful = [lease for lease in its if first is not None and first.total.keys() & lease.resources.keys()]
        ask = bool(useful) and not any(lease.retiring for lease in its)
        if ask:
            useful[0].retiring = True
        commands.append(Reclaim(owner, int(ask)))
    return commands


def _by_owner(leases: Collection[Lease]) -> dict[bytes, list[Lease]]:
    held: dict[bytes, list[Lease]] = {}
    for lease in leases:
        if lease.state is LeaseState.GRANTED:
            held.setdefault(lease.owner, []).append(lease)
    return held


def is_waiting(leases: Collection[Lease], demands: Collection[Demand], groups: Groups, node: Account) -> bool:
    """Tell whether anything waits for leases to end: a demand that could be served, or a placement group."""
    if any(_could_be_served(demand, groups, node) for demand in demands):
        return True
    return groups.is_waiting and any(is_of_tasks(lease, node) for lease in leases)


def _could_be_served(demand: Demand, groups: Groups, node: Account) -> bool:
    """Tell whether it waits for others to end."""
    if demand.held >= demand.count or demand.infeasible:
        return False
    if demand.place != NO_GROUP:
        group = groups.get(demand.place[0])
        return group is not None and bool(group.accounts)
    return fits(demand.resources, node.total)


def returning(leases: Collection[Lease], node: Account) -> list[tuple[Resources, list[int]]]:
    """Return what leases of tasks have of the node's account; nothing if processes wait in ``get``."""
    if any(lease.state is LeaseState.BLOCKED for lease in leases):
        return []
    return [(lease.resources, lease.gpus) for lease in leases if is_of_tasks(lease, node)]


def is_of_tasks(lease: Lease, node: Account) -> bool:
    """Tell whether a lease is for tasks, which end, and takes resources of the node."""
    return lease.account.open is node and not lease.dedicated and bool(lease.resources)
