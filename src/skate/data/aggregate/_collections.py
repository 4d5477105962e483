"""Aggregates whose partial results are lists of values: exact, as large as the values they keep."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

import pyarrow as pa

from skate.data._block import arrow_compute as pc
from skate.data._block.kernels.arrays import as_array, is_nested, list_array
from skate.data._block.kernels.grouping import Groups
from skate.data._block.kernels.hashing import hash_column
from skate.data.aggregate._base import VectorizedAggregateFnV2


def _without(
    groups: Groups, column: pa.ChunkedArray, nan_is_null: bool = False
) -> tuple[Groups, pa.ChunkedArray]:
    """Leave nulls out: the same groups over the other rows."""
    mask = as_array(pc.invert(pc.is_null(column, nan_is_null=nan_is_null)))
    return groups.select(mask), column.filter(mask)


def _concatenated(groups: Groups, lists: pa.ChunkedArray) -> pa.Array:
    """Return for each group the concatenation of its lists."""
    column = as_array(lists)
    ordered = column if groups.ids is None else column.take(groups.order)
    lengths = pc.fill_null(pc.list_value_length(ordered), 0).cast(pa.int64())
    ends = pa.concat_arrays([pa.array([0], pa.int64()), pc.cumulative_sum(lengths)])
    return list_array(ends.take(groups.offsets), ordered.flatten())


def _flattened(groups: Groups, lists: pa.Array) -> tuple[Groups, pa.Array]:
    """Return the elements of lists as rows of the lists' groups."""
    parents = pc.list_parent_indices(lists)
    values = pc.list_flatten(lists)
    ids = None if groups.ids is None else groups.ids.take(parents)
    every = Groups(ids, groups.count, len(values))
    return every.select(pa.repeat(pa.scalar(True), len(values))), values


def _distinct(groups: Groups, values: pa.Array) -> tuple[Groups, pa.Array, pa.Array]:
    """Return each distinct value of each group once: its group, the value, and how often it was there."""
    keys = [values] if groups.ids is None else [groups.ids, values]
    pairs = Groups.by(keys, len(values))
    first = pairs.first
    ids = None if groups.ids is None else groups.ids.take(first)
    once = Groups(ids, groups.count, len(first)).select(pa.repeat(pa.scalar(True), len(first)))
    return once, values.take(first), pairs.sizes


class AsList(VectorizedAggregateFnV2):
    """All values of a column as a list, in the order in which they arrive.

    Args:
        on: the column.
        alias_name: name of the result; ``"list(<on>)"`` by default.
        ignore_nulls: leave nulls out.
    """

    def __init__(self, on: str, alias_name: str | None = None, ignore_nulls: bool = False) -> None:
        super().__init__("list", on, ignore_nulls, alias_name)

    def partial(self, groups: Groups, block: pa.Table, keys: Sequence[str]) -> list[pa.Array]:
        """Return lists."""
        column = self.column(block)
        if self._ignore_nulls:
            groups, column = _without(groups, column)
        return [groups.lists(column)]

    def combine_partials(self, groups: Groups, columns: Sequence[pa.ChunkedArray]) -> list[pa.Array]:
        """Return concatenations."""
        return [_concatenated(groups, columns[0])]

    def finish(self, columns: Sequence[pa.ChunkedArray]) -> pa.Array | pa.ChunkedArray:
        """Return lists."""
        return columns[0]


class Quantile(AsList):
    """A quantile of a column, exact, with linear interpolation; NaN counts as missing.

    Args:
        on: the column of numbers.
        q: from 0 to 1; 0.5 is the median.
        ignore_nulls: leave nulls out; otherwise one null makes the result None.
        alias_name: name of the result; ``"quantile(<on>)"`` by default.
    """

    def __init__(
        self, on: str | None = None, q: float = 0.5, ignore_nulls: bool = True, alias_name: str | None = None
    ) -> None:
        if isinstance(q, bool) or not isinstance(q, (int, float)):
            raise TypeError(f"Quantile(q=) must be a number from 0 to 1, got {q!r}")
        if not 0 <= q <= 1:
            raise ValueError(f"Quantile takes q from 0 to 1, not {q!r}")
        VectorizedAggregateFnV2.__init__(self, "quantile", on, ignore_nulls, alias_name)
        self._q = q

    def partial(self, groups: Groups, block: pa.Table, keys: Sequence[str]) -> list[pa.Array]:
        """Return the values as lists of floats, and how many are missing."""
        column = self.column(block).cast(pa.float64(), safe=False)
        missing = groups.total(pc.is_null(column, nan_is_null=True))
        rest, values = _without(groups, column, nan_is_null=True)
        return [rest.lists(values), missing]

    def combine_partials(self, groups: Groups, columns: Sequence[pa.ChunkedArray]) -> list[pa.Array]:
        """Return concatenations, and sums of the missing."""
        return [_concatenated(groups, columns[0]), groups.total(columns[1])]

    def finish(self, columns: Sequence[pa.ChunkedArray]) -> pa.Array | pa.ChunkedArray:
        """Sort the values of all groups at once and interpolate at each group's place."""
        lists = as_array(columns[0])
        lengths = pc.fill_null(pc.list_value_length(lists), 0).cast(pa.int64())
        starts = pc.subtract(pc.cumulative_sum(lengths), lengths)
        table = pa.table({"g": pc.list_parent_indices(lists), "v": pc.list_flatten(lists)})
        ordered = as_array(table["v"]).take(
            pc.sort_indices(table, sort_keys=[("g", "ascending"), ("v", "ascending")])
        )
        place = pc.multiply(pc.subtract(lengths, 1).cast(pa.float64()), self._q)
        below = pc.floor(place)
        empty = pc.equal(lengths, 0)
        lower = pc.if_else(empty, pa.scalar(None, pa.int64()), pc.add(starts, below.cast(pa.int64())))
        upper = pc.if_else(
            empty, pa.scalar(None, pa.int64()), pc.add(starts, pc.ceil(place).cast(pa.int64()))
        )
        weight = pc.subtract(place, below)
        low, high = ordered.take(lower), ordered.take(upper)
        result = pc.add(
            pc.if_else(pc.equal(weight, 1.0), 0.0, pc.multiply(low, pc.subtract(1.0, weight))),
            pc.if_else(pc.equal(weight, 0.0), 0.0, pc.multiply(high, weight)),
        )
        result = pc.if_else(empty, pa.scalar(None, pa.float64()), result)
        if self._ignore_nulls:
            return result
        return pc.if_else(pc.greater(as_array(columns[1]), 0), pa.scalar(None, pa.float64()), result)


class Unique(VectorizedAggregateFnV2):
    """The distinct values of a column as a list, in the order of their first rows.

    Args:
        on: the column.
        ignore_nulls: leave None out.
        alias_name: name of the result; ``"unique(<on>)"`` by default.
        encode_lists: what a column of lists means: ``None`` or ``False``: a list is one value; ``True`` or
            ``ListEncodingMode.FLATTEN``: its elements are values; ``ListEncodingMode.HASH``: a list is
            one value and the result has 64-bit hashes of the lists.
    """

    class ListEncodingMode(str, Enum):
        """Ways to count lists."""

        FLATTEN = "flatten"
        HASH = "hash"

    _name_of_kind = "unique"

    def __init__(
        self,
        on: str | None = None,
        ignore_nulls: bool = False,
        alias_name: str | None = None,
        encode_lists: bool | ListEncodingMode | None = None,
    ) -> None:
        super().__init__(self._name_of_kind, on, ignore_nulls, alias_name)
        self._encode_lists = (
            self.ListEncodingMode.FLATTEN
            if encode_lists is True
            else self.ListEncodingMode(encode_lists)
            if encode_lists
            else None
        )

    def partial(self, groups: Groups, block: pa.Table, keys: Sequence[str]) -> list[pa.Array]:
        """Return the distinct values of each group."""
        column = self.column(block)
        if is_nested(column.type) and self._encode_lists is self.ListEncodingMode.FLATTEN:
            groups, flat = _flattened(groups, as_array(column))
            column = pa.chunked_array([flat])
        elif is_nested(column.type) and self._encode_lists is self.ListEncodingMode.HASH:
            column = pa.chunked_array([pc.if_else(column.is_valid(), hash_column(column), None)])
        if self._ignore_nulls:
            groups, column = _without(groups, column)
        once, values, _ = _distinct(groups, as_array(column))
        return [once.lists(values)]

    def combine_partials(self, groups: Groups, columns: Sequence[pa.ChunkedArray]) -> list[pa.Array]:
        """Return the distinct values of all lists of a group."""
        once, values, _ = _distinct(*_flattened(groups, as_array(columns[0])))
        return [once.lists(values)]

    def finish(self, columns: Sequence[pa.ChunkedArray]) -> pa.Array | pa.ChunkedArray:
        """Return the lists."""
        return columns[0]


class CountDistinct(Unique):
    """The number of distinct values of a column, exact.

    Args:
        on: the column.
        ignore_nulls: None does not count as a value.
        alias_name: name of the result; ``"count_distinct(<on>)"`` by default.
    """

    _name_of_kind = "count_distinct"

    def __init__(self, on: str, ignore_nulls: bool = True, alias_name: str | None = None) -> None:
        super().__init__(on, ignore_nulls, alias_name)

    def finish(self, columns: Sequence[pa.ChunkedArray]) -> pa.Array | pa.ChunkedArray:
        """Return the lengths of the lists."""
        return pc.fill_null(pc.list_value_length(columns[0]), 0).cast(pa.int64())


class ValueCounter(VectorizedAggregateFnV2):
    """How often each value of a column is there: ``{"values": [...], "counts": [...]}``, None among them.

    Args:
        on: the column.
        alias_name: name of the result; ``"value_counter(<on>)"`` by default.
    """

    def __init__(self, on: str, alias_name: str | None = None) -> None:
        super().__init__("value_counter", on, False, alias_name)

    def partial(self, groups: Groups, block: pa.Table, keys: Sequence[str]) -> list[pa.Array]:
        """Return distinct values and their counts."""
        once, values, counts = _distinct(groups, as_array(self.column(block)))
        return [once.lists(values), once.lists(counts)]

    def combine_partials(self, groups: Groups, columns: Sequence[pa.ChunkedArray]) -> list[pa.Array]:
        """Add up the counts of equal values."""
        flat, values = _flattened(groups, as_array(columns[0]))
        counts = pc.list_flatten(as_array(columns[1]))
        pairs = Groups.by([values] if flat.ids is None else [flat.ids, values], len(values))
        ids = None if flat.ids is None else flat.ids.take(pairs.first)
        once = Groups(ids, groups.count, len(pairs.first)).select(
            pa.repeat(pa.scalar(True), len(pairs.first))
        )
        return [once.lists(values.take(pairs.first)), once.lists(pairs.total(counts))]

    def finish(self, columns: Sequence[pa.ChunkedArray]) -> pa.Array | pa.ChunkedArray:
        """Return both lists as one struct."""
        return pa.StructArray.from_arrays(
            [as_array(columns[0]), as_array(columns[1])], names=["values", "counts"]
        )
