"""A source reads only the columns that are used."""

from __future__ import annotations

from dataclasses import replace

from skate.data._operators.column_operators import Drop, FilterExpr, Select, WithColumns
from skate.data._operators.exchanges.aggregate import Aggregate
from skate.data._plan.logical import Apply, Exchanged, Node, Read
from skate.data.aggregate import AggregateFn, AggregateFnV2, Count


def read_columns(node: Node) -> Node:
    """Tell the source below a selection, or below an aggregation, which columns are used."""
    used = _used_by(node)
    if used is None:
        return node
    chain: list[Apply] = []
    below = node.inputs[0]
    while isinstance(below, Apply):
        read = _read_by(below, used)
        if read is None:
            return node
        used = read
        chain.append(below)
        below = below.input
    if not isinstance(below, Read) or "columns" not in below.source.supports:
        return node
    schema = below.source.schema()
    hints = below.source.hints
    if schema is None or hints.columns is not None or any(name not in schema.names for name in used):
        return node  # what stands above says what is missing
    kept = tuple(name for name in schema.names if name in used)
    if not kept or len(kept) == len(schema.names):
        return node
    made: Node = replace(below, source=below.source.with_hints(replace(hints, columns=kept)))
    for apply in reversed(chain):
        made = replace(apply, input=made)
    if isinstance(node, Apply):
        return replace(node, input=made)
    assert isinstance(node, Exchanged)
    return replace(node, sides=(made,))


def _used_by(node: Node) -> dict[str, None] | None:
    """Return the columns that a node takes of its input, if it takes these alone, else None."""
    if isinstance(node, Apply) and isinstance(node.operator, Select):
        return dict.fromkeys(node.operator.columns)
    if isinstance(node, Exchanged) and isinstance(node.exchange, Aggregate):
        columns = dict.fromkeys(node.exchange.keys)
        for aggregate in node.exchange.aggregates:
            read = _read_by_aggregate(aggregate)
            if read is None:
                return None
            columns.update(dict.fromkeys(read))
        return columns
    return None


def _read_by_aggregate(aggregate: AggregateFn) -> tuple[str, ...] | None:
    if not isinstance(aggregate, AggregateFnV2) or not type(aggregate).__module__.startswith("skate.data."):
        return None  # the code of users may look at any column
    column = aggregate.get_target_column()
    if column is not None:
        return (column,)
    return () if isinstance(aggregate, Count) else None


def _read_by(node: Apply, used: dict[str, None]) -> dict[str, None] | None:
    """Return the columns that an operator reads if only some of its output are used; None: not known."""
    operator = node.operator
    if isinstance(operator, FilterExpr):
        return {**used, **dict.fromkeys(operator.condition.columns())}
    if isinstance(operator, WithColumns):
        left = {name: None for name in used if name not in operator.columns}
        for expr in operator.columns.values():
            left.update(dict.fromkeys(expr.columns()))
        return left
    if isinstance(operator, Select):
        return dict.fromkeys(operator.columns)
    if isinstance(operator, Drop):
        return {**used, **dict.fromkeys(operator.columns)}
    return None
