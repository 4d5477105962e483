"""Names of the operations of a plan, each used once: figures, limits of errors and letters go by them."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from skate.data._plan.logical import Apply, Blocks, Node


class Operation(NamedTuple):
    """An operation of a plan.

    Attributes:
        name: of its own in the plan: ``"Map(f)#2"``.
        base: as the operator has it: ``"Map(f)"``.
        node: None: blocks stand in its place.
    """

    name: str
    base: str
    node: Apply | None


def unique_name(counts: Counter[str], name: str) -> str:
    """Return the name that the next operation with a name gets: ``"Map(f)"``, then ``"Map(f)#2"``."""
    counts[name] += 1
    return name if counts[name] == 1 else f"{name}#{counts[name]}"


def operations(plan: Node) -> list[Operation]:
    """Return the operations of a plan, in the order in which rows pass them.

    The planner counts in the same order, and rules keep it: in every process an operation has the same place
    and name in the plan that is run.
    """
    counts: Counter[str] = Counter()
    found: list[Operation] = []

    def walk(node: Node) -> None:
        for below in node.inputs:
            walk(below)
        bases: tuple[str, ...] = ()
        if isinstance(node, Apply):
            bases = (node.operator.name,)
        elif isinstance(node, Blocks):
            bases = node.stands_for
        for base in bases:
            at = node if isinstance(node, Apply) else None
            found.append(Operation(unique_name(counts, base), base, at))

    walk(plan)
    return found
