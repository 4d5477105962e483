"""Rewrites of logical plans: each a function of a plan that returns one with the same rows.

::

    read_columns     a source reads only the columns that are used
    read_predicate   a source drops rows that a filter above it would drop
    top_rows         a limit on a sort keeps the first rows of each task instead of sorting all
    one_limit        limits on limits are one
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from skate.data._plan.logical import Apply, Exchanged, Limit, Node, Union, Write
from skate.data._plan.rules.columns import read_columns
from skate.data._plan.rules.limits import one_limit, top_rows
from skate.data._plan.rules.predicates import read_predicate

__all__ = ["RULES", "optimise"]

#: In the order in which they are applied, each to every node, from the top.
RULES: tuple[Callable[[Node], Node], ...] = (one_limit, top_rows, read_predicate, read_columns)


def optimise(plan: Node) -> Node:
    """Return a plan with the same rows that costs less."""
    for rule in RULES:
        plan = _everywhere(rule, plan)
    return plan


def _everywhere(rule: Callable[[Node], Node], node: Node) -> Node:
    node = rule(node)
    if isinstance(node, (Apply, Limit, Write)):
        below = _everywhere(rule, node.input)
        return node if below is node.input else replace(node, input=below)
    if isinstance(node, Union):
        parts = tuple(_everywhere(rule, part) for part in node.parts)
        return node if _is_same(parts, node.parts) else replace(node, parts=parts)
    if isinstance(node, Exchanged):
        sides = tuple(_everywhere(rule, side) for side in node.sides)
        return node if _is_same(sides, node.sides) else replace(node, sides=sides)
    return node


def _is_same(left: tuple[Node, ...], right: tuple[Node, ...]) -> bool:
    return all(one is other for one, other in zip(left, right, strict=True))
