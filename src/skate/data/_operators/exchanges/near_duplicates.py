"""Near duplicates: texts with nearly the same words, pictures that look the same.

Each task sends its rows as they are, and a small block of their signatures. Every merge gets the
signatures of all rows, finds the components of similar ones, and filters its own rows as they stream
through. There are as many merges as tasks can run at a time, so the search is repeated that often and no
more, and rows cross the exchange once.

Memory of a merge: 256 bytes for each text of the whole input, 8 for each picture, and as much again while
searching.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from skate.data._block.kernels.arrays import column_of
from skate.data._block.tables import compact, concat, filter_rows
from skate.data._operators.exchanges.partitions import groups_of_blocks
from skate.data._task.exchange import Exchange, ExchangeLimits
from skate.data._task.operators import Made, Operator, TaskContext
from skate.data._task.slices import BlockSlice, Bundle

if TYPE_CHECKING:
    from types import ModuleType

KINDS = ("text", "image")


@dataclass(frozen=True, slots=True)
class _Kind:
    """Which of the two kinds of blocks a block is: ``Made.extra``."""

    is_signatures: bool


@dataclass(frozen=True, slots=True)
class _Search:
    """Parameters of a merge.

    Attributes:
        signatures: number of blocks that are signatures.
        first_rows: for each other block, the number of its first row.
    """

    signatures: int
    first_rows: tuple[int, ...]


@dataclass(frozen=True)
class NearDuplicates(Exchange):
    """The first row of each set of rows that are alike, in the input's order.

    Rows are alike if a chain of similar rows connects them. Rows without a value, and texts without a
    word, are like no other. Needs numpy; pictures need Pillow.

    Attributes:
        column: the texts or pictures.
        kind: ``"text"`` or ``"image"``.
        threshold: for texts: least share, from 0 to 1, of runs of five words that two have in common
            (estimated).
        distance: for pictures: most bits, from 0 to 63, in which two 64-bit hashes differ.
        mark: keep all rows, and add a column of this name with the number of the first row like it,
            counted through the whole input; null in rows that would be kept.

    Raises:
        ValueError: an unknown kind, or a threshold or distance out of its range.
    """

    column: str
    kind: str = "text"
    threshold: float = 0.8
    distance: int = 4
    mark: str | None = None
    is_ordered = True

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"near_duplicates(kind=) is 'text' or 'image', not {self.kind!r}")
        if not 0 < self.threshold <= 1:
            raise ValueError(f"near_duplicates(threshold=) is above 0 and at most 1, not {self.threshold!r}")
        if not 0 <= self.distance < 64:
            raise ValueError(f"near_duplicates(distance=) is from 0 to 63, not {self.distance!r}")

    @property
    def name(self) -> str:  # type: ignore[override]
        """For people."""
        return f"NearDuplicates({self.column})"

    def partition(self, side: int) -> Operator:
        """Return the operator that adds blocks of signatures."""
        return _Sign(self.column, self.kind)

    def plan(self, sides: Sequence[Sequence[BlockSlice]], limits: ExchangeLimits) -> list[Bundle]:
        """Return bundles of consecutive blocks, each with all signatures before them."""
        (side,) = sides
        signatures = tuple(piece for piece in side if piece.meta.extra.is_signatures)
        rows = [piece for piece in side if not piece.meta.extra.is_signatures]
        total = sum(piece.size_bytes for piece in rows)
        count = min(
            max(1, limits.parallelism), max(1, math.ceil(total / max(1, limits.target_bytes))), len(rows)
        )
        firsts, first = [], 0
        for piece in rows:
            firsts.append(first)
            first += piece.num_rows
        bundles = []
        for number in range(count):
            start, stop = number * len(rows) // count, (number + 1) * len(rows) // count
            params = _Search(len(signatures), tuple(firsts[start:stop]))
            bundles.append(Bundle((*signatures, *rows[start:stop]), params))
        return bundles

    def merge(self) -> Operator:
        """Return the operator that searches and filters."""
        return _Keep(self)


def _near() -> ModuleType:
    try:
        from skate.data._block.kernels import near
    except ImportError as error:
        raise ImportError("near_duplicates needs numpy: pip install numpy") from error
    return near


class _Sign(Operator):
    def __init__(self, column: str, kind: str) -> None:
        self.column = column
        self.kind = kind
        self.name = f"Sign({column})"

    def process(self, blocks: Iterator[pa.Table], task: TaskContext) -> Iterator[pa.Table | Made]:
        """Yield blocks as they are, each followed by its signatures."""
        near = _near()
        for block in groups_of_blocks(blocks, task.target_max_block_bytes, task.on_conflict):
            column = column_of(block, self.column, "near_duplicates")
            yield Made(compact(block), _Kind(is_signatures=False))
            if self.kind == "text":
                signatures, has_one = near.text_signatures(column)
                columns = {
                    "bands": _binary(near.band_hashes(signatures), near.BANDS * 8),
                    "sketch": _binary(near.sketch(signatures), near.PERMUTATIONS),
                }
            else:
                hashes, has_one = near.picture_hashes(column, self.column)
                columns = {"hash": pa.array(hashes)}
            yield Made(pa.table({**columns, "has_one": pa.array(has_one)}), _Kind(is_signatures=True))


def _binary(array: Any, width: int) -> pa.Array:
    data = pa.py_buffer(array.tobytes())
    return pa.Array.from_buffers(pa.binary(width), len(array), [None, data])


def _matrix(column: pa.ChunkedArray, type_: Any, width: int) -> Any:
    import numpy as np

    parts = [
        np.frombuffer(chunk.buffers()[1], np.uint8)[
            chunk.offset * chunk.type.byte_width : (chunk.offset + len(chunk)) * chunk.type.byte_width
        ]
        for chunk in column.chunks
        if len(chunk)
    ]
    return (np.concatenate(parts) if parts else np.zeros(0, np.uint8)).view(type_).reshape(-1, width)


class _Keep(Operator):
    def __init__(self, exchange: NearDuplicates) -> None:
        self.exchange = exchange
        self.name = exchange.name

    def process(self, blocks: Iterator[pa.Table], task: TaskContext) -> Iterator[pa.Table | Made]:
        """Yield the rows that are the first of their kind; or all rows, marked."""
        search: _Search = task.params
        signatures = concat([next(blocks) for _ in range(search.signatures)])
        firsts = self._first_of_each(signatures)
        for block, first_row in zip(blocks, search.first_rows, strict=True):
            mine = firsts[first_row : first_row + block.num_rows]
            numbers = range(first_row, first_row + block.num_rows)
            if self.exchange.mark is None:
                yield filter_rows(
                    block, pa.array([f == n for f, n in zip(mine, numbers, strict=True)], pa.bool_())
                )
            else:
                marks = [None if f == n else f for f, n in zip(mine, numbers, strict=True)]
                yield block.append_column(self.exchange.mark, pa.array(marks, pa.int64()))

    def _first_of_each(self, signatures: pa.Table) -> list[int]:
        import numpy as np

        near = _near()
        rows = np.flatnonzero(signatures["has_one"].to_numpy())
        if self.exchange.kind == "text":
            bands = _matrix(signatures["bands"], np.uint64, near.BANDS)
            sketches = _matrix(signatures["sketch"], np.uint8, near.PERMUTATIONS)
            pairs = near.text_pairs(bands, sketches, rows, self.exchange.threshold)
        else:
            pairs = near.picture_pairs(signatures["hash"].to_numpy(), rows, self.exchange.distance)
        found: list[int] = near.first_of_component(signatures.num_rows, pairs).tolist()
        return found
