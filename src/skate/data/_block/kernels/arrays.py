"""Helpers on columns: row numbers, plain values, and gathering rows without overflow of offsets."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from skate.data._block import arrow_compute as pc
from skate.data._block.schemas import NO_COLUMNS
from skate.data._block.sources import without_sources
from skate.data._previews import no_such_columns

_LARGE_BYTES = 1 << 30
"""A column of more bytes gets 64-bit offsets before its rows are gathered; 32-bit ones end at 2 GiB."""


class MissingColumnError(KeyError, ValueError):
    """A block has no column of a name.

    Attributes:
        column: the name.
        columns: the names that there are.
        verb: what asked for it.
    """

    def __init__(self, column: str, columns: Sequence[str], verb: str) -> None:
        self.column = column
        self.columns = list(columns)
        self.verb = verb
        super().__init__(column, self.columns, verb)

    def __str__(self) -> str:
        return f"{self.verb}: {no_such_columns([self.column], self.columns)}"


def column_of(table: pa.Table, name: str, verb: str) -> pa.ChunkedArray:
    """Return a column.

    Raises:
        MissingColumnError: there is none of that name.
    """
    position = table.schema.get_field_index(name)
    if position < 0:
        names = [name for name in table.column_names if name != NO_COLUMNS]
        raise MissingColumnError(name, names, verb)
    return table.column(position)


def counter(length: int, start: int = 0) -> pa.Array:
    """Return ``start, start + 1, ...`` as uint64, ``length`` numbers."""
    if length == 0:
        return pa.array([], pa.uint64())
    first = pa.array([start], pa.uint64())
    if length == 1:
        return first
    ones = pa.repeat(pa.scalar(1, pa.uint64()), length - 1)
    return pc.cumulative_sum(pa.concat_arrays([first, ones]))


def as_array(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Return a column as one array; a column above 1 GiB of text gets 64-bit offsets first."""
    if isinstance(column, pa.ChunkedArray):
        if column.num_chunks == 1:
            return column.chunk(0)
        if column.num_chunks == 0:
            return pa.array([], column.type)
        column = _with_large_offsets(column, column.nbytes)
        combined = column.combine_chunks()
        return combined if isinstance(combined, pa.Array) else pa.concat_arrays(combined.chunks)
    return column


def plain(column: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Return a column without encodings that kernels lack: dictionaries, views, extension types."""
    while isinstance(column.type, pa.BaseExtensionType):
        if isinstance(column, pa.ChunkedArray):
            storage = column.type.storage_type
            column = pa.chunked_array([chunk.storage for chunk in column.chunks], storage)
        else:
            column = column.storage
    type_ = column.type
    if pa.types.is_dictionary(type_):
        return plain(column.cast(type_.value_type))
    if str(type_) == "string_view":
        return column.cast(pa.string())
    if str(type_) == "binary_view":
        return column.cast(pa.binary())
    if pa.types.is_float16(type_):
        return column.cast(pa.float32())
    return column


def is_nested(type_: pa.DataType) -> bool:
    """Say whether values of a type are lists, structs, maps or unions."""
    return bool(pa.types.is_nested(type_))


def take(table: pa.Table, indices: pa.Array) -> pa.Table:
    """Return the rows of a table with these numbers, in this order; a null number gives a row of nulls."""
    table = without_sources(table)
    share = len(indices) / max(1, table.num_rows)
    columns = [take_column(column, indices, share) for column in table.columns]
    return pa.table(columns, names=table.column_names).replace_schema_metadata(table.schema.metadata)


def take_column(column: pa.ChunkedArray, indices: pa.Array, share: float = 1.0) -> pa.ChunkedArray:
    """Return values of a column by row numbers; ``share`` is the ratio of rows out to rows in."""
    large = _with_large_offsets(column, int(column.nbytes * max(1.0, share)))
    if isinstance(large.type, pa.BaseExtensionType) and large.num_chunks != 1:
        return pa.chunked_array([as_array(large).take(indices)], large.type)
    taken = large.take(indices)
    return taken if isinstance(taken, pa.ChunkedArray) else pa.chunked_array([taken])


def _with_large_offsets(column: pa.ChunkedArray, size_bytes: int) -> pa.ChunkedArray:
    if size_bytes < _LARGE_BYTES:
        return column
    if pa.types.is_string(column.type):
        return column.cast(pa.large_string())
    if pa.types.is_binary(column.type):
        return column.cast(pa.large_binary())
    if pa.types.is_list(column.type):
        return column.cast(pa.large_list(column.type.value_type))
    return column


def offsets_of(counts: Sequence[int]) -> list[int]:
    """Return the running sum of counts, from 0."""
    offsets = [0]
    for count in counts:
        offsets.append(offsets[-1] + count)
    return offsets


def list_array(offsets: pa.Array, values: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Return lists from offsets (int64) and values; 64-bit offsets only where 32 bits do not reach."""
    flat = as_array(values)
    if len(flat) < (1 << 31) - 1:
        return pa.ListArray.from_arrays(offsets.cast(pa.int32()), flat)
    return pa.LargeListArray.from_arrays(offsets.cast(pa.int64()), flat)
