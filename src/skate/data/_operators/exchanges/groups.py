"""A function over each group of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import pyarrow as pa

from skate.data._block.kernels.arrays import take
from skate.data._block.kernels.grouping import Groups
from skate.data._block.tables import combine, compact, concat, size_bytes, slice_rows
from skate.data._operators.exchanges.partitions import (
    Cluster,
    Sides,
    bucket_bundles,
    groups_of_blocks,
    in_passes,
    key_columns,
    passes_for,
)
from skate.data._operators.functions import first_row
from skate.data._operators.own_process import OwnProcess
from skate.data._task.exchange import Exchange, ExchangeLimits
from skate.data._task.operators import Made, Operator, TaskContext
from skate.data._task.slices import BlockSlice, Bundle
from skate.data.exceptions import wrap

#: Bundles for each CPU: enough that all end at about the same time.
_FOR_EACH_CPU = 4

GroupFunction = Callable[[pa.Table], Iterator[pa.Table]]
"""Takes all rows of a group, gives blocks."""


@dataclass(frozen=True)
class MapGroups(Exchange):
    """Calls a function with all rows of each group.

    Rows of a group come in their order. Groups come in no promised order; a null key is a group of its own.

    Attributes:
        keys: the columns whose equal values make a group; none: all rows are one group.
        function: gets a group, yields blocks.
        label: the function's name, for people.
        bundles: number of output partitions; None: by bytes.
    """

    keys: tuple[str, ...]
    function: GroupFunction
    label: str = "fn"
    bundles: int | None = None
    has_known_schema = False

    @property
    def name(self) -> str:  # type: ignore[override]
        """For people."""
        return f"MapGroups({', '.join(self.keys)}: {self.label})"

    def partition(self, side: int) -> Operator | None:
        """Return the operator that clusters rows by key."""
        return Cluster(self.keys, "groupby") if self.keys else None

    def plan(self, sides: Sequence[Sequence[BlockSlice]], limits: ExchangeLimits) -> list[Bundle]:
        """Return bundles of buckets; without keys, one."""
        (side,) = sides
        if not self.keys:
            return [Bundle(tuple(side))] if side else []
        # However small the groups are, the user's function may take long.
        return bucket_bundles(sides, limits, bundles=self.bundles, least=_FOR_EACH_CPU * limits.parallelism)

    def merge(self) -> Operator:
        """Return the operator that calls the function."""
        return _CallGroups(self.keys, self.function, self.name)


class _CallGroups(OwnProcess):
    def __init__(self, keys: tuple[str, ...], function: GroupFunction, name: str) -> None:
        self.keys = keys
        self.function = function
        self.name = name

    def process(self, blocks: Iterator[pa.Table], task: TaskContext) -> Iterator[pa.Table | Made]:
        """Yield what the function yields, small blocks joined."""
        for block in groups_of_blocks(
            self._results(blocks, task), task.target_max_block_bytes, task.on_conflict
        ):
            yield compact(combine(block))

    def make_for_child(self) -> GroupFunction:
        """Return the function."""
        return self.function

    def _results(self, blocks: Iterator[pa.Table], task: TaskContext) -> Iterator[pa.Table]:
        every = list(blocks)
        sides = task.params
        size = sum(size_bytes(block) for block in every)
        passes = passes_for(size, sides.target_bytes) if isinstance(sides, Sides) and self.keys else 1
        with self.calls(task, self.function) as call:
            for part in in_passes(every, self.keys, "groupby", passes):
                table = concat(part, task.on_conflict)
                if table.num_rows == 0:
                    continue
                groups = Groups.by(key_columns(table, self.keys, "groupby"), table.num_rows)
                ordered = table if groups.count == 1 else take(table, groups.order)
                offsets = groups.offsets.to_pylist()
                for start, stop in pairwise(offsets):
                    yield from self._called(call, slice_rows(ordered, start, stop))

    def _called(self, call: GroupFunction, group: pa.Table) -> Iterator[pa.Table]:
        if call is self.function:
            yield from call(group)
            return
        try:
            yield from call(compact(combine(group)))
        except (Exception, SystemExit) as error:
            stage = getattr(self.function, "stage", self.name)
            raise wrap(error, stage, first_row(group), has_on_error=False) from error
