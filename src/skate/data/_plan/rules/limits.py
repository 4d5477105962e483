"""Rules about limits."""

from __future__ import annotations

from skate.data._operators.exchanges.sort import Sort, TopK
from skate.data._plan.logical import Exchanged, Limit, Node

#: Rows up to which a limit on a sort keeps them in each task.
MOST_TOP_ROWS = 100_000


def one_limit(node: Node) -> Node:
    """Make one limit of a limit on a limit."""
    while isinstance(node, Limit) and isinstance(node.input, Limit):
        node = Limit(node.input.input, min(node.rows, node.input.rows))
    return node


def top_rows(node: Node) -> Node:
    """Replace a limit on a sort by an exchange of which only the first rows of each task survive."""
    if not isinstance(node, Limit) or not isinstance(node.input, Exchanged):
        return node
    sort = node.input.exchange
    if not isinstance(sort, Sort) or not 0 < node.rows <= MOST_TOP_ROWS:
        return node
    return Exchanged(node.input.sides, TopK(sort.keys, node.rows), node.input.resources)
