"""A random order that a seed decides, and nothing else.

A row's random number comes from the seed, the name of the task that read it and its place there. Its high
bits are its bucket; within a bucket rows are sorted by the whole number. The order is thus that of the
numbers, whatever the number of workers or the cut into bundles.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from skate.data._block import arrow_compute as pc
from skate.data._block.kernels.arrays import as_array, take
from skate.data._block.kernels.hashing import bucket_of, fresh_seed, random_numbers
from skate.data._block.tables import concat
from skate.data._operators.exchanges.partitions import (
    BUCKETS,
    bucket_bundles,
    cluster,
    cut_blocks,
    groups_of_blocks,
)
from skate.data._task.exchange import Exchange, ExchangeLimits
from skate.data._task.operators import Made, Operator, TaskContext
from skate.data._task.slices import BlockSlice, Bundle

_RANDOM = "__skate_random__"


@dataclass(frozen=True)
class Shuffle(Exchange):
    """All rows in a random order.

    Attributes:
        seed: decides the order; by default one is drawn, and kept here, so that the order can be had again.
        bundles: number of output partitions; None: by bytes.
    """

    seed: int = field(default_factory=fresh_seed)
    bundles: int | None = None
    is_ordered = True

    @property
    def name(self) -> str:  # type: ignore[override]
        """For people."""
        return f"RandomShuffle(seed={self.seed})"

    @property
    def _buckets(self) -> int:
        return BUCKETS if self.bundles is None else max(BUCKETS, min(self.bundles, 1 << 16))

    def partition(self, side: int) -> Operator:
        """Return the operator that draws numbers and clusters by them."""
        return _Draw(self.seed, self._buckets)

    def plan(self, sides: Sequence[Sequence[BlockSlice]], limits: ExchangeLimits) -> list[Bundle]:
        """Return bundles of buckets."""
        return bucket_bundles(sides, limits, self._buckets, self.bundles)

    def merge(self) -> Operator:
        """Return the operator that sorts by the numbers."""
        return _Permute(is_whole=self.bundles is not None)


class _Draw(Operator):
    name = "DrawOrder"

    def __init__(self, seed: int, buckets: int) -> None:
        self.seed = seed
        self.buckets = buckets

    def process(self, blocks: Iterator[pa.Table], task: TaskContext) -> Iterator[pa.Table | Made]:
        """Yield clustered blocks with a column of random numbers."""
        row = 0
        for table in groups_of_blocks(blocks, task.target_max_block_bytes, task.on_conflict):
            numbers = random_numbers(self.seed, task.task_id, table.num_rows, row)
            row += table.num_rows
            table = table.append_column(_RANDOM, numbers)
            yield Made(*cluster(table, bucket_of(numbers, self.buckets), self.buckets))


class _Permute(Operator):
    name = "Permute"

    def __init__(self, is_whole: bool) -> None:
        self.is_whole = is_whole

    def process(self, blocks: Iterator[pa.Table], task: TaskContext) -> Iterator[pa.Table | Made]:
        """Yield rows in the order of their numbers."""
        every = list(blocks)
        if not every:
            return
        table = concat(every, task.on_conflict)
        order = pc.array_sort_indices(as_array(table[_RANDOM]))
        table = take(table.drop_columns([_RANDOM]), order)
        if self.is_whole:
            yield table
        else:
            yield from cut_blocks(table, task.target_max_block_bytes)
