"""The protocol of aggregates: partial results of a block, their combination, the final value."""

from __future__ import annotations

import itertools
import math
import pickle
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from skate.data._block.kernels.arrays import column_of, plain, take
from skate.data._block.kernels.grouping import Groups
from skate.data._block.rows import from_rows
from skate.data._previews import cell


class AggregateFn:
    """An aggregate of plain functions (Ray's first protocol).

    Args:
        init: makes the accumulator of a key: ``init(key)``; the key is None without groups, a tuple of
            several keys.
        merge: joins two accumulators: ``merge(a, b)``.
        accumulate_row: takes a row in: ``accumulate_row(accumulator, row)``, the row as a dict.
        accumulate_block: takes the rows of one key in: ``accumulate_block(accumulator, table)``; give one
            of the two.
        finalize: turns an accumulator into the result; by default it is the result.
        name: name of the result's column.

    Raises:
        TypeError: both or none of the accumulate functions are given, or there is no name.

    Example:
        >>> ds.aggregate(AggregateFn(lambda key: 0, lambda a, b: a + b,
        ...                          accumulate_row=lambda a, row: a + row["id"], name="total"))
    """

    name: str

    def __init__(
        self,
        init: Callable[[Any], Any],
        merge: Callable[[Any, Any], Any],
        accumulate_row: Callable[[Any, dict[str, Any]], Any] | None = None,
        accumulate_block: Callable[[Any, pa.Table], Any] | None = None,
        finalize: Callable[[Any], Any] | None = None,
        name: str | None = None,
    ) -> None:
        if (accumulate_row is None) == (accumulate_block is None):
            raise TypeError("AggregateFn takes either accumulate_row or accumulate_block, and one of them")
        if not isinstance(name, str):
            raise TypeError(f"AggregateFn needs name=, the result's column, as a string, not {name!r}")
        self.name = name
        self._init = init
        self._merge = merge
        self._accumulate_row = accumulate_row
        self._accumulate_block = accumulate_block
        self._finalize = finalize

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    # The exchange calls these; ``groups`` says which rows belong together, a column has an entry for each
    # group.

    def partial(self, groups: Groups, block: pa.Table, keys: Sequence[str]) -> list[pa.Array]:
        """Return columns of accumulators, one entry for each group of a block."""
        pickled = [
            pickle.dumps(self._accumulate(part, _key(part, keys))) for part in group_tables(groups, block)
        ]
        return [pa.array(pickled, pa.large_binary())]

    def combine_partials(self, groups: Groups, columns: Sequence[pa.ChunkedArray]) -> list[pa.Array]:
        """Return columns of accumulators, one entry for each group of accumulators."""
        pickled = []
        for part in group_tables(groups, pa.table({"a": columns[0]})):
            values = part["a"].to_pylist()
            if len(values) == 1:
                pickled.append(values[0])
                continue
            loaded = [pickle.loads(value) for value in values]
            total = loaded[0] if loaded else self._start()
            for other in loaded[1:]:
                total = self._join(total, other)
            pickled.append(pickle.dumps(total))
        return [pa.array(pickled, pa.large_binary())]

    def finish(self, columns: Sequence[pa.ChunkedArray]) -> pa.Array | pa.ChunkedArray:
        """Return the result of each group."""
        return values_array([self._end(pickle.loads(value)) for value in columns[0].to_pylist()])

    def output_field(self, input_schema: pa.Schema) -> pa.Field:
        """Return name and type of the result for rows of a schema."""
        empty = input_schema.empty_table()
        columns = self.combine_partials(
            Groups.by([pa.array([], pa.int8())], 0),
            self.partial(Groups.by([pa.array([], pa.int8())], 0), empty, ()),
        )
        return pa.field(self.name, self.finish([pa.chunked_array([c]) for c in columns]).type)

    # One accumulator.

    def _start(self) -> Any:
        return self._init(None)

    def _accumulate(self, rows: pa.Table, key: Any) -> Any:
        accumulator = self._init(key)
        if self._accumulate_block is not None:
            return self._accumulate_block(accumulator, rows)
        assert self._accumulate_row is not None
        for row in rows.to_pylist():
            accumulator = self._accumulate_row(accumulator, row)
        return accumulator

    def _join(self, first: Any, second: Any) -> Any:
        return self._merge(first, second)

    def _end(self, accumulator: Any) -> Any:
        return accumulator if self._finalize is None else self._finalize(accumulator)


class AggregateFnV2(AggregateFn):
    """The base of aggregates that users write.

    Args:
        name: name of the result's column.
        zero_factory: makes the accumulator of no rows.
        on: the column; None: the whole row.
        ignore_nulls: a block whose result is None or NaN is left out; otherwise one such block makes the
            whole None.

    Example:
        >>> class Longest(AggregateFnV2):
        ...     def __init__(self, on):
        ...         super().__init__(f"longest({on})", lambda: 0, on=on, ignore_nulls=True)
        ...     def aggregate_block(self, block):
        ...         return max((len(text) for text in block["text"].to_pylist()), default=None)
        ...     def combine(self, current, new):
        ...         return max(current, new)
    """

    def __init__(
        self,
        name: str,
        zero_factory: Callable[[], Any],
        *,
        on: str | None,
        ignore_nulls: bool,
    ) -> None:
        if not name:
            raise ValueError(f"{type(self).__name__} needs a name for its column")
        self.name = name
        self._zero = zero_factory
        self._target_col_name = on
        self._ignore_nulls = ignore_nulls

    @abstractmethod
    def aggregate_block(self, block: pa.Table) -> Any:
        """Return the accumulator of the rows of one group in one block."""
        raise NotImplementedError(f"{type(self).__name__} must define aggregate_block(block)")

    @abstractmethod
    def combine(self, current_accumulator: Any, new: Any) -> Any:
        """Return one accumulator for two."""
        raise NotImplementedError(f"{type(self).__name__} must define combine(current_accumulator, new)")

    def finalize(self, accumulator: Any) -> Any:
        """Return the result; by default it is the accumulator."""
        return accumulator

    def get_target_column(self) -> str | None:
        """Return the column that is aggregated, None for the whole row."""
        return self._target_col_name

    def get_agg_name(self) -> str:
        """Return what the aggregate is called without its column: ``"sum"`` of ``"sum(id)"``."""
        return self.name.partition("(")[0]

    def _start(self) -> Any:
        return None if self._ignore_nulls else self._zero()

    def _accumulate(self, rows: pa.Table, key: Any) -> Any:
        return self._join(self._start(), self.aggregate_block(rows))

    def _join(self, first: Any, second: Any) -> Any:
        if _is_missing(first):
            return second if self._ignore_nulls else first
        if _is_missing(second):
            return first if self._ignore_nulls else second
        return self.combine(first, second)

    def _end(self, accumulator: Any) -> Any:
        return None if accumulator is None else self.finalize(accumulator)


class VectorizedAggregateFnV2(AggregateFnV2):
    """The base of built-in aggregates, which work on all groups of a block at a time."""

    def __init__(self, kind: str, on: str | None, ignore_nulls: bool, alias_name: str | None) -> None:
        if on is not None and not isinstance(on, str):
            raise TypeError(f"{type(self).__name__}(on=) takes the name of a column, got {cell(on)}")
        super().__init__(alias_name or f"{kind}({on or ''})", _no_value, on=on, ignore_nulls=ignore_nulls)
        self._kind = kind

    def get_agg_name(self) -> str:
        """Return what the aggregate is called without its column."""
        return self._kind

    def column(self, block: pa.Table) -> pa.ChunkedArray:
        """Return the column to aggregate.

        Raises:
            ValueError: no column was named.
            MissingColumnError: there is none of that name.
        """
        name = self._target_col_name
        if name is None:
            raise ValueError(f"{type(self).__name__} needs a column: {type(self).__name__}('name')")
        return plain(column_of(block, name, self.name))

    def aggregate_block(self, block: pa.Table) -> Any:
        """Return the partial results of a block as a list of values."""
        return [column[0].as_py() for column in self.partial(Groups.single(block.num_rows), block, ())]

    def combine(self, current_accumulator: Any, new: Any) -> Any:
        """Return one list of partial results for two."""
        pairs = [pa.chunked_array([pa.array(pair)]) for pair in zip(current_accumulator, new, strict=True)]
        return [column[0].as_py() for column in self.combine_partials(Groups.single(2), pairs)]

    def finalize(self, accumulator: Any) -> Any:
        """Return the result of a list of partial results."""
        return self.finish([pa.chunked_array([pa.array([value])]) for value in accumulator])[0].as_py()

    @abstractmethod
    def partial(self, groups: Groups, block: pa.Table, keys: Sequence[str]) -> list[pa.Array]:
        """Return columns of partial results, one entry for each group of a block."""

    @abstractmethod
    def combine_partials(self, groups: Groups, columns: Sequence[pa.ChunkedArray]) -> list[pa.Array]:
        """Return columns of partial results, one entry for each group of partial results."""

    @abstractmethod
    def finish(self, columns: Sequence[pa.ChunkedArray]) -> pa.Array | pa.ChunkedArray:
        """Return the result of each group."""


def group_tables(groups: Groups, block: pa.Table) -> Iterator[pa.Table]:
    """Return the rows of each group, in the groups' order."""
    ordered = block if groups.ids is None else take(block, groups.order)
    offsets = groups.offsets.to_pylist()
    for start, stop in itertools.pairwise(offsets):
        yield ordered.slice(start, stop - start)


def values_array(values: list[Any]) -> pa.Array | pa.ChunkedArray:
    """Return results of user functions as a column, of whatever types rows may have."""
    return from_rows([{"value": value} for value in values])["value"] if values else pa.nulls(0)


def _key(rows: pa.Table, keys: Sequence[str]) -> Any:
    if not keys or not rows.num_rows:
        return None
    values = tuple(rows[name][0].as_py() for name in keys)
    return values[0] if len(values) == 1 else values


def _no_value() -> None:
    return None


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
