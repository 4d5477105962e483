"""Nouns that messages carry, packed, inside of other messages."""

from __future__ import annotations

from msgspec import Struct


class Condition(Struct, array_like=True, frozen=True):
    """What one label of a node must be."""

    key: str
    #: "in", "!in" (also where the node has no such label), "exists" or "!exists".
    operator: str
    values: list[str]


class Requirement(Struct, array_like=True, frozen=True):
    """Which nodes a task or an actor may run on. Part of LeaseDemand and ActorSpec; empty bytes there
    stand for: on any."""

    #: Conditions that must all hold. In the order of preference: the first list counts that any node fulfils.
    alternatives: list[list[Condition]]
    #: Conditions that should hold.
    preferred: list[Condition]
    #: The hex id of the one node that it may run on; empty: any.
    node: str
    #: ... but elsewhere, if that node is not there or can never serve it.
    soft: bool
    #: On as many nodes as there are, rather than on as few.
    spread: bool
