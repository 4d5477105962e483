"""The only place that concatenates, slices, converts and measures blocks. A block is a ``pyarrow.Table``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from pyarrow import types

from skate.data._block import arrow_compute as pc
from skate.data._block import sources, tensors
from skate.data._block.columns import to_values
from skate.data._block.errors import SchemaConflictError
from skate.data._block.objects import PickledType, is_pickled, pickled
from skate.data._block.schemas import NO_COLUMNS, check_same, public_schema, unify_schemas
from skate.data._block.sizes import column_bytes, size_bytes

__all__ = [
    "NO_COLUMNS",
    "cast_to",
    "combine",
    "compact",
    "concat",
    "empty",
    "filter_rows",
    "no_columns",
    "public_schema",
    "size_bytes",
    "slice_rows",
    "take_rows",
    "unify_schemas",
    "without_views",
]

#: Bytes of a column above which a concatenation gives it 64-bit offsets: half of what 32-bit offsets reach.
LARGE_COLUMN_BYTES = 1 << 30


def empty(schema: pa.Schema) -> pa.Table:
    """Return a block of a schema without rows."""
    return schema.empty_table()


def no_columns(num_rows: int) -> pa.Table:
    """Return a block of rows without columns: ``iter_rows`` yields ``{}`` for each, batches are empty dicts.

    Arrow forgets how many rows such a table has when it is sliced, so a column of nulls stands in for it; it
    takes no memory, and ``public_schema``, rows and batches leave it out.
    """
    return pa.table({NO_COLUMNS: pa.nulls(num_rows)})


def slice_rows(block: pa.Table, start: int, stop: int) -> pa.Table:
    """Return the rows from ``start`` to before ``stop``; no value is copied, notes of files are kept.

    Example:
        >>> slice_rows(pa.table({"x": [1, 2, 3]}), 1, 3)["x"].to_pylist()
        [2, 3]
    """
    start = max(0, start)
    stop = min(stop, block.num_rows)
    if start == 0 and stop == block.num_rows:
        return block
    made = block.slice(start, max(0, stop - start))
    return (
        sources.set_runs(made, sources.slice_runs(block, start, stop)) if sources.has_sources(block) else made
    )


def take_rows(block: pa.Table, indices: Any) -> pa.Table:
    """Return rows by their numbers, in their order, with their notes of files.

    Args:
        block: the rows.
        indices: row numbers: a list, or an array of pyarrow or numpy.
    """
    indices = indices if isinstance(indices, (pa.Array, pa.ChunkedArray)) else pa.array(indices, pa.int64())
    runs = sources.sources(block)
    made = sources.without_sources(block).take(indices)
    if not runs:
        return made
    return sources.set_runs(made, [(sources.source_of(block, row), 1) for row in indices.to_pylist()])


def filter_rows(block: pa.Table, mask: Any) -> pa.Table:
    """Return the rows for which a mask is true, with their notes of files; null counts as false.

    Args:
        block: the rows.
        mask: booleans: an array of pyarrow, or a list.
    """
    if not isinstance(mask, (pa.Array, pa.ChunkedArray)):
        mask = pa.array(mask, pa.bool_())
    runs = sources.sources(block)
    made = sources.without_sources(block).filter(mask)
    if not runs:
        return made
    kept = []
    start = 0
    for path, rows in runs:
        kept.append((path, pc.sum(mask.slice(start, rows)).as_py() or 0))
        start += rows
    return sources.set_runs(made, kept)


def concat(
    blocks: Sequence[pa.Table], on_conflict: str = "error", large_column_bytes: int = LARGE_COLUMN_BYTES
) -> pa.Table:
    """Return the rows of several blocks as one block. Values are copied only where types change.

    This is the only concatenation: it gives a column whose text or bytes are more than a GiB 64-bit offsets,
    so that no later operation on the whole column overflows.

    Args:
        blocks: in order.
        on_conflict: as for ``unify_schemas``; ``"same"``: any difference of schemas is an error.
        large_column_bytes: bytes of a column above which its offsets become 64 bits wide.

    Raises:
        SchemaConflictError: a column has types without a common one.

    Example:
        >>> concat([pa.table({"x": [1]}), pa.table({"x": [2.5], "y": ["a"]})]).to_pylist()
        [{'x': 1.0, 'y': None}, {'x': 2.5, 'y': 'a'}]
    """
    if len(blocks) == 1:
        return blocks[0]
    if not blocks:
        return pa.table({})
    schemas = [block.schema for block in blocks]
    first = schemas[0]
    if not first.metadata and all(schema.equals(first, check_metadata=True) for schema in schemas):
        made = pa.concat_tables(blocks)
        wide = _with_wide_offsets([made], first, large_column_bytes)
        return made if wide is first else cast_to(made, wide)
    if on_conflict == "same":
        check_same([block.schema for block in blocks if block.num_rows])
        on_conflict = "error"
    schema = unify_schemas(schemas, on_conflict)
    schema = _with_wide_offsets(blocks, schema, large_column_bytes)
    runs = _joined_runs(blocks)
    metadata = {key: value for key, value in (schema.metadata or {}).items() if key != sources.KEY}
    schema = schema.with_metadata(metadata or None)
    try:
        parts = [cast_to(block, schema).replace_schema_metadata(schema.metadata) for block in blocks]
    except SchemaConflictError as error:
        position = schema.get_field_index(error.column)
        if on_conflict != "object" or position < 0 or is_pickled(schema.field(position).type):
            raise
        schema = schema.set(position, pa.field(error.column, PickledType()))
        return concat([cast_to(block, schema) for block in blocks], on_conflict, large_column_bytes)
    made = pa.concat_tables(parts)
    return sources.set_runs(made, runs) if runs else made


def _joined_runs(blocks: Sequence[pa.Table]) -> list[tuple[str, int]]:
    """Return the runs of all blocks; rows of blocks that say nothing have the path ``""``."""
    if not any(sources.has_sources(block) for block in blocks):
        return []
    return [run for block in blocks for run in sources.sources(block) or [("", block.num_rows)]]


def _with_wide_offsets(blocks: Sequence[pa.Table], schema: pa.Schema, limit: int) -> pa.Schema:
    """Return the schema with 64-bit offsets in columns that have more bytes than the limit."""
    if sum(map(size_bytes, blocks)) <= limit:
        return schema
    for number, field in enumerate(schema):
        wide = _wide(field.type)
        if wide == field.type:
            continue
        size = sum(
            column_bytes(block.column(position))
            for block in blocks
            if (position := block.schema.get_field_index(field.name)) >= 0
        )
        if size > limit:
            schema = schema.set(number, field.with_type(wide))
    return schema


def _wide(type_: pa.DataType) -> pa.DataType:
    """Return a type with 64-bit offsets wherever it has offsets of 32 bits."""
    if types.is_string(type_):
        return pa.large_string()
    if types.is_binary(type_):
        return pa.large_binary()
    if types.is_list(type_) or types.is_large_list(type_):
        return pa.large_list(type_.value_field.with_type(_wide(type_.value_type)))
    if types.is_fixed_size_list(type_):
        return pa.list_(type_.value_field.with_type(_wide(type_.value_type)), type_.list_size)
    if types.is_struct(type_):
        return pa.struct(
            [field.with_type(_wide(field.type)) for field in map(type_.field, range(type_.num_fields))]
        )
    if types.is_dictionary(type_):
        return _wide(type_.value_type) if types.is_string(type_.value_type) else type_
    return type_


def cast_to(block: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return a block with exactly the columns and types of a schema; columns that it lacks are null.

    Args:
        block: the rows.
        schema: of ``unify_schemas`` over the block's schema and others.

    Raises:
        SchemaConflictError: a value of a column has no place in the type.
        ValueError: the block has a column that the schema lacks.
    """
    if block.schema is schema or block.schema.equals(schema):
        return block
    missing = [name for name in block.column_names if name != NO_COLUMNS and schema.get_field_index(name) < 0]
    if missing:
        raise ValueError(f"the block has columns that the schema lacks: {', '.join(missing)}")
    columns = []
    for field in schema:
        position = block.schema.get_field_index(field.name)
        if position < 0:
            columns.append(pa.chunked_array([nulls(block.num_rows, field.type)]))
        else:
            columns.append(cast_column(block.column(position), field.type, field.name))
    if not columns:
        return schema.empty_table()
    metadata = dict(schema.metadata or {})
    metadata.pop(sources.KEY, None)
    made = pa.Table.from_arrays(columns, schema=schema.with_metadata(metadata or None))
    runs = sources.sources(block)
    return sources.set_runs(made, runs) if runs else made


def nulls(rows: int, type_: pa.DataType) -> pa.Array:
    """Return a column of nulls of any type."""
    if isinstance(type_, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(type_, nulls(rows, type_.storage_type))
    return pa.nulls(rows, type_)


def cast_column(column: pa.ChunkedArray, target: pa.DataType, name: str) -> pa.ChunkedArray:
    """Return a column as another type that can hold its values.

    Raises:
        SchemaConflictError: it cannot.
    """
    source = column.type
    if source == target:
        return column
    if types.is_null(source):
        return pa.chunked_array([nulls(len(column), target)])
    try:
        if is_pickled(target):
            return pa.chunked_array([pickled(to_values(chunk), name) for chunk in column.chunks], target)
        if tensors.is_tensor(source) and tensors.is_tensor(target):
            return tensors.cast(column, target)
        return _cast_or_rebuild(column, target)
    except (
        pa.ArrowInvalid,
        pa.ArrowTypeError,
        pa.ArrowNotImplementedError,
        OverflowError,
        ValueError,
    ) as error:
        raise SchemaConflictError(name, source, target, str(error)) from error


def _cast_or_rebuild(column: pa.ChunkedArray, target: pa.DataType) -> pa.ChunkedArray:
    """Return a column as another type by Arrow's cast, or value by value where Arrow has none."""
    try:
        return column.cast(target)
    except (pa.ArrowNotImplementedError, pa.ArrowTypeError, pa.ArrowInvalid):
        made = pa.array(column.to_pylist(), target)
        return made if isinstance(made, pa.ChunkedArray) else pa.chunked_array([made], target)


def without_views(block: pa.Table) -> pa.Table:
    """Return the block with plain text and bytes instead of view types, which many kernels do not take."""
    for number, field in enumerate(block.schema):
        name = str(field.type)
        if name in ("string_view", "binary_view"):
            column = block.column(number)
            is_large = column_bytes(column) > LARGE_COLUMN_BYTES
            if name == "string_view":
                target = pa.large_string() if is_large else pa.string()
            else:
                target = pa.large_binary() if is_large else pa.binary()
            block = block.set_column(number, field.with_type(target), column.cast(target))
    return block


def combine(block: pa.Table) -> pa.Table:
    """Return the block with one chunk a column, where one chunk can hold it; copies if there are several."""
    if all(column.num_chunks <= 1 for column in block.columns):
        return block
    return block.combine_chunks()


def compact(block: pa.Table) -> pa.Table:
    """Return the block with buffers of its own if it uses less than half of those that it keeps alive.

    A slice of ten rows keeps the buffers of its parent, so blocks that will be kept or sent go through this.
    """
    if size_bytes(block) * 2 >= block.get_total_buffer_size():
        return block
    return copied(block)


def copied(block: pa.Table) -> pa.Table:
    """Return the block with buffers of its own."""
    columns = [_copied(column) for column in block.columns]
    return pa.Table.from_arrays(columns, schema=block.schema)


def _copied(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column in buffers that hold its own rows alone."""
    chunks = [pa.concat_arrays([chunk, chunk.slice(0, 0)]) for chunk in column.chunks]
    return pa.chunked_array(chunks, column.type)
