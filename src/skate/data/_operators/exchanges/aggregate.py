"""Aggregates by groups, or over everything.

Each task makes partial results of its rows, one row a group, before anything moves; so a key that half of
all rows have costs one row a task. Partial results go to the bucket of their key and are combined there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from skate.data._block.kernels.arrays import take
from skate.data._block.kernels.grouping import Groups
from skate.data._block.kernels.hashing import bucket_of, hash_rows
from skate.data._block.kernels.sorting import SortKey, sort_indices
from skate.data._block.tables import concat, size_bytes
from skate.data._operators.exchanges.partitions import (
    BUCKETS,
    bucket_bundles,
    cluster,
    cut_blocks,
    folded,
    key_columns,
)
from skate.data._task.exchange import Exchange, ExchangeLimits
from skate.data._task.operators import Made, Operator, TaskContext
from skate.data._task.slices import BlockSlice, Bundle
from skate.data.aggregate import AggregateFn

_SORTED_GROUPS = 100_000
"""Up to so many groups of a bundle come out in the order of their keys."""


@dataclass(frozen=True)
class Aggregate(Exchange):
    """Aggregates by groups, or of all rows.

    Attributes:
        keys: the columns whose equal values make a group; none: all rows are one group, which is there
            even if there are no rows. Null is a key of its own.
        aggregates: what is computed; the columns of the result are the keys, then these in order.
        bundles: number of output partitions; None: by bytes.
    """

    keys: tuple[str, ...]
    aggregates: tuple[AggregateFn, ...]
    bundles: int | None = None

    def __post_init__(self) -> None:
        names = [*self.keys, *(aggregate.name for aggregate in self.aggregates)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(
                f"groupby: several columns of the result would be called {twice}; give aggregates an "
                "alias_name"
            )

    @property
    def name(self) -> str:  # type: ignore[override]
        """For people."""
        what = ", ".join(aggregate.name for aggregate in self.aggregates)
        return f"Aggregate({', '.join(self.keys)}: {what})" if self.keys else f"Aggregate({what})"

    def partition(self, side: int) -> Operator:
        """Return the operator of partial results."""
        return _Partial(self.keys, self.aggregates)

    def plan(self, sides: Sequence[Sequence[BlockSlice]], limits: ExchangeLimits) -> list[Bundle]:
        """Return bundles of buckets; one bundle without keys, also if there are no blocks."""
        (side,) = sides
        if not self.keys:
            return [Bundle(tuple(side))]
        return bucket_bundles([side], limits, bundles=self.bundles)

    def merge(self) -> Operator:
        """Return the operator that combines and finishes."""
        return _Final(self.keys, self.aggregates)


class _Step(Operator):
    def __init__(self, keys: tuple[str, ...], aggregates: tuple[AggregateFn, ...]) -> None:
        self.keys = keys
        self.aggregates = aggregates
        self.name = type(self).__name__.strip("_")

    def _combined(self, partials: Sequence[pa.Table]) -> pa.Table:
        """Combine tables of partial results into one row a group."""
        table = concat(partials)
        keys = [table[f"k{number}"] for number in range(len(self.keys))]
        groups = Groups.by(keys, table.num_rows)
        if groups.count == table.num_rows and self.keys:
            return table
        columns = {f"k{number}": key for number, key in enumerate(groups.keys(keys))}
        for number, aggregate in enumerate(self.aggregates):
            inputs = _columns_of(table, number)
            for part, column in enumerate(aggregate.combine_partials(groups, inputs)):
                columns[f"a{number}.{part}"] = column
        return pa.table(columns)


def _columns_of(table: pa.Table, number: int) -> list[pa.ChunkedArray]:
    prefix = f"a{number}."
    return [table[name] for name in table.column_names if name.startswith(prefix)]


class _Partial(_Step):
    """Partial results of the rows of a task."""

    def process(self, blocks: Iterator[pa.Table], task: TaskContext) -> Iterator[pa.Table | Made]:
        """Yield one block of partial results, or several where groups are many."""
        waiting: list[pa.Table] = []
        total = 0
        for block in blocks:
            waiting.append(self._partial(block))
            total += size_bytes(waiting[-1])
            if total > task.target_max_block_bytes:
                combined = self._combined(waiting)
                waiting, total = [combined], size_bytes(combined)
                if total > task.target_max_block_bytes // 2:
                    yield self._made(combined)
                    waiting, total = [], 0
        if waiting:
            yield self._made(self._combined(waiting) if len(waiting) > 1 else waiting[0])

    def _made(self, table: pa.Table) -> pa.Table | Made:
        if not self.keys:
            return table
        hashes = hash_rows([table[f"k{number}"] for number in range(len(self.keys))])
        return Made(*cluster(table, bucket_of(hashes, BUCKETS), BUCKETS))

    def _partial(self, block: pa.Table) -> pa.Table:
        keys = key_columns(block, self.keys, "groupby")
        groups = Groups.by(keys, block.num_rows)
        columns = {f"k{number}": key for number, key in enumerate(groups.keys(keys))}
        for number, aggregate in enumerate(self.aggregates):
            for part, column in enumerate(aggregate.partial(groups, block, self.keys)):
                columns[f"a{number}.{part}"] = column
        table = pa.table(columns)
        return table.slice(0, 0) if block.num_rows == 0 else table


class _Final(_Step):
    """Results of the groups of a bundle."""

    def process(self, blocks: Iterator[pa.Table], task: TaskContext) -> Iterator[pa.Table | Made]:
        """Combine as blocks come, so that memory holds groups, not partial results."""
        table = folded(blocks, self._combined, task)
        if table is None:
            if self.keys:
                return
            nothing = _Partial((), self.aggregates)._partial(_Nothing.table(self.aggregates))
            table = self._combined([nothing])
        if self.keys:
            table = _in_order(table, len(self.keys))
        columns = {name: table[f"k{number}"] for number, name in enumerate(self.keys)}
        for number, aggregate in enumerate(self.aggregates):
            columns[aggregate.name] = aggregate.finish(_columns_of(table, number))
        yield from cut_blocks(pa.table(columns), task.target_max_block_bytes)


class _Nothing:
    """The columns that aggregates name, without rows: an input without blocks has no schema."""

    @staticmethod
    def table(aggregates: Sequence[AggregateFn]) -> pa.Table:
        names = {getattr(aggregate, "_target_col_name", None) for aggregate in aggregates}
        return pa.table({name: pa.nulls(0) for name in sorted(name for name in names if name)})


def _in_order(table: pa.Table, keys: int) -> pa.Table:
    """Sort groups by their keys where that is cheap and they have an order."""
    if table.num_rows > _SORTED_GROUPS:
        return table
    try:
        return take(table, sort_indices(table, [SortKey(f"k{number}") for number in range(keys)]))
    except (TypeError, pa.ArrowNotImplementedError):
        return table
