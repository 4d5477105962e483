"""Questions to a block, and what can be made of it: the public class ``ray.data.block.BlockAccessor``.

Methods that are internal to Ray's exchanges (``sort_and_partition``, ``merge_sorted_blocks``, ``sample``,
statistics of tasks) are left out: exchanges of ``skate.data`` are planned differently.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from skate.data._block import ndarrays
from skate.data._block.batches import from_batch, to_batch
from skate.data._block.rows import iter_rows
from skate.data._block.schemas import NO_COLUMNS, public_schema
from skate.data._block.tables import compact, no_columns, size_bytes, slice_rows, take_rows
from skate.data._block.whole_builder import WholeBlockBuilder
from skate.data._io.datasource import BlockMetadata


class BlockType(Enum):
    """Kinds of blocks of Ray's; blocks of ``skate.data`` are all of Arrow."""

    ARROW = "arrow"
    PANDAS = "pandas"


class BlockAccessor:
    """Questions to a block, and conversions of it. ``for_block`` makes one.

    Example:
        >>> accessor = BlockAccessor.for_block(pa.table({"x": [1, 2, 3]}))
        >>> accessor.num_rows(), accessor.size_bytes()
        (3, 24)
        >>> accessor.slice(1, 3).to_pylist()
        [{'x': 2}, {'x': 3}]
    """

    def __init__(self, block: pa.Table) -> None:
        self._block = block

    @staticmethod
    def for_block(block: Any) -> BlockAccessor:
        """Return the accessor of a block.

        Args:
            block: a ``pyarrow.Table``; a data frame, a record batch and a dict of columns become one.

        Raises:
            ValueError: it is none of these.
        """
        return BlockAccessor(
            block if isinstance(block, pa.Table) else from_batch(block, "BlockAccessor.for_block")
        )

    @staticmethod
    def builder() -> WholeBlockBuilder:
        """Return a builder of one block: ``add``, ``add_block``, ``build``."""
        return WholeBlockBuilder()

    @classmethod
    def batch_to_block(cls, batch: Any, block_type: BlockType | None = None) -> pa.Table:
        """Return the block of a batch in any format.

        Args:
            batch: a dict of columns, a data frame, or a table.
            block_type: accepted for Ray's sake: blocks are all of Arrow.
        """
        return from_batch(batch, "batch_to_block")

    @classmethod
    def batch_to_arrow_block(cls, batch: Any) -> pa.Table:
        """Return the block of a batch in any format."""
        return from_batch(batch, "batch_to_arrow_block")

    # facts

    def num_rows(self) -> int:
        """Return the number of rows."""
        return int(self._block.num_rows)

    def size_bytes(self) -> int:
        """Return the bytes of the buffers that the rows refer to; slices count by their own range."""
        return size_bytes(self._block)

    def schema(self) -> pa.Schema:
        """Return names and types of the columns."""
        return public_schema(self._block.schema)

    def column_names(self) -> list[str]:
        """Return the names of the columns."""
        return [name for name in self._block.column_names if name != NO_COLUMNS]

    def block_type(self) -> BlockType:
        """Return ``BlockType.ARROW``."""
        return BlockType.ARROW

    def get_metadata(
        self,
        input_files: Sequence[str] | None = None,
        block_exec_stats: Any = None,
        task_exec_stats: Any = None,
    ) -> BlockMetadata:
        """Return the facts of the block.

        Args:
            input_files: files that it came from.
            block_exec_stats: accepted for Ray's sake.
            task_exec_stats: accepted for Ray's sake.
        """
        files = list(input_files) if input_files is not None else None
        return BlockMetadata(num_rows=self.num_rows(), size_bytes=self.size_bytes(), input_files=files)

    # formats

    def to_block(self) -> pa.Table:
        """Return the block."""
        return self._block

    def to_default(self) -> pa.Table:
        """Return the block."""
        return self._block

    def to_arrow(self) -> pa.Table:
        """Return the table, without metadata of ours."""
        return to_batch(self._block, "pyarrow")

    def to_pandas(self) -> Any:
        """Return a data frame; columns have Arrow's types, those of tensors hold arrays."""
        return to_batch(self._block, "pandas")

    def to_numpy(self, columns: str | Sequence[str] | None = None) -> Any:
        """Return arrays.

        Args:
            columns: a name, for one array; names, for a dict of arrays; None: all columns.

        Raises:
            ValueError: there is no such column.
        """
        if isinstance(columns, str):
            return ndarrays.to_ndarray(self._block.column(self._position(columns)))
        names = self.column_names() if columns is None else columns
        return {name: ndarrays.to_ndarray(self._block.column(self._position(name))) for name in names}

    def to_batch_format(self, batch_format: str | None) -> Any:
        """Return the block as a batch: ``"numpy"``, ``"pandas"``, ``"pyarrow"`` or None."""
        return to_batch(self._block, batch_format)

    def iter_rows(self, public_row_format: bool = True) -> Iterator[dict[str, Any]]:
        """Yield the rows as dicts.

        Args:
            public_row_format: accepted for Ray's sake.
        """
        return iter_rows(self._block)

    # parts

    def slice(self, start: int, end: int, copy: bool = False) -> pa.Table:
        """Return the rows from ``start`` to before ``end``.

        Args:
            start: first row.
            end: the row after the last.
            copy: the slice has memory of its own, and does not keep the block's.
        """
        part = slice_rows(self._block, start, end)
        return compact(part) if copy else part

    def take(self, indices: Any) -> pa.Table:
        """Return rows by their numbers: a list, or an array."""
        return take_rows(self._block, indices)

    def select(self, columns: Sequence[str]) -> pa.Table:
        """Return some columns, in this order.

        Raises:
            ValueError: there is no such column.
        """
        positions = [self._position(name) for name in columns]
        return self._block.select(positions) if positions else no_columns(self.num_rows())

    def drop(self, columns: Sequence[str]) -> pa.Table:
        """Return the other columns.

        Raises:
            ValueError: there is no such column.
        """
        for name in columns:
            self._position(name)
        return self.select([name for name in self.column_names() if name not in columns])

    def rename_columns(self, columns_rename: Mapping[str, str]) -> pa.Table:
        """Return the block with other names.

        Args:
            columns_rename: from old to new.

        Raises:
            ValueError: there is no such column, or two columns would have one name.
        """
        for name in columns_rename:
            self._position(name)
        names = [columns_rename.get(name, name) for name in self._block.column_names]
        if len(set(names)) < len(names):
            raise ValueError(
                f"renaming by {dict(columns_rename)} gives several columns one name: {', '.join(names)}"
            )
        return self._block.rename_columns(names)

    def upsert_column(self, column_name: str, column_data: Any) -> pa.Table:
        """Return the block with a column added or replaced.

        Args:
            column_name: its name.
            column_data: an array of pyarrow or numpy, or a list, with a value for each row.
        """
        column = from_batch({column_name: column_data}, "upsert_column").column(0)
        position = self._block.schema.get_field_index(column_name)
        if position >= 0:
            return self._block.set_column(position, column_name, column)
        if not self.column_names():
            return pa.table({column_name: column})
        return self._block.append_column(column_name, column)

    def random_shuffle(self, random_seed: int | None = None) -> pa.Table:
        """Return the rows in a random order, the same for the same seed and number of rows."""
        order = list(range(self.num_rows()))
        random.Random(random_seed).shuffle(order)  # noqa: S311 - nothing secret
        return self.take(order)

    def sort(self, sort_key: str | Sequence[str] | Sequence[tuple[str, str]]) -> pa.Table:
        """Return the rows in order, nulls last.

        Args:
            sort_key: a column, columns, or pairs of a column and ``"ascending"`` or ``"descending"``.

        Raises:
            ValueError: there is no such column.
        """
        keys = [sort_key] if isinstance(sort_key, str) else list(sort_key)
        pairs = [(key, "ascending") if isinstance(key, str) else tuple(key) for key in keys]
        for name, _ in pairs:
            self._position(name)
        return self.take(pc.sort_indices(self._block, sort_keys=pairs))

    def zip(self, other: Any) -> pa.Table:
        """Return the columns of both blocks; names that both have get ``_1`` in the other.

        Raises:
            ValueError: the blocks differ in the number of rows.
        """
        right = BlockAccessor.for_block(other)._block
        if right.num_rows != self.num_rows():
            raise ValueError(f"blocks of {self.num_rows()} and {right.num_rows} rows cannot be zipped")
        made = self._block
        for name, column in zip(right.column_names, right.columns, strict=True):
            unused, number = name, 0
            while unused in made.column_names:
                number += 1
                unused = f"{name}_{number}"
            made = made.append_column(unused, column)
        return made

    # aggregates

    def count(self, on: str, ignore_nulls: bool = False) -> int:
        """Return the number of values of a column."""
        column = self._block.column(self._position(on))
        return len(column) - (column.null_count if ignore_nulls else 0)

    def sum(self, on: str, ignore_nulls: bool) -> Any:
        """Return the sum of a column; None if there is a null that is not ignored, or no value."""
        return pc.sum(self._block.column(self._position(on)), skip_nulls=ignore_nulls).as_py()

    def min(self, on: str, ignore_nulls: bool) -> Any:
        """Return the least value of a column; None as for ``sum``."""
        return pc.min(self._block.column(self._position(on)), skip_nulls=ignore_nulls).as_py()

    def max(self, on: str, ignore_nulls: bool) -> Any:
        """Return the greatest value of a column; None as for ``sum``."""
        return pc.max(self._block.column(self._position(on)), skip_nulls=ignore_nulls).as_py()

    def mean(self, on: str, ignore_nulls: bool) -> Any:
        """Return the mean of a column; None as for ``sum``."""
        return pc.mean(self._block.column(self._position(on)), skip_nulls=ignore_nulls).as_py()

    def _position(self, name: str) -> int:
        """Return the position of a column, or raise ValueError with those that there are."""
        position = int(self._block.schema.get_field_index(name))
        if position < 0 or name == NO_COLUMNS:
            known = ", ".join(map(repr, self.column_names()))
            raise ValueError(f"the block has no column {name!r}; it has {known or 'none'}")
        return position
