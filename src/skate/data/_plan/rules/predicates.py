"""A source drops rows that a filter above it would drop."""

from __future__ import annotations

from dataclasses import replace

from skate.data._operators.column_operators import FilterExpr
from skate.data._plan.logical import Apply, Node, Read


def read_predicate(node: Node) -> Node:
    """Give the conditions of filters that stand on a read to its source, if it honours them."""
    conditions = []
    below = node
    while isinstance(below, Apply) and isinstance(below.operator, FilterExpr):
        conditions.append(below.operator.condition)
        below = below.input
    if not conditions or not isinstance(below, Read) or "predicate" not in below.source.supports:
        return node
    schema = below.source.schema()
    together = conditions.pop()
    while conditions:
        together = together & conditions.pop()
    hints = below.source.hints
    if hints.predicate is not None:
        together = hints.predicate & together
    if schema is None or any(name not in schema.names for name in together.columns()):
        return node  # the filter says what is missing
    return replace(below, source=below.source.with_hints(replace(hints, predicate=together)))
