"""Facts of a plan that is not run: rows, bytes, columns, files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from skate.data._block.schemas import public_schema, unify_schemas
from skate.data._operators.column_operators import ColumnOperator
from skate.data._operators.exchanges import output_schema
from skate.data._operators.exchanges.aggregate import Aggregate
from skate.data._operators.exchanges.groups import MapGroups
from skate.data._operators.exchanges.repartition import HashRepartition, Repartition
from skate.data._operators.exchanges.shuffle import Shuffle
from skate.data._operators.exchanges.sort import Sort
from skate.data._operators.map_operators import FilterRows
from skate.data._plan.logical import Apply, Blocks, Exchanged, Limit, Node, Read, Union
from skate.data._task.exchange import Exchange
from skate.data._verbs.randomness import BlockOrder

#: Errors of a plan that cannot run: it has no schema then.
_NO_SCHEMA = (pa.ArrowException, KeyError, TypeError, ValueError, NotImplementedError)


#: Where a node keeps its schema; it is no field, so nodes that are made of it have none.
_KEPT = "_known_schema"
#: Exchanges whose output has as many rows as their input.
_KEEP_ROWS = (Sort, Shuffle, Repartition, HashRepartition, BlockOrder)


def preserves_rows(node: Node) -> bool:
    """Tell whether a node has as many rows as its first input, whatever the rows are.

    A row that fails and is skipped, or becomes a dead letter, is missing: such a node does not preserve rows.
    """
    if isinstance(node, Apply):
        return node.operator.preserves_rows
    return isinstance(node, Exchanged) and len(node.sides) == 1 and isinstance(node.exchange, _KEEP_ROWS)


def without_row_preserving(plan: Node) -> Node:
    """Return the lowest node that has as many rows as the plan."""
    while preserves_rows(plan):
        plan = plan.inputs[0]
    return plan


def known_rows(plan: Node) -> int | None:
    """Return the number of rows if it is known exactly, without running anything, else None."""
    plan = without_row_preserving(plan)
    if isinstance(plan, Read):
        return plan.source.num_rows()
    if isinstance(plan, Blocks):
        return sum(piece.num_rows for piece in plan.slices)
    if isinstance(plan, Limit):
        if plan.rows == 0:
            return 0
        below = known_rows(plan.input)
        return None if below is None else min(plan.rows, below)
    if isinstance(plan, Union):
        parts = [known_rows(part) for part in plan.parts]
        return None if None in parts else sum(part for part in parts if part is not None)
    return None


def known_bytes(plan: Node) -> int | None:
    """Return the bytes in memory if they are known or well estimated without running anything, else None."""
    if isinstance(plan, Read):
        return plan.source.estimate_inmemory_data_size()
    if isinstance(plan, Blocks):
        return sum(piece.size_bytes for piece in plan.slices)
    if isinstance(plan, Union):
        parts = [known_bytes(part) for part in plan.parts]
        return None if None in parts else sum(part for part in parts if part is not None)
    return None


def known_schema(plan: Node) -> pa.Schema | None:
    """Return the schema if it is known without running a user's function or reading rows, else None.

    Each node keeps its own: a program that adds a column in a loop asks for it at each step.
    """
    found: pa.Schema | None = vars(plan).get(_KEPT)
    if found is None:
        found = _find_schema(plan)
        if found is not None:
            vars(plan)[_KEPT] = found
    return found


def _find_schema(plan: Node) -> pa.Schema | None:
    if isinstance(plan, Read):
        return _bare(plan.source.schema())
    if isinstance(plan, Blocks):
        return _bare(plan.schema if plan.schema is not None else _schema_of_slices(plan))
    if isinstance(plan, Limit):
        return known_schema(plan.input)
    if isinstance(plan, Union):
        return _union(plan)
    if isinstance(plan, Apply):
        if not isinstance(plan.operator, (FilterRows, ColumnOperator)):
            return None
        below = known_schema(plan.input)
        return None if below is None else _applied(plan.operator, below)
    if isinstance(plan, Exchanged):
        schemas = [known_schema(side) for side in plan.sides]
        return _exchanged(plan.exchange, [schema for schema in schemas if schema is not None], len(schemas))
    return None


def _applied(operator: FilterRows | ColumnOperator, schema: pa.Schema) -> pa.Schema | None:
    """Return the columns of an operator's output: those of a filter are its input's."""
    if isinstance(operator, FilterRows):
        return schema
    try:
        return _bare(operator.schema(schema))
    except _NO_SCHEMA:
        # The fault shows when the plan runs.
        return None


def _exchanged(exchange: Exchange, schemas: Sequence[pa.Schema], sides: int) -> pa.Schema | None:
    if len(schemas) < sides or _has_code_of_users(exchange):
        return None
    try:
        return _bare(output_schema(exchange, schemas))
    except _NO_SCHEMA:
        return None


def _has_code_of_users(exchange: Exchange) -> bool:
    if isinstance(exchange, Aggregate):
        return not all(type(one).__module__.startswith("skate.data.") for one in exchange.aggregates)
    return isinstance(exchange, MapGroups)


def _union(plan: Union) -> pa.Schema | None:
    schemas = [known_schema(part) for part in plan.parts]
    if any(schema is None for schema in schemas):
        return None
    try:
        return unify_schemas([schema for schema in schemas if schema is not None])
    except _NO_SCHEMA:
        return None


def _schema_of_slices(plan: Blocks) -> pa.Schema | None:
    schemas = [piece.meta.schema for piece in plan.slices if piece.meta.schema is not None]
    if not schemas:
        return None
    distinct = list({id(schema): schema for schema in schemas}.values())
    # A conflict is an error, if it is one, where the blocks meet.
    return distinct[0] if len(distinct) == 1 else unify_schemas(distinct, "object")


def _bare(schema: pa.Schema | None) -> pa.Schema | None:
    return None if schema is None else public_schema(schema).remove_metadata()


def nodes(plan: Node) -> Iterator[Node]:
    """Yield the nodes of a plan, inputs before what stands on them, each once."""
    seen: set[int] = set()

    def walk(node: Node) -> Iterator[Node]:
        if id(node) in seen:
            return
        seen.add(id(node))
        for below in node.inputs:
            yield from walk(below)
        yield node

    return walk(plan)


def input_files(plan: Node) -> list[str]:
    """Return the files that a plan reads, in order, each once."""
    found: dict[str, None] = {}
    for node in nodes(plan):
        if isinstance(node, Read):
            found.update(dict.fromkeys(node.source.input_files()))
        elif isinstance(node, Blocks):
            for piece in node.slices:
                found.update(dict.fromkeys(piece.meta.input_files))
    return list(found)
