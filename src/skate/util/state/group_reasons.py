"""Explains why something in a placement group, or the group itself, waits. Decisions only."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from skate._base.resources import Resources, add, describe, fits, to_fixed

Plain = dict[str, Any]
Holders = Callable[[Mapping[str, int], Collection[tuple[str, int]]], list[str]]
"""Returns lines that say what holds some of these resources: of bundles, or (of none) of the node."""


def explain(
    group: Plain | None,
    here: Plain | None,
    index: int,
    needed: Mapping[str, int],
    node: tuple[Mapping[str, int], Mapping[str, int]],
    holders: Holders,
    who: str,
) -> list[str]:
    """Return lines that say why a task or an actor in a placement group has not begun.

    Args:
        group: the row of the control store; None: it knows none.
        here: the row of the node; None: it has none.
        index: of the bundle; -1: any.
        needed: the resources of the task or actor, in fixed point.
        node: what is free on the node, and its total, in fixed point.
        holders: see ``Holders``.
        who: ``it``, ``the actor``.
    """
    if group is None:
        return [f"{who} waits for its placement group, which this session does not know (any more)"]
    name = called(group)
    if group["state"] != "CREATED":
        holds = holders(sum_of(group), ()) if not group["reason"] and group["state"] != "REMOVED" else []
        return [f"{who} waits for {name}, which is {group['state']}: {_why(group, here, *node)}", *holds]
    bundles = [one for one in (here or {}).get("bundles", ()) if index in (-1, one["index"])]
    needs = describe(needed) if needed else "no resources, only a process"
    if any(fits(needed, to_fixed(one["free"])) for one in bundles):
        return [f"{who} needs {needs}, which is free in {name}: a process is being started for it"]
    free = ", ".join(
        f"{describe({key: to_fixed(one['free']).get(key, 0) for key in needed})} in bundle {one['index']}"
        for one in bundles
    )
    first = f"{who} waits for resources of {name}: it needs {needs}; free are {free or 'none'}. Held by:"
    return [first, *holders(needed, [(group["group_id"], one["index"]) for one in bundles])]


def called(group: Plain) -> str:
    """Return a group's name for people."""
    return f"placement group {group['name'] or group['group_id']}"


def sum_of(group: Plain) -> Resources:
    """Return the resources of all bundles of a group, in fixed point."""
    total: Resources = {}
    for bundle in group["bundles"]:
        add(total, to_fixed(bundle))
    return total


def _why(group: Plain, here: Plain | None, free: Mapping[str, int], total: Mapping[str, int]) -> str:
    """Return why a group is not reserved yet."""
    if group["reason"]:
        return str(group["reason"])
    if group["state"] == "REMOVED":
        return str(group["cause"])
    needed = sum_of(group)
    have = describe({name: max(0, free.get(name, 0)) for name in needed})
    line = "" if here is None or not here["ahead"] else f", and {here['ahead']} groups wait before it"
    all_of_it = describe({name: total.get(name, 0) for name in needed})
    return f"its bundles need {describe(needed)}; free are {have} of {all_of_it}{line}. Held by:"
