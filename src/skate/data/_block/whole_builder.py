"""One block from rows, batches and tables: what authors of datasources use as ``DelegatingBlockBuilder``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from skate.data._block.batches import from_batch
from skate.data._block.builder import BlockBuilder, weigh_row
from skate.data._block.tables import concat, no_columns, size_bytes

#: Bytes of a part: a block is made of as many as come.
_PART_BYTES = 128 << 20


class WholeBlockBuilder(BlockBuilder):
    """Gathers rows, batches and blocks; ``build`` returns all of them as one block.

    Example:
        >>> builder = WholeBlockBuilder()
        >>> builder.add({"x": 1})
        >>> builder.add_batch({"x": [2, 3]})
        >>> builder.build().to_pydict()
        {'x': [1, 2, 3]}
    """

    def __init__(self) -> None:
        super().__init__(_PART_BYTES)
        self._count = 0
        self._bytes = 0

    def add_row(self, row: Mapping[str, Any]) -> None:
        """Add a row."""
        self._count += 1
        self._bytes += weigh_row(row)
        super().add_row(row)

    def add(self, item: Mapping[str, Any]) -> None:
        """Add a row."""
        self.add_row(item)

    def add_block(self, block: Any) -> None:
        """Add the rows of a table, or of a data frame."""
        table = block if isinstance(block, pa.Table) else from_batch(block, "add_block")
        self._count += table.num_rows
        self._bytes += size_bytes(table)
        super().add_block(table)

    def add_batch(self, batch: Any) -> None:
        """Add the rows of a batch: a dict of columns, a data frame, or a table."""
        self.add_block(from_batch(batch, "add_batch"))

    def build(self) -> pa.Table:
        """Return the block. The builder is empty then."""
        parts = list(self.finish())
        self._count = self._bytes = 0
        return concat(parts, on_conflict="object") if parts else no_columns(0)

    def num_rows(self) -> int:
        """Return the number of rows so far."""
        return self._count

    def get_estimated_memory_usage(self) -> int:
        """Return about how many bytes the rows so far take."""
        return self._bytes

    def will_build_yield_copy(self) -> bool:
        """Return True: the block has memory of its own."""
        return True
