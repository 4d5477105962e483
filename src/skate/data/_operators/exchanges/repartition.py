"""Repartition: blocks of other sizes in the same order, or by the hash of keys."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import pyarrow as pa

from skate.data._block.kernels.arrays import take
from skate.data._block.kernels.sorting import SortKey, sort_indices
from skate.data._block.tables import compact, concat, slice_rows
from skate.data._operators.exchanges.partitions import (
    BUCKETS,
    SMALL_BYTES,
    Cluster,
    bucket_bundles,
    with_schema,
)
from skate.data._task.exchange import Exchange, ExchangeLimits
from skate.data._task.operators import Made, Operator, TaskContext
from skate.data._task.slices import BlockSlice, Bundle, cut, total_rows


@dataclass(frozen=True)
class Repartition(Exchange):
    """The same rows in the same order, in blocks of other sizes. Nothing is copied to plan it: blocks are
    ranges.

    Attributes:
        num_blocks: number of blocks, equal to within a row; more than there are rows gives empty ones.
        target_rows: rows of a block; give one of the two.
        strict: with ``target_rows``: each block has exactly so many rows but the last; otherwise larger
            blocks are cut and smaller ones stay as they are.

    Raises:
        ValueError: neither or both are given, or one is not positive.
    """

    num_blocks: int | None = None
    target_rows: int | None = None
    strict: bool = False
    is_ordered = True

    def __post_init__(self) -> None:
        if (self.num_blocks is None) == (self.target_rows is None):
            raise ValueError(
                "repartition takes either num_blocks or target_num_rows_per_block, and one of them"
            )
        for option, value in (
            ("num_blocks", self.num_blocks),
            ("target_num_rows_per_block", self.target_rows),
        ):
            if value is not None and value < 1:
                raise ValueError(f"repartition({option}=) takes a number from 1, not {value!r}")

    @property
    def name(self) -> str:  # type: ignore[override]
        """For people."""
        what = f"num_blocks={self.num_blocks}" if self.num_blocks else f"target_rows={self.target_rows}"
        return f"Repartition({what})"

    def partition(self, side: int) -> None:
        """Rows go as they are."""

    def plan(self, sides: Sequence[Sequence[BlockSlice]], limits: ExchangeLimits) -> list[Bundle]:
        """Return bundles of the output blocks' rows; params are the blocks' sizes."""
        (side,) = sides
        rows = total_rows(side)
        if self.num_blocks is not None:
            edges = [number * rows // self.num_blocks for number in range(self.num_blocks + 1)]
        elif self.strict:
            assert self.target_rows is not None
            edges = [*range(0, rows, self.target_rows), rows] if rows else [0, 0]
        else:
            assert self.target_rows is not None
            edges = _split_only(side, self.target_rows)
        if not side:
            return []
        blocks = cut(side, edges[1:-1])
        sizes = [stop - start for start, stop in pairwise(edges)]
        return _bundles(blocks, sizes, side, min(limits.target_bytes, SMALL_BYTES))

    def merge(self) -> Operator:
        """Return the operator that joins ranges into blocks."""
        return _Resize()


def _split_only(side: Sequence[BlockSlice], target: int) -> list[int]:
    edges = [0]
    for piece in side:
        start = edges[-1]
        edges.extend(range(start + target, start + piece.num_rows, target))
        if piece.num_rows:
            edges.append(start + piece.num_rows)
    return edges if len(edges) > 1 else [0, 0]


def _bundles(
    blocks: Sequence[list[BlockSlice]], sizes: Sequence[int], side: Sequence[BlockSlice], limit: int
) -> list[Bundle]:
    """Put consecutive output blocks into a bundle while they are small, so that few tasks make many."""
    bundles = []
    slices: list[BlockSlice] = []
    params: list[int] = []
    weight = 0
    for pieces, size in zip(blocks, sizes, strict=True):
        more = sum(piece.size_bytes for piece in pieces)
        if params and weight + more > limit:
            bundles.append(Bundle(tuple(with_schema(slices, side)), tuple(params)))
            slices, params, weight = [], [], 0
        slices.extend(pieces)
        params.append(size)
        weight += more
    if params:
        bundles.append(Bundle(tuple(with_schema(slices, side)), tuple(params)))
    return bundles


class _Resize(Operator):
    name = "Resize"

    def process(self, blocks: Iterator[pa.Table], task: TaskContext) -> Iterator[pa.Table | Made]:
        """Yield one block for each size in the params."""
        sizes = task.params or ()
        rest: pa.Table | None = None
        schema: pa.Table | None = None
        for size in sizes:
            parts: list[pa.Table] = []
            missing = size
            while missing > 0:
                if rest is None or rest.num_rows == 0:
                    rest = next(blocks)
                    schema = rest if schema is None else schema
                parts.append(slice_rows(rest, 0, missing))
                rest = slice_rows(rest, min(missing, rest.num_rows), rest.num_rows)
                missing -= parts[-1].num_rows
            if not parts:
                if schema is None:
                    schema = rest = next(blocks, pa.table({}))
                parts = [slice_rows(schema, 0, 0)]
            yield compact(concat([part for part in parts if part.num_rows] or parts[:1], task.on_conflict))


@dataclass(frozen=True)
class HashRepartition(Exchange):
    """Rows with equal keys in one block.

    Attributes:
        keys: the columns.
        num_blocks: number of blocks; None: by bytes.
        sort: sort the rows of a block by the keys.
    """

    keys: tuple[str, ...]
    num_blocks: int | None = None
    sort: bool = False

    def __post_init__(self) -> None:
        if not self.keys:
            raise ValueError("repartition(keys=) takes at least one column")
        if self.num_blocks is not None and self.num_blocks < 1:
            raise ValueError(f"repartition(num_blocks=) takes a number from 1, not {self.num_blocks!r}")

    @property
    def name(self) -> str:  # type: ignore[override]
        """For people."""
        return f"Repartition(keys=[{', '.join(self.keys)}])"

    @property
    def _buckets(self) -> int:
        return BUCKETS if self.num_blocks is None else max(BUCKETS, min(self.num_blocks, 1 << 16))

    def partition(self, side: int) -> Operator:
        """Return the operator that clusters rows by key."""
        return Cluster(self.keys, "repartition", self._buckets)

    def plan(self, sides: Sequence[Sequence[BlockSlice]], limits: ExchangeLimits) -> list[Bundle]:
        """Return bundles of buckets."""
        return bucket_bundles(sides, limits, self._buckets, self.num_blocks)

    def merge(self) -> Operator:
        """Return the operator that joins ranges into one block."""
        return _Join(self.keys if self.sort else ())


class _Join(Operator):
    name = "Concat"

    def __init__(self, keys: tuple[str, ...]) -> None:
        self.keys = keys

    def process(self, blocks: Iterator[pa.Table], task: TaskContext) -> Iterator[pa.Table | Made]:
        """Yield one block."""
        every = list(blocks)
        if not every:
            return
        table = concat(every, task.on_conflict)
        if self.keys:
            table = take(table, sort_indices(table, [SortKey(key) for key in self.keys]))
        yield compact(table)
