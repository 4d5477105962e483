"""Blocks of about a size from rows and tables, whatever each of them weighs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from sys import getsizeof
from typing import Any

import pyarrow as pa

from skate.data._block.rows import from_rows
from skate.data._block.tables import combine, compact, concat, size_bytes, slice_rows

#: Rows that wait as dicts at most, until they are made columns and weighed.
_PENDING_ROWS = 4096
#: Kinds of values that take 8 bytes or less.
_SMALL = frozenset((int, float, bool, type(None)))
#: Chunks that are smaller than this are joined when a block is made.
_SMALL_CHUNK_BYTES = 1 << 20


class BlockBuilder:
    """Gathers rows and tables, and cuts blocks of at least a number of bytes, measured while they are built.

    A block ends as soon as it has the bytes; a table that is far larger is cut into several. A row that alone
    has more is a block.

    Args:
        target_bytes: bytes of a block.

    Example:
        >>> builder = BlockBuilder(128 << 20)
        >>> for row in rows:
        ...     builder.add_row(row)
        ...     yield from builder.ready()
        >>> yield from builder.finish()
    """

    def __init__(self, target_bytes: int) -> None:
        self._target = max(1, target_bytes)
        self._part_bytes = max(1, min(self._target, max(self._target // 4, 1 << 16)))
        self._rows: list[Mapping[str, Any]] = []
        self._rows_bytes = 0
        self._parts: list[pa.Table] = []
        self._parts_bytes = 0
        self._ready: list[pa.Table] = []
        self._empty: pa.Table | None = None
        self._has_made = False

    def add_row(self, row: Mapping[str, Any]) -> None:
        """Add a row."""
        self._rows.append(row)
        self._rows_bytes += weigh_row(row)
        if self._rows_bytes >= self._part_bytes or len(self._rows) >= _PENDING_ROWS:
            self._convert()

    def add_block(self, block: pa.Table) -> None:
        """Add the rows of a table."""
        if self._rows:
            self._convert()
        self._add(block)

    def ready(self) -> Iterator[pa.Table]:
        """Yield the blocks that are complete."""
        while self._ready:
            self._has_made = True
            yield self._ready.pop(0)

    def finish(self) -> Iterator[pa.Table]:
        """Yield the blocks that are complete and the rest.

        If rows came in no table but tables without rows did, one of these is yielded, so that its schema is
        kept.
        """
        if self._rows:
            self._convert()
        self._cut()
        yield from self.ready()
        if not self._has_made and self._empty is not None:
            yield self._empty

    def _convert(self) -> None:
        rows, self._rows, self._rows_bytes = self._rows, [], 0
        self._add(from_rows(rows))

    def _add(self, block: pa.Table) -> None:
        if not block.num_rows:
            if self._empty is None or not self._empty.num_columns:
                self._empty = block
            return
        size = size_bytes(block)
        if size > self._target + self._target // 2 and block.num_rows > 1:
            count = min(block.num_rows, -(-size // self._target))
            rows = -(-block.num_rows // count)
            for start in range(0, block.num_rows, rows):
                self._add(slice_rows(block, start, start + rows))
            return
        if self._parts and self._parts_bytes + size > self._target + self._target // 2:
            self._cut()
        self._parts.append(block)
        self._parts_bytes += size
        if self._parts_bytes >= self._target:
            self._cut()

    def _cut(self) -> None:
        if not self._parts:
            return
        parts, self._parts = self._parts, []
        size, self._parts_bytes = self._parts_bytes, 0
        block = concat(parts, on_conflict="object")
        chunks = max((column.num_chunks for column in block.columns), default=1)
        if chunks > 1 and size < chunks * _SMALL_CHUNK_BYTES:
            block = combine(block)
        self._ready.append(compact(block))


def weigh_row(row: Mapping[str, Any]) -> int:
    """Return about how many bytes the values of a row take as columns: no less than text and arrays do."""
    size = 8 * len(row)
    for value in row.values():
        kind = type(value)
        if kind is str or kind is bytes:
            size += len(value)
        elif kind not in _SMALL:
            size += _weigh(value)
    return size


def _weigh(value: Any) -> int:
    """Return about how many bytes a value takes."""
    if type(value) in _SMALL:
        return 8
    if isinstance(value, (str, bytes, bytearray)):
        return len(value) + 4
    if isinstance(value, Mapping):
        return weigh_row(value)
    if isinstance(value, (list, tuple, set, frozenset)):
        if len(value) > 64 and isinstance(value, (list, tuple)):
            first = value[:: len(value) // 32]
            return sum(map(_weigh, first)) * len(value) // len(first)
        return sum(map(_weigh, value))
    size = getattr(value, "nbytes", None)
    if isinstance(size, int):
        return size
    return getsizeof(value, 64)
