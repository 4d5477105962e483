"""Sort: runs, boundaries drawn from samples, merge of the runs' ranges.

Pass 1 sorts the rows of each task and samples its keys. The plan puts all samples in one order and takes
every n-th as a boundary. A boundary is a place in the order of (key, run, row), not a key, so the rows of
one frequent key spread over as many bundles as they need. From each run a bundle gets the rows between
the samples around its
boundaries: a few too many. The boundary rows themselves are among them; the merge sorts, which is stable,
    finds both
and cuts there: exact, and nobody compares keys in Python.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from skate.data._block import arrow_compute as pc
from skate.data._block.kernels.arrays import as_array, offsets_of, plain, take
from skate.data._block.kernels.sorting import SortKey, is_identity, sort_indices
from skate.data._block.tables import compact, concat, slice_rows
from skate.data._operators.exchanges.partitions import (
    Offsets,
    bucket_bundles,
    bundle_count,
    cut_blocks,
    groups_of_blocks,
    with_schema,
)
from skate.data._task.exchange import Exchange, ExchangeLimits
from skate.data._task.operators import Made, Operator, TaskContext
from skate.data._task.slices import BlockSlice, Bundle

_SAMPLES = 128
"""Samples of a run: a bundle reads at most two of their strides more of each run than it needs."""


@dataclass(frozen=True, slots=True)
class Samples:
    """Keys of some rows of a run: ``Made.extra`` of a run.

    Attributes:
        rows: numbers of the rows, ascending, from 0.
        keys: their keys.
    """

    rows: tuple[int, ...]
    keys: pa.Table


@dataclass(frozen=True, slots=True)
class Between:
    """Rows that a merge keeps: those from one boundary row to before another.

    Attributes:
        first: number of the slice and of the row in it, of the first row; None: from the beginning.
        end: of the row after the last; None: to the end.
    """

    first: tuple[int, int] | None = None
    end: tuple[int, int] | None = None


@dataclass(frozen=True)
class Sort(Exchange):
    """All rows in the order of some columns: stable, NaN after numbers, nulls last in both directions.

    Attributes:
        keys: columns and directions.
        boundaries: ascending values of the first key at which the output is cut into blocks; None: by
            bytes.
    """

    keys: tuple[SortKey, ...]
    boundaries: tuple[Any, ...] | None = None
    is_ordered = True

    @property
    def name(self) -> str:  # type: ignore[override]
        """For people."""
        return f"Sort({', '.join(f'-{key.name}' if key.descending else key.name for key in self.keys)})"

    def partition(self, side: int) -> Operator:
        """Return the operator that sorts a run."""
        return _SortRun(self.keys, self.boundaries)

    def plan(self, sides: Sequence[Sequence[BlockSlice]], limits: ExchangeLimits) -> list[Bundle]:
        """Return one bundle for each range of the order."""
        (runs,) = sides
        if self.boundaries is not None:
            count = len(self.boundaries) + 1
            found = bucket_bundles([runs], limits, buckets=count, bundles=count)
            return [Bundle(bundle.slices) for bundle in found]
        filled = [run for run in runs if run.num_rows]
        count = bundle_count(sum(run.size_bytes for run in filled), limits)
        if count == 1 or len(filled) == 0:
            return [Bundle(tuple(with_schema(filled, runs)))] if runs else []
        return _ranges(filled, self.keys, count)

    def merge(self) -> Operator:
        """Return the operator that merges ranges of runs."""
        return _MergeRuns(self.keys)


@dataclass(frozen=True)
class TopK(Exchange):
    """The first rows in the order of some columns: a sort with a limit, of which only ``rows`` a task
    survive.

    Attributes:
        keys: columns and directions.
        rows: how many.
    """

    keys: tuple[SortKey, ...]
    rows: int
    is_ordered = True

    @property
    def name(self) -> str:  # type: ignore[override]
        """For people."""
        return f"TopK({', '.join(key.name for key in self.keys)}, {self.rows})"

    def partition(self, side: int) -> Operator:
        """Return the operator that keeps the first rows of a task."""
        return _First(self.keys, self.rows)

    def plan(self, sides: Sequence[Sequence[BlockSlice]], limits: ExchangeLimits) -> list[Bundle]:
        """Return one bundle."""
        (side,) = sides
        return [Bundle(tuple(side))] if side else []

    def merge(self) -> Operator:
        """Return the operator that keeps the first rows of all."""
        return _First(self.keys, self.rows)


class _First(Operator):
    def __init__(self, keys: tuple[SortKey, ...], rows: int) -> None:
        self.keys = keys
        self.rows = max(0, rows)
        self.name = f"First({self.rows})"

    def process(self, blocks: Iterator[pa.Table], task: TaskContext) -> Iterator[pa.Table | Made]:
        """Yield one block."""
        best: pa.Table | None = None
        for table in groups_of_blocks(blocks, 32 << 20, task.on_conflict):
            table = table if best is None else concat([best, table], task.on_conflict)
            best = take(table, sort_indices(table, self.keys).slice(0, self.rows))
        if best is not None:
            yield best


class _SortRun(Operator):
    def __init__(self, keys: tuple[SortKey, ...], boundaries: tuple[Any, ...] | None) -> None:
        self.keys = keys
        self.boundaries = boundaries
        self.name = "SortRun"

    def process(self, blocks: Iterator[pa.Table], task: TaskContext) -> Iterator[pa.Table | Made]:
        """Yield sorted runs with samples of their keys, or with offsets of the boundaries."""
        for table in groups_of_blocks(blocks, task.target_max_block_bytes, task.on_conflict):
            order = sort_indices(table, self.keys)
            run = compact(table) if is_identity(order) else take(table, order)
            if self.boundaries is not None:
                yield Made(run, _offsets_at(run, self.keys[0], self.boundaries))
            else:
                yield Made(run, _samples(run, self.keys))


def _samples(run: pa.Table, keys: Sequence[SortKey]) -> Samples:
    count = min(run.num_rows, _SAMPLES)
    rows = tuple(number * run.num_rows // count for number in range(count))
    at = pa.array(rows, pa.int64())
    columns = {str(number): as_array(plain(run[key.name]).take(at)) for number, key in enumerate(keys)}
    return Samples(rows, pa.table(columns))


def _offsets_at(run: pa.Table, key: SortKey, boundaries: Sequence[Any]) -> Offsets:
    """Return where the values of each boundary begin in a run; nulls and NaN are in the last part."""
    column = plain(run[key.name])
    starts = []
    for value in reversed(boundaries) if key.descending else boundaries:
        starts.append(int(pc.sum(_before(column, key, value)).as_py() or 0))
    return Offsets((0, *starts, run.num_rows))


def check_boundaries(column: pa.DataType, key: SortKey, boundaries: Sequence[Any]) -> None:
    """Raise TypeError for boundaries that values of the first key cannot be compared with."""
    for value in boundaries:
        _before(plain(pa.chunked_array([], column)), key, value)


def _before(column: pa.ChunkedArray, key: SortKey, value: Any) -> pa.ChunkedArray:
    """Return which rows lie before a boundary."""
    try:
        return pc.greater_equal(column, value) if key.descending else pc.less(column, value)
    except (pa.ArrowException, TypeError) as error:
        raise TypeError(
            f"sort(boundaries=): {value!r} cannot be compared with the column {key.name!r}, which is "
            f"{column.type}"
        ) from error


def _ranges(runs: Sequence[BlockSlice], keys: Sequence[SortKey], count: int) -> list[Bundle]:
    samples = [run.meta.extra for run in runs]
    everything = concat([sample.keys for sample in samples])
    order = sort_indices(everything, [SortKey(str(n), key.descending) for n, key in enumerate(keys)])
    firsts = offsets_of([len(sample.rows) for sample in samples])
    places = [(run, at) for run, sample in enumerate(samples) for at in range(len(sample.rows))]
    weights = [run.size_bytes / len(sample.rows) for run, sample in zip(runs, samples, strict=True)]
    ranked = [places[number] for number in order.to_pylist()]
    ranks = [0] * len(places)
    for rank, number in enumerate(order.to_pylist()):
        ranks[number] = rank
    by_run = [ranks[start:stop] for start, stop in itertools.pairwise(firsts)]
    edges = _edges(ranked, weights, count)
    bundles = []
    for low, high in zip([None, *edges], [*edges, None], strict=True):
        slices: list[BlockSlice] = []
        first = end = None
        for number, (run, sample) in enumerate(zip(runs, samples, strict=True)):
            start = 0 if low is None else _start(by_run[number], sample.rows, low)
            stop = run.num_rows if high is None else _stop(by_run[number], sample.rows, high, run.num_rows)
            if start >= stop:
                continue
            if low is not None and ranked[low][0] == number:
                first = (len(slices), 0)
            if high is not None and ranked[high][0] == number:
                end = (len(slices), stop - start - 1)
            slices.append(run.rows(start, stop))
        bundles.append(Bundle(tuple(slices), Between(first, end)))
    return bundles


def _edges(ranked: Sequence[tuple[int, int]], weights: Sequence[float], count: int) -> list[int]:
    """Return ranks of the samples at which the order is cut into parts of equal bytes."""
    total = sum(weights[run] for run, _ in ranked)
    edges: list[int] = []
    seen = 0.0
    for rank, (run, _) in enumerate(ranked):
        if rank > 0 and seen >= total * (len(edges) + 1) / count and len(edges) < count - 1:
            edges.append(rank)
        seen += weights[run]
    return edges


def _start(ranks: Sequence[int], rows: Sequence[int], edge: int) -> int:
    """Return the last sampled row that is not after the boundary: all rows from the boundary on are
    behind it.
    """
    found = 0
    for rank, row in zip(ranks, rows, strict=True):
        if rank > edge:
            break
        found = row
    return found


def _stop(ranks: Sequence[int], rows: Sequence[int], edge: int, num_rows: int) -> int:
    """Return the first sampled row that is not before the boundary; after the boundary row in its own
    run.
    """
    for rank, row in zip(ranks, rows, strict=True):
        if rank == edge:
            return row + 1
        if rank > edge:
            return row
    return num_rows


class _MergeRuns(Operator):
    def __init__(self, keys: tuple[SortKey, ...]) -> None:
        self.keys = keys
        self.name = "MergeRuns"

    def process(self, blocks: Iterator[pa.Table], task: TaskContext) -> Iterator[pa.Table | Made]:
        """Yield the rows between the boundaries, in order."""
        runs = list(blocks)
        if not runs:
            return
        table = concat(runs, task.on_conflict)
        between = task.params if isinstance(task.params, Between) else Between()
        if len(runs) == 1 and between == Between():
            yield from cut_blocks(table, task.target_max_block_bytes)
            return
        order = sort_indices(table, self.keys)
        starts = offsets_of([run.num_rows for run in runs])
        start = _place(order, starts, between.first, 0)
        stop = _place(order, starts, between.end, len(order))
        merged = take(table, order.slice(start, stop - start))
        yield from cut_blocks(slice_rows(merged, 0, merged.num_rows), task.target_max_block_bytes)


def _place(order: pa.Array, starts: Sequence[int], row: tuple[int, int] | None, default: int) -> int:
    if row is None:
        return default
    return int(pc.index(order, pa.scalar(starts[row[0]] + row[1], order.type)).as_py())
