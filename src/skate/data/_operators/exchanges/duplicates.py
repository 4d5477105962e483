"""Exact duplicates: one row of each, the first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from skate.data._block import arrow_compute as pc
from skate.data._block.kernels.arrays import take
from skate.data._block.kernels.grouping import Groups
from skate.data._block.kernels.hashing import bucket_of, hash_named
from skate.data._block.kernels.sorting import key_column
from skate.data._block.tables import concat
from skate.data._operators.exchanges.partitions import (
    BUCKETS,
    bucket_bundles,
    cluster,
    cut_blocks,
    folded,
)
from skate.data._task.exchange import Exchange, ExchangeLimits
from skate.data._task.operators import Made, Operator, TaskContext
from skate.data._task.slices import BlockSlice, Bundle


@dataclass(frozen=True)
class DropDuplicates(Exchange):
    """One row, the first, of all that are equal in some columns. Nulls are equal, as is NaN.

    Attributes:
        on: the columns; None: all.
        only: keep no other columns than ``on``: the distinct values.
    """

    on: tuple[str, ...] | None = None
    only: bool = False

    @property
    def name(self) -> str:  # type: ignore[override]
        """For people."""
        return f"{'Unique' if self.only else 'DropDuplicates'}({', '.join(self.on or ())})"

    def partition(self, side: int) -> Operator:
        """Return the operator that drops duplicates within a task."""
        return _First(self.on, self.only, is_last=False)

    def plan(self, sides: Sequence[Sequence[BlockSlice]], limits: ExchangeLimits) -> list[Bundle]:
        """Return bundles of buckets."""
        return bucket_bundles(sides, limits)

    def merge(self) -> Operator:
        """Return the operator that drops duplicates of a bundle."""
        return _First(self.on, self.only, is_last=True)


def unique(column: str) -> DropDuplicates:
    """Return the exchange that gives the distinct values of a column, None among them."""
    return DropDuplicates((column,), only=True)


class _First(Operator):
    def __init__(self, on: tuple[str, ...] | None, only: bool, is_last: bool) -> None:
        self.on = on
        self.only = only
        self.is_last = is_last
        self.name = "FirstOfEqual"

    def process(self, blocks: Iterator[pa.Table], task: TaskContext) -> Iterator[pa.Table | Made]:
        """Yield the first of equal rows, in the rows' order; clustered before the exchange."""
        table = folded(blocks, lambda waiting: self._first(concat(waiting, task.on_conflict)), task)
        if table is None:
            return
        if self.is_last:
            yield from cut_blocks(table, task.target_max_block_bytes)
            return
        for block in cut_blocks(table, task.target_max_block_bytes):
            hashes = hash_named(block, self._names(block))
            yield Made(*cluster(block, bucket_of(hashes, BUCKETS), BUCKETS))

    def _names(self, table: pa.Table) -> Sequence[str]:
        return self.on if self.on is not None else table.column_names

    def _first(self, table: pa.Table) -> pa.Table:
        names = self._names(table)
        columns = [key_column(table, name, "drop_duplicates") for name in names]
        if self.only:
            table = table.select(list(names))
        groups = Groups.by(columns, table.num_rows)
        if groups.count == table.num_rows:
            return table
        return take(table, pc.drop_null(groups.first))
