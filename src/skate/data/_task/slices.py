"""A block as the driver knows it: its facts, where it lives, and ranges of its rows.

The driver handles blocks by reference. ``limit``, ``split_at_indices``, exact packing of batches and the
partitions of an exchange are ranges of rows (``BlockSlice``), so none of them touches a value.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa


#: Memory of the driver for a block beside its rows: facts, and a reference or a small table. Measured: 1.5
#: KB, and 1 KB more for each further column of such a table.
BLOCK_OVERHEAD_BYTES = 2048


@dataclass(frozen=True, slots=True)
class BlockMeta:
    """Facts of a block, measured by the worker that made it.

    Attributes:
        num_rows: rows of the block.
        size_bytes: bytes of the buffers that it refers to.
        schema: columns and types; blocks of one stage share the object.
        input_files: files that the rows came from, if they came from files.
        extra: what the last operator says of the block: offsets of partitions, samples, files written.
        is_on_disk: the block is in a file, and takes no memory.
    """

    num_rows: int
    size_bytes: int
    schema: pa.Schema | None = None
    input_files: tuple[str, ...] = ()
    extra: Any = None
    is_on_disk: bool = False

    def __reduce__(self) -> tuple[Any, ...]:  # several times faster than what dataclasses do
        return BlockMeta, (
            self.num_rows,
            self.size_bytes,
            self.schema,
            self.input_files,
            self.extra,
            self.is_on_disk,
        )


@dataclass(frozen=True, slots=True)
class BlockSlice:
    """A range of rows of a block.

    Attributes:
        block: the port's handle of the whole block: an ObjectRef, a table, or a file.
        meta: facts of the whole block.
        start: first row of the range.
        stop: the row after the last.
    """

    block: Any
    meta: BlockMeta
    start: int
    stop: int

    @classmethod
    def whole(cls, block: Any, meta: BlockMeta) -> BlockSlice:
        """Return the range of all rows of a block."""
        return cls(block, meta, 0, meta.num_rows)

    @property
    def num_rows(self) -> int:
        """Rows in the range."""
        return self.stop - self.start

    @property
    def size_bytes(self) -> int:
        """Bytes of the range, if all rows of the block were of one size."""
        if self.num_rows == self.meta.num_rows:
            return self.meta.size_bytes
        return self.meta.size_bytes * self.num_rows // max(1, self.meta.num_rows)

    @property
    def memory_bytes(self) -> int:
        """Bytes of memory that the range holds: its rows, and what the driver keeps of any block."""
        return 0 if self.meta.is_on_disk else self.size_bytes + BLOCK_OVERHEAD_BYTES

    def rows(self, start: int, stop: int) -> BlockSlice:
        """Return a range within this range; ``start`` and ``stop`` count from its first row."""
        return replace(self, start=self.start + start, stop=min(self.stop, self.start + stop))


@dataclass(frozen=True, slots=True)
class Bundle:
    """The input of one task.

    Attributes:
        slices: ranges of rows; the task's first operator gets one block for each, in this order.
        params: what a barrier tells the task, such as the number of its partition; plain data.
    """

    slices: tuple[BlockSlice, ...]
    params: Any = None

    @property
    def num_rows(self) -> int:
        """Rows of all slices."""
        return sum(piece.num_rows for piece in self.slices)

    @property
    def size_bytes(self) -> int:
        """Bytes of all slices."""
        return sum(piece.size_bytes for piece in self.slices)

    @property
    def memory_bytes(self) -> int:
        """Bytes of memory that all slices hold."""
        return sum(piece.memory_bytes for piece in self.slices)


def total_rows(slices: Iterable[BlockSlice]) -> int:
    """Count the rows of slices."""
    return sum(piece.num_rows for piece in slices)


def cut(slices: Sequence[BlockSlice], indices: Sequence[int]) -> list[list[BlockSlice]]:
    """Cut a sequence of slices at row numbers, as if it was one block.

    Args:
        slices: the rows, in order.
        indices: row numbers in ascending order, from 0; those beyond the end give empty parts.

    Returns:
        ``len(indices) + 1`` lists of slices.

    Example:
        >>> [sum(p.num_rows for p in part) for part in cut([ten_rows, ten_rows], [3, 12])]
        [3, 9, 8]
    """
    parts: list[list[BlockSlice]] = [[]]
    position = 0
    waiting = list(indices)
    for piece in slices:
        offset = 0
        while waiting and waiting[0] <= position + piece.num_rows:
            at = max(offset, waiting.pop(0) - position)
            if at > offset:
                parts[-1].append(piece.rows(offset, at))
            parts.append([])
            offset = at
        if offset < piece.num_rows:
            parts[-1].append(piece.rows(offset, piece.num_rows))
        position += piece.num_rows
    parts.extend([] for _ in waiting)
    return parts
