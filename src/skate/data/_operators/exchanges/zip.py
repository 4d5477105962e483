"""Zip: columns of several sides, row by row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from skate.data._block.schemas import NO_COLUMNS
from skate.data._block.sources import without_sources
from skate.data._block.tables import concat, no_columns
from skate.data._operators.exchanges.partitions import (
    Sides,
    bundle_count,
    cut_blocks,
    split_sides,
    with_schema,
)
from skate.data._task.exchange import Exchange, ExchangeLimits
from skate.data._task.operators import Made, Operator, TaskContext
from skate.data._task.slices import BlockSlice, Bundle, cut, total_rows


@dataclass(frozen=True)
class Zip(Exchange):
    """The i-th rows of all sides as one row; a name that is taken gets ``_1``, ``_2``, ...

    Attributes:
        sides: number of inputs.
    """

    sides: int = 2
    is_ordered = True

    @property
    def name(self) -> str:  # type: ignore[override]
        """For people."""
        return "Zip"

    def partition(self, side: int) -> None:
        """Rows go as they are."""

    def plan(self, sides: Sequence[Sequence[BlockSlice]], limits: ExchangeLimits) -> list[Bundle]:
        """Return bundles of equal ranges of rows.

        Raises:
            ValueError: the sides have different numbers of rows.
        """
        rows = [total_rows(side) for side in sides]
        if len(set(rows)) > 1:
            raise ValueError(
                f"zip takes data sets of equal length, but they have {' and '.join(map(str, rows))} rows"
            )
        if not any(sides):
            return []
        count = max(
            1, min(bundle_count(sum(p.size_bytes for side in sides for p in side), limits), max(1, rows[0]))
        )
        indices = [number * rows[0] // count for number in range(1, count)]
        bundles = []
        for parts in zip(*(cut(side, indices) for side in sides), strict=True):
            kept = [with_schema(part, side) for part, side in zip(parts, sides, strict=True)]
            sizes = tuple(sum(piece.size_bytes for piece in part) for part in kept)
            params = Sides(tuple(len(part) for part in kept), sizes, limits.target_bytes)
            bundles.append(Bundle(tuple(piece for part in kept for piece in part), params))
        return bundles

    def merge(self) -> Operator:
        """Return the operator that puts columns side by side."""
        return _SideBySide()


class _SideBySide(Operator):
    name = "SideBySide"

    def process(self, blocks: Iterator[pa.Table], task: TaskContext) -> Iterator[pa.Table | Made]:
        """Yield rows of all columns."""
        sides = [side for side in split_sides(blocks, task.params) if side]
        tables = [without_sources(concat(side, task.on_conflict)) for side in sides]
        columns: dict[str, pa.ChunkedArray] = {}
        for table in tables:
            for name, column in zip(table.column_names, table.columns, strict=True):
                if name != NO_COLUMNS:
                    columns[_free_name(name, columns)] = column
        made = pa.table(columns) if columns else no_columns(tables[0].num_rows if tables else 0)
        yield from cut_blocks(made, task.target_max_block_bytes)


def _free_name(name: str, taken: dict[str, pa.ChunkedArray]) -> str:
    number, free = 0, name
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    return free
