"""Defines values that messages carry in packed form."""

from __future__ import annotations

from msgspec import Struct


class Condition(Struct, array_like=True, frozen=True):
    """States which values one label of a node may have."""

    key: str
    #: "in", "!in" (also where the node has no such label), "exists" or "!exists".
    operator: str
    values: list[str]


class Requirement(Struct, array_like=True, frozen=True):
    """States which nodes may run a task or an actor. Part of LeaseDemand and ActorSpec; empty bytes there
    stand for any node."""

    #: Lists of conditions that must all hold, in the order of preference: the first list that any node
    #: fulfils counts.
    alternatives: list[list[Condition]]
    #: Conditions that should hold.
    preferred: list[Condition]
    #: The hex id of the only node that may run it; empty: any.
    node: str
    #: Whether another node may run it if that node does not exist or can never serve it.
    soft: bool
    #: Whether such tasks are spread over many nodes instead of few.
    spread: bool
    #: The id of the placement group whose bundles it runs in; empty: none.
    group: bytes = b""
    #: The index of the bundle; -1: any of the group.
    bundle: int = -1
    #: The tasks and actors that it starts run in the group, too, unless they have a strategy of their own.
    captures: bool = False
