"""Partitions by hash: fine buckets, clustered so that each is one range of rows of a block.

``Cluster`` sorts the rows of a task by the number of their bucket and tells where each begins.
``bucket_bundles`` puts consecutive buckets together until they make a good task, so nobody chooses a
number of partitions: a small input becomes one bundle, a large one as many as its bytes need.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from skate.data._block import arrow_compute as pc
from skate.data._block.kernels.arrays import offsets_of, take
from skate.data._block.kernels.hashing import bucket_of, hash_rows
from skate.data._block.kernels.sorting import key_column
from skate.data._block.tables import compact, concat, filter_rows, size_bytes, slice_rows
from skate.data._task.exchange import ExchangeLimits
from skate.data._task.operators import Made, Operator, TaskContext
from skate.data._task.slices import BlockSlice, Bundle

BUCKETS = 256
"""Buckets of a hash exchange: the plan of a few thousand blocks stays small, and a bucket is 20 MB of 5
GB.
"""

SMALL_BYTES = 8 << 20
"""A bundle is not made smaller than this for the sake of parallelism."""


def folded(
    blocks: Iterator[pa.Table], combine: Callable[[list[pa.Table]], pa.Table], task: TaskContext
) -> pa.Table | None:
    """Combine blocks as they come, so that memory holds results and a few blocks, not all blocks.

    Args:
        blocks: the input of a task.
        combine: makes one table of several; what it returned before is the first of them.
        task: says how many bytes of blocks may wait.

    Returns:
        All blocks combined; None if there are none.
    """
    waiting: list[pa.Table] = []
    total, kept = 0, 0
    for block in blocks:
        waiting.append(block)
        total += size_bytes(block)
        if total > max(task.target_max_block_bytes, 2 * kept):
            waiting = [combine(waiting)]
            kept = total = size_bytes(waiting[0])
    return combine(waiting) if waiting else None


@dataclass(frozen=True, slots=True)
class Offsets:
    """Where the buckets of a block begin: ``Made.extra`` of a clustered block.

    Attributes:
        rows: first row of each bucket, and the number of rows at the end.
    """

    rows: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Sides:
    """Facts that a merge gets about its bundle.

    Attributes:
        counts: number of slices of each side, in the order in which the slices come.
        size_bytes: bytes of each side.
        target_bytes: what the plan kept to; a bundle above it is one bucket that could not be made smaller.
    """

    counts: tuple[int, ...]
    size_bytes: tuple[int, ...]
    target_bytes: int


def groups_of_blocks(
    blocks: Iterator[pa.Table], target_bytes: int, on_conflict: str = "error"
) -> Iterator[pa.Table]:
    """Join consecutive blocks up to ``target_bytes``; empty blocks keep their schema, no blocks give
    nothing. ``on_conflict`` is as for ``concat``.
    """
    group: list[pa.Table] = []
    total = 0
    for block in blocks:
        group.append(block)
        total += size_bytes(block)
        if total >= target_bytes:
            yield concat(group, on_conflict)
            group, total = [], 0
    if group:
        yield concat(group, on_conflict)


def cut_blocks(table: pa.Table, target_bytes: int) -> Iterator[pa.Table]:
    """Cut a table into blocks of about ``target_bytes``; one of up to half more stays whole.

    Each has buffers of its own: a slice that is sent takes its parent's buffers along, once for each chunk.
    """
    size = size_bytes(table)
    pieces = 1 if size <= target_bytes * 3 // 2 else math.ceil(size / target_bytes)
    pieces = min(pieces, max(1, table.num_rows))
    for piece in range(pieces):
        start, stop = piece * table.num_rows // pieces, (piece + 1) * table.num_rows // pieces
        yield compact(slice_rows(table, start, stop))


def cluster(table: pa.Table, numbers: pa.Array, buckets: int) -> tuple[pa.Table, Offsets]:
    """Sort rows by the numbers of their buckets; rows of a bucket keep their order."""
    counted = pc.value_counts(numbers)
    counts = [0] * buckets
    for number, count in zip(
        counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True
    ):
        counts[number] = count
    if len(counted) > 1:
        narrow = numbers.cast(pa.uint8()) if buckets <= 256 else numbers.cast(pa.uint16())
        table = take(table, pc.array_sort_indices(narrow))
    return compact(table), Offsets(tuple(offsets_of(counts)))


def key_columns(table: pa.Table, keys: Sequence[str], verb: str) -> list[pa.ChunkedArray]:
    """Return the columns that rows are grouped by.

    Raises:
        ValueError: a column is missing.
    """
    return [key_column(table, key, verb) for key in keys]


class Cluster(Operator):
    """Sort the rows of a task by the bucket of their keys' hash."""

    def __init__(self, keys: Sequence[str], verb: str, buckets: int = BUCKETS) -> None:
        self.keys = tuple(keys)
        self.verb = verb
        self.buckets = buckets
        self.name = f"Partition({', '.join(self.keys)})"

    def process(self, blocks: Iterator[pa.Table], task: TaskContext) -> Iterator[pa.Table | Made]:
        """Yield clustered blocks with their offsets."""
        for table in groups_of_blocks(blocks, task.target_max_block_bytes, task.on_conflict):
            hashes = hash_rows(key_columns(table, self.keys, self.verb))
            yield Made(*cluster(table, bucket_of(hashes, self.buckets), self.buckets))


def bundle_count(total_bytes: int, limits: ExchangeLimits) -> int:
    """Return how many bundles bytes should make: none above the target, enough for all workers, none
    tiny.
    """
    for_target = math.ceil(total_bytes / max(1, limits.target_bytes))
    for_workers = min(max(1, limits.parallelism), total_bytes // SMALL_BYTES)
    return max(1, for_target, for_workers)


def bucket_bundles(
    sides: Sequence[Sequence[BlockSlice]],
    limits: ExchangeLimits,
    buckets: int = BUCKETS,
    bundles: int | None = None,
    least: int = 1,
) -> list[Bundle]:
    """Make bundles of consecutive buckets.

    Args:
        sides: clustered blocks of each side.
        limits: bytes and parallelism.
        buckets: number of buckets of each block.
        bundles: the exact number of bundles; None: by bytes.
        least: bundles at least, as far as there are buckets with rows.

    Returns:
        Bundles with ``Sides`` as params; each has a slice of every side that has a block, if only for its
        schema. No bundles if no side has a block.
    """
    if not any(sides):
        return []
    weights = [0.0] * buckets
    for side in sides:
        for piece in side:
            rows = _rows(piece)
            a_row = piece.size_bytes / max(1, piece.num_rows)
            for bucket in range(buckets):
                weights[bucket] += (rows[bucket + 1] - rows[bucket]) * a_row
    if bundles is None:
        ranges = _ranges(weights, max(least, bundle_count(int(sum(weights)), limits)))
    else:
        edges = [number * buckets // bundles for number in range(bundles + 1)]
        ranges = list(itertools.pairwise(edges))
    return [_bundle(sides, start, stop, limits) for start, stop in ranges]


def _rows(piece: BlockSlice) -> tuple[int, ...]:
    extra = piece.meta.extra
    assert isinstance(extra, Offsets), f"a clustered block carries its offsets, not {extra!r}"
    return extra.rows


def _ranges(weights: Sequence[float], wanted: int) -> list[tuple[int, int]]:
    limit = sum(weights) / wanted
    ranges = []
    start, weight = 0, 0.0
    for bucket, more in enumerate(weights):
        if weight > 0 and weight + more > limit * 1.0001:
            ranges.append((start, bucket))
            start, weight = bucket, 0.0
        weight += more
    ranges.append((start, len(weights)))
    return ranges


def _bundle(sides: Sequence[Sequence[BlockSlice]], start: int, stop: int, limits: ExchangeLimits) -> Bundle:
    slices: list[BlockSlice] = []
    counts, sizes = [], []
    for side in sides:
        pieces = [piece.rows(_rows(piece)[start], _rows(piece)[stop]) for piece in side]
        kept = with_schema([piece for piece in pieces if piece.num_rows], side)
        slices.extend(kept)
        counts.append(len(kept))
        sizes.append(sum(piece.size_bytes for piece in kept))
    return Bundle(tuple(slices), Sides(tuple(counts), tuple(sizes), limits.target_bytes))


def with_schema(kept: list[BlockSlice], side: Sequence[BlockSlice]) -> list[BlockSlice]:
    """Return slices, or one without rows that carries the schema of a side where there are none."""
    return kept if kept or not side else [side[0].rows(0, 0)]


def split_sides(blocks: Iterator[pa.Table], sides: Sides) -> list[list[pa.Table]]:
    """Take the blocks of each side."""
    return [[next(blocks) for _ in range(count)] for count in sides.counts]


def in_passes(
    blocks: Sequence[pa.Table], keys: Sequence[str], verb: str, passes: int
) -> Iterator[list[pa.Table]]:
    """Part blocks by another hash of their keys, one part at a time; rows of one key are in one part.

    A bucket above the target goes through memory in parts: blocks are views of shared memory or of files,
    only the part at hand is copied.
    """
    if passes <= 1:
        yield list(blocks)
        return
    numbers = [bucket_of(hash_rows(key_columns(block, keys, verb), salt=1), passes) for block in blocks]
    for part in range(passes):
        yield [
            filter_rows(block, pc.equal(number, part)) for block, number in zip(blocks, numbers, strict=True)
        ]


def passes_for(size: int, target_bytes: int) -> int:
    """Return in how many parts a bundle of ``size`` bytes should be merged."""
    return 1 if size <= 2 * target_bytes else math.ceil(size / max(1, target_bytes))


class Apply(Operator):
    """A merge that is a function of its blocks."""

    def __init__(
        self, name: str, function: Callable[[Iterator[pa.Table], TaskContext], Iterator[pa.Table]]
    ) -> None:
        self.name = name
        self._function = function

    def process(self, blocks: Iterator[pa.Table], task: TaskContext) -> Iterator[pa.Table | Made]:
        """Yield what the function yields."""
        return self._function(blocks, task)
