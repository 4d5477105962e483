"""Groups of rows: the number of each row's group, and sums, extremes and lists by group.

Keys are encoded to group numbers once; every aggregate then works on one integer column, whatever the
keys were. Nulls are a group of their own, as is NaN; 0.0 and -0.0 are one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import pyarrow as pa

from skate.data._block import arrow_compute as pc
from skate.data._block.kernels.arrays import as_array, counter, is_nested, list_array, plain

Column = Any
"""pa.Array or pa.ChunkedArray."""


def comparable(column: Column) -> Column:
    """Return a column whose values pyarrow's hash kernels compare as we do."""
    column = plain(column)
    type_ = column.type
    if pa.types.is_floating(type_):
        column = pc.add(column, pa.scalar(0, type_))
        return pc.if_else(pc.is_nan(column), pa.scalar(float("nan"), type_), column)
    if is_nested(type_) or pa.types.is_interval(type_):
        return pa.array([None if v is None else repr(v) for v in column.to_pylist()], pa.string())
    return column


def _codes(column: Column) -> tuple[pa.Array, int]:
    """Return a number for each value, in order of their first occurrence, and how many there are."""
    if pa.types.is_null(column.type):
        return pa.repeat(pa.scalar(0, pa.int32()), len(column)), min(1, len(column))
    encoded = column.dictionary_encode(null_encoding="encode")
    if isinstance(encoded, pa.ChunkedArray):
        if encoded.num_chunks == 0:
            return pa.array([], pa.int32()), 0
        counts = {len(chunk.dictionary) for chunk in encoded.chunks}
        if len(counts) != 1:  # the chunks do not share their dictionary
            return _codes(as_array(column))
        indices = as_array(pa.chunked_array([chunk.indices for chunk in encoded.chunks]))
        return indices, counts.pop()
    return encoded.indices, len(encoded.dictionary)


class Groups:
    """The groups of some rows.

    Attributes:
        ids: number of each row's group, in order of the groups' first rows; None if all rows are one group.
        count: number of groups.
        num_rows: number of rows.
    """

    def __init__(self, ids: pa.Array | None, count: int, num_rows: int) -> None:
        self.ids = ids
        self.count = count
        self.num_rows = num_rows
        self._distinct: pa.Array | None = None

    @classmethod
    def by(cls, columns: Sequence[Column], num_rows: int) -> Groups:
        """Return the groups of rows with equal values in some columns; without columns, one group."""
        if not columns:
            return cls.single(num_rows)
        if len(columns) == 1:
            return cls._by_one(columns[0], num_rows)
        ids, count = _codes(comparable(columns[0]))
        for column in columns[1:]:
            other, width = _codes(comparable(column))
            pairs = pc.add(pc.multiply(ids.cast(pa.int64()), width), other.cast(pa.int64()))
            ids, count = _codes(pairs)
        return cls(ids, count, num_rows)

    @classmethod
    def _by_one(cls, column: Column, num_rows: int) -> Groups:
        """Return the groups of one column, with its distinct values, which the encoding gives for nothing."""
        column = as_array(comparable(column))
        if pa.types.is_null(column.type):
            return cls(*_codes(column), num_rows)
        encoded = column.dictionary_encode(null_encoding="encode")
        groups = cls(encoded.indices, len(encoded.dictionary), num_rows)
        groups._distinct = encoded.dictionary
        return groups

    def keys(self, columns: Sequence[Column]) -> list[Column]:
        """Return the value of each group in the columns that the groups were made by."""
        if self._distinct is not None and self._distinct.type == columns[0].type:
            return [self._distinct]
        return [column.take(self.first) for column in columns]

    @classmethod
    def single(cls, num_rows: int) -> Groups:
        """Return all rows as one group, which is there even without rows."""
        return cls(None, 1, num_rows)

    def _reduce(self, column: Column, function: str, options: Any = None) -> pa.Array:
        if self.ids is None:
            scalar = (
                getattr(pc, function)(column, options=options) if options else getattr(pc, function)(column)
            )
            return pa.repeat(scalar, 1)
        table = pa.table({"g": self.ids, "v": column})
        request = ("v", function, options) if options else ("v", function)
        return as_array(table.group_by("g", use_threads=False).aggregate([request])["v_" + function])

    def sum(self, column: Column, skip_nulls: bool = True) -> pa.Array:
        """Return sums; null where a group has no value, or any null with ``skip_nulls=False``."""
        column = plain(column)
        if pa.types.is_null(column.type):
            return pa.nulls(self.count)
        if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)) and not (
            pa.types.is_boolean(column.type)
            or pa.types.is_decimal(column.type)
            or pa.types.is_duration(column.type)
        ):
            raise pa.ArrowNotImplementedError(f"there is no sum of values of type {column.type}")
        return self._reduce(column, "sum", pc.ScalarAggregateOptions(skip_nulls=skip_nulls, min_count=1))

    def extreme(self, column: Column, function: str, skip_nulls: bool = True) -> pa.Array:
        """Return the ``"min"`` or ``"max"`` of each group; NaN only where there is nothing else."""
        column = plain(column)
        if pa.types.is_null(column.type):
            return pa.nulls(self.count)
        if is_nested(column.type):
            raise pa.ArrowNotImplementedError(f"there is no {function} of values of type {column.type}")
        options = pc.ScalarAggregateOptions(skip_nulls=skip_nulls, min_count=1)
        try:
            return self._reduce(column, function, options)
        except pa.ArrowNotImplementedError:  # text, before pyarrow 20
            return self._extreme_by_order(column, function, skip_nulls)

    def _extreme_by_order(self, column: Column, function: str, skip_nulls: bool) -> pa.Array:
        """Return extremes of values that have an order but no kernel for it."""
        if self.num_rows == 0:
            return pa.nulls(self.count, column.type)
        ids = pa.repeat(pa.scalar(0, pa.int32()), self.num_rows) if self.ids is None else self.ids
        direction = "ascending" if function == "min" else "descending"
        table = pa.table({"g": ids, "v": column})
        order = pc.sort_indices(table, sort_keys=[("g", "ascending"), ("v", direction)])
        best = as_array(table["v"]).take(order).take(self.offsets.slice(0, self.count))
        if skip_nulls or column.null_count == 0:
            return best
        return pc.if_else(pc.equal(self.valid(column), self.sizes), best, pa.scalar(None, best.type))

    def valid(self, column: Column) -> pa.Array:
        """Return how many values of each group are not null, as int64."""
        if len(column) and column.null_count == 0:
            return self.sizes
        return self.total(column.is_valid())

    def variance(self, column: Column, skip_nulls: bool = True) -> pa.Array:
        """Return variances with ddof 0; null where a group has no value."""
        options = pc.VarianceOptions(ddof=0, skip_nulls=skip_nulls, min_count=1)
        return self._reduce(column, "variance", options)

    def total(self, mask_or_count: Column) -> pa.Array:
        """Return sums of booleans or counts, 0 where there are none, as int64."""
        return pc.fill_null(self.sum(mask_or_count), 0).cast(pa.int64()) if self.num_rows else self._zeros()

    def _zeros(self) -> pa.Array:
        return pa.repeat(pa.scalar(0, pa.int64()), self.count)

    @cached_property
    def sizes(self) -> pa.Array:
        """Rows of each group, as int64."""
        if self.ids is None:
            return pa.array([self.num_rows], pa.int64())
        return self._reduce(self.ids, "count")

    @cached_property
    def first(self) -> pa.Array:
        """The first row of each group; null for a group without rows."""
        if self.ids is None:
            return pa.array([0 if self.num_rows else None], pa.uint64())
        return self._reduce(counter(self.num_rows), "min")

    @cached_property
    def order(self) -> pa.Array:
        """Row numbers, group by group; rows of a group in their order."""
        if self.ids is None:
            return counter(self.num_rows)
        return pc.array_sort_indices(self.ids)

    @cached_property
    def offsets(self) -> pa.Array:
        """Where each group begins in ``order``, as int64, with the end."""
        return pa.concat_arrays([pa.array([0], pa.int64()), pc.cumulative_sum(self.sizes)])

    def lists(self, column: Column) -> pa.Array:
        """Return all values of each group, in order, as lists."""
        values = as_array(column)
        ordered = values if self.ids is None else values.take(self.order)
        return list_array(self.offsets, ordered)

    def spread(self, values: pa.Array) -> pa.Array:
        """Return for each row the value of its group."""
        if self.ids is None:
            return values.take(pa.repeat(pa.scalar(0, pa.int32()), self.num_rows))
        return values.take(self.ids)

    def select(self, mask: pa.Array) -> Groups:
        """Return the same groups over the rows that a mask without nulls keeps; groups may become empty."""
        return _Sparse(
            None if self.ids is None else self.ids.filter(mask), self.count, pc.sum(mask).as_py() or 0
        )


class _Sparse(Groups):
    """Groups of which some have no rows."""

    def _reduce(self, column: Column, function: str, options: Any = None) -> pa.Array:
        if self.ids is None:
            return super()._reduce(column, function, options)
        table = pa.table({"g": self.ids, "v": column})
        request = ("v", function, options) if options else ("v", function)
        found = table.group_by("g", use_threads=False).aggregate([request])
        every = counter(self.count).cast(self.ids.type)
        return as_array(found["v_" + function]).take(pc.index_in(every, as_array(found["g"])))

    @cached_property
    def sizes(self) -> pa.Array:
        """Rows of each group, as int64."""
        if self.ids is None:
            return pa.array([self.num_rows], pa.int64())
        return pc.fill_null(self._reduce(self.ids, "count"), 0)
