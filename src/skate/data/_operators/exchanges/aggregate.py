"""Aggregates by groups, or over everything.

Each task makes partial results of its rows, one row a group, before anything moves; so a key that half of
all rows have costs one row a task. Partial results go to the bucket of their key and are combined there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa

from skate.data._block.kernels.arrays import take
from skate.data._block.kernels.grouping import Groups
from skate.data._block.kernels.hashing import bucket_of, hash_rows
from skate.data._block.kernels.sorting import SortKey, sort_indices
from skate.data._block.tables import combine, compact, concat, size_bytes, slice_rows
from skate.data._operators.exchanges.partitions import (
    BUCKETS,
    bucket_bundles,
    cluster,
    cut_blocks,
    folded,
    key_columns,
)
from skate.data._operators.functions import first_row
from skate.data._operators.own_process import OwnProcess
from skate.data._task.exchange import Exchange, ExchangeLimits
from skate.data._task.operators import Made, Operator, Replica, TaskContext
from skate.data._task.slices import BlockSlice, Bundle
from skate.data.aggregate import AggregateFn
from skate.data.exceptions import RowCrashedError, wrap

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
        return _Partial(self.keys, self.aggregates, self.name)

    def plan(self, sides: Sequence[Sequence[BlockSlice]], limits: ExchangeLimits) -> list[Bundle]:
        """Return bundles of buckets; one bundle without keys, also if there are no blocks."""
        (side,) = sides
        if not self.keys:
            return [Bundle(tuple(side))]
        return bucket_bundles([side], limits, bundles=self.bundles)

    def merge(self) -> Operator:
        """Return the operator that combines and finishes."""
        return _Final(self.keys, self.aggregates, self.name)


class _Step(OwnProcess):
    """Base of both steps.

    ``_answer`` makes all calls of functions of users: ``("_partial", block)``, ``("_combined", tables)``,
    ``("_finished", table)``.
    """

    def __init__(self, keys: tuple[str, ...], aggregates: tuple[AggregateFn, ...], name: str) -> None:
        self.keys = keys
        self.aggregates = aggregates
        self.name = name

    def open(self, position: int, replica: Replica) -> None:
        """Note the place of a step that calls what users wrote."""
        if any(is_users(aggregate) for aggregate in self.aggregates):
            super().open(position, replica)

    def make_for_child(self) -> Callable[[Any], Any]:
        """Return what answers calls."""
        return self._answer

    def _answer(self, call: tuple[str, Any]) -> Any:
        name, data = call
        return getattr(self, name)(data)

    def _asked(self, ask: Callable[[Any], Any], name: str, data: Any) -> Any:
        """Make a call, maybe in a process of its own.

        Raises:
            RowCrashedError: it ended its process; the error names the row, if it was one.
        """
        try:
            return ask((name, data))
        except RowCrashedError as error:
            row = None
            if name == "_partial":
                error, row = self._searched(ask, data, error)
            raise wrap(error, self.name, row, has_on_error=False) from error

    def _searched(
        self, ask: Callable[[Any], Any], block: pa.Table, error: RowCrashedError
    ) -> tuple[RowCrashedError, dict[str, Any] | None]:
        """Return the crash of a single row and that row; if no row alone crashes, the error of all."""
        rows = block
        while rows.num_rows > 1:
            half = slice_rows(rows, 0, rows.num_rows // 2)
            has_crashed = self._crash(ask, half) is not None
            rows = half if has_crashed else slice_rows(rows, half.num_rows, rows.num_rows)
        crash = self._crash(ask, rows)
        return (error, None) if crash is None else (crash, first_row(rows))

    def _crash(self, ask: Callable[[Any], Any], rows: pa.Table) -> RowCrashedError | None:
        try:
            ask(("_partial", compact(combine(rows))))
        except RowCrashedError as error:
            return error
        except Exception:
            pass  # another error than the one that is searched for
        return None

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
        with self.calls(task, self._answer) as ask:
            for block in blocks:
                waiting.append(self._asked(ask, "_partial", block))
                total += size_bytes(waiting[-1])
                if total > task.target_max_block_bytes:
                    combined = self._asked(ask, "_combined", waiting)
                    waiting, total = [combined], size_bytes(combined)
                    if total > task.target_max_block_bytes // 2:
                        yield self._made(combined)
                        waiting, total = [], 0
            if waiting:
                yield self._made(self._asked(ask, "_combined", waiting) if len(waiting) > 1 else waiting[0])

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
        with self.calls(task, self._answer) as ask:
            table = folded(blocks, partial(self._asked, ask, "_combined"), task)
            if table is None and self.keys:
                return
            table = self._asked(ask, "_finished", table)
        yield from cut_blocks(table, task.target_max_block_bytes)

    def _finished(self, table: pa.Table | None) -> pa.Table:
        if table is None:
            nothing = _Partial((), self.aggregates, self.name)._partial(_Nothing.table(self.aggregates))
            table = self._combined([nothing])
        if self.keys:
            table = _in_order(table, len(self.keys))
        columns = {name: table[f"k{number}"] for number, name in enumerate(self.keys)}
        for number, aggregate in enumerate(self.aggregates):
            columns[aggregate.name] = aggregate.finish(_columns_of(table, number))
        return pa.table(columns)


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


def is_users(aggregate: AggregateFn) -> bool:
    """Tell whether an aggregate calls what a user wrote."""
    return type(aggregate) is AggregateFn or not type(aggregate).__module__.startswith("skate.data.")
