"""Data sets as data frames, references to blocks, and other forms."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from skate.data._block.batches import to_batch
from skate.data._block.tables import concat, empty
from skate.data._io.datasource import BlockMetadata
from skate.data._previews import no_such_columns
from skate.data._task.slices import BlockSlice
from skate.data._verbs import facts, running
from skate.data._verbs.checks import text_or_none, whole_number
from skate.data._verbs.consumption import check_limit, checked, up_to
from skate.data._verbs.core import Core

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class RefBundle:
    """Blocks by reference, with their facts.

    Attributes:
        blocks: pairs of a reference and the facts of its block.
        schema: of the blocks.
        owns_blocks: always False: references are counted.
    """

    blocks: tuple[tuple[Any, BlockMetadata], ...]
    schema: pa.Schema | None = None
    owns_blocks: bool = False

    @property
    def block_refs(self) -> list[Any]:
        """The references."""
        return [ref for ref, _ in self.blocks]

    @property
    def metadata(self) -> list[BlockMetadata]:
        """The facts."""
        return [meta for _, meta in self.blocks]

    def num_rows(self) -> int:
        """Return the rows of all blocks."""
        return sum(meta.num_rows or 0 for _, meta in self.blocks)

    def size_bytes(self) -> int:
        """Return the bytes of all blocks."""
        return sum(meta.size_bytes or 0 for _, meta in self.blocks)


class Conversion(Core):
    """``to_pandas``, ``to_*_refs``, ``iter_internal_ref_bundles``."""

    def to_pandas(self, limit: int | None = None) -> pd.DataFrame:
        """Return all rows as one ``pandas.DataFrame``, in this process.

        Args:
            limit: refuse if there are more rows.

        Returns:
            A frame with Arrow-backed types.

        Raises:
            ValueError: there are more rows than the limit.
            MemoryError: the rows do not fit into the memory of this process.
        """
        if limit is not None:
            limit = whole_number("to_pandas", "limit", limit)
        rows = 0
        found = []
        plan = up_to(self._plan, limit)
        for table in checked(self._tables(plan), "to_pandas", self._context.memory_limit_bytes):
            rows += table.num_rows
            check_limit(rows, limit)
            found.append(table)
        with_rows = [table for table in found if table.num_rows] or found[:1]
        if with_rows:
            whole = concat(with_rows, self._context.on_conflict)
        else:
            schema = facts.known_schema(self._plan)
            whole = empty(pa.schema([]) if schema is None else schema)
        return to_batch(whole, "pandas")

    def to_arrow_refs(self) -> list[Any]:
        """Run the data set and return references to its blocks: ``pyarrow.Table`` each."""
        return self._refs(None)

    def to_pandas_refs(self) -> list[Any]:
        """Run the data set and return references to its blocks as ``pandas.DataFrame`` each."""
        return self._refs(lambda table: to_batch(table, "pandas"))

    def to_numpy_refs(self, *, column: str | None = None) -> list[Any]:
        """Run the data set and return references to its blocks as numpy arrays.

        Args:
            column: the one column whose array is wanted; None: a dict of all.

        Returns:
            References to arrays, or to dicts of arrays.

        Raises:
            ValueError: no such column.
        """

        text_or_none("to_numpy_refs", "column", column)

        def convert(table: pa.Table) -> Any:
            if column is None:
                return to_batch(table, "numpy")
            if column not in table.column_names:
                raise ValueError(f"to_numpy_refs(column=): {no_such_columns([column], table.column_names)}")
            return to_batch(table.select([column]), "numpy")[column]

        return self._refs(convert)

    def _refs(self, convert: Callable[[pa.Table], Any] | None) -> list[Any]:
        with running.run(self._plan, self._context, self._watch) as execution:
            if convert is None:
                return [_ref(execution, piece) for piece in execution if piece.num_rows]
            return [_put(convert(execution.fetch(piece))) for piece in execution if piece.num_rows]

    def iter_internal_ref_bundles(self) -> Iterator[RefBundle]:
        """Run the data set and yield its blocks by reference, as they are made.

        Yields:
            A bundle of one block each.
        """
        with running.run(self._plan, self._context, self._watch) as execution:
            for piece in execution:
                meta = BlockMetadata(piece.num_rows, piece.size_bytes, list(piece.meta.input_files))
                yield RefBundle(((_ref(execution, piece), meta),), piece.meta.schema)


def _ref(execution: Any, piece: BlockSlice) -> Any:
    """Return a reference to exactly the rows of a slice."""
    is_whole = piece.num_rows == piece.meta.num_rows
    if is_whole and not isinstance(piece.block, pa.Table) and not piece.meta.is_on_disk:
        return piece.block
    return _put(execution.fetch(piece))


def _put(value: Any) -> Any:
    # The session's API is imported when it is needed: small data sets do without.
    from skate import api

    return api.put(value)
