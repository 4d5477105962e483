"""Taking rows out of a data set, and keeping its blocks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from skate.data._block.batches import to_batch
from skate.data._block.rows import iter_rows
from skate.data._block.tables import concat, size_bytes
from skate.data._operators.functions import check_batch_format
from skate.data._plan.logical import Limit, Node
from skate.data._verbs import facts
from skate.data._verbs.checks import whole_number
from skate.data._verbs.core import Core

if TYPE_CHECKING:
    from skate.data._task.slices import BlockSlice


class Consumption(Core):
    """``take*``, ``show``, ``materialize``."""

    def take(self, limit: int = 20) -> list[dict[str, Any]]:
        """Return the first rows; no more than is needed for them runs.

        Args:
            limit: how many rows at most.

        Returns:
            Rows as dicts.

        Raises:
            TypeError: the limit is no number.

        Example:
            >>> skate.data.range(100).take(2)
            [{'id': 0}, {'id': 1}]
        """
        limit = whole_number("take", "limit", limit)
        rows: list[dict[str, Any]] = []
        if limit <= 0:
            return rows
        for table in self._tables(Limit(self._plan, limit)):
            rows.extend(iter_rows(table))
        return rows

    def take_all(self, limit: int | None = None) -> list[dict[str, Any]]:
        """Return all rows.

        Args:
            limit: refuse if there are more.

        Returns:
            Rows as dicts.

        Raises:
            ValueError: there are more rows than the limit.
            MemoryError: the rows do not fit into the memory of this process.
        """
        rows: list[dict[str, Any]] = []
        if limit is not None:
            limit = whole_number("take_all", "limit", limit)
        for table in checked(
            self._tables(up_to(self._plan, limit)), "take_all", self._context.memory_limit_bytes
        ):
            rows.extend(iter_rows(table))
            check_limit(len(rows), limit)
        return rows

    def take_batch(self, batch_size: int = 20, *, batch_format: str | None = "default") -> Any:
        """Return the first rows as one batch.

        Args:
            batch_size: how many rows at most.
            batch_format: ``"numpy"`` (also ``"default"``), ``"pandas"``, ``"pyarrow"``.

        Returns:
            A batch in that format.

        Raises:
            ValueError: there are no rows, or no such format.
        """
        size = whole_number("take_batch", "batch_size", batch_size, 1)
        check_batch_format(batch_format, "take_batch")
        found = [table for table in self._tables(Limit(self._plan, size)) if table.num_rows]
        if not found:
            raise ValueError("The dataset is empty.")
        return to_batch(concat(found, self._context.on_conflict), batch_format)

    def show(self, limit: int = 20) -> None:
        """Print the first rows, one a line.

        Args:
            limit: how many rows at most.
        """
        for row in self.take(whole_number("show", "limit", limit)):
            print(row)

    def materialize(self) -> Any:
        """Run the data set now and keep its blocks in shared memory.

        Returns:
            A MaterializedDataset, a new one each time.

        Example:
            >>> decoded = ds.map(decode).materialize()
            >>> decoded.count(), decoded.mean("width")  # decodes once
        """
        slices: list[BlockSlice] = self._slices()
        schema = facts.known_schema(self._plan)
        return self._held([piece for piece in slices if piece.num_rows or len(slices) == 1], schema)


def up_to(plan: Node, limit: int | None) -> Node:
    """Return a plan of one row more than a limit, so that more rows are noticed and not made."""
    return plan if limit is None else Limit(plan, max(0, limit) + 1)


def check_limit(rows: int, limit: int | None) -> None:
    """Raise ValueError for more rows than the user allowed."""
    if limit is not None and rows > limit:
        raise ValueError(
            f"The dataset has more than the given limit of {limit} rows. Raise the limit, or take the "
            f"first rows "
            f"by ds.limit({limit})."
        )


def checked(tables: Iterator[pa.Table], verb: str, memory_limit_bytes: int | None) -> Iterator[pa.Table]:
    """Yield tables as long as all of them together fit into this process.

    Raises:
        MemoryError: they would not; it says how many bytes came so far and what to do instead.
    """
    most = memory_limit_bytes or available_bytes()
    total = 0
    for table in tables:
        total += size_bytes(table)
        if total > most:
            raise MemoryError(
                f"{verb}() takes all rows into this process: {total >> 20} MiB came so far and more is to "
                f"come, but "
                f"{most >> 20} MiB is what it may have. Use take(n), limit(n), iter_batches() or "
                f"write_parquet(), "
                "or raise DataContext.memory_limit_bytes"
            )
        yield table


def available_bytes() -> int:
    """Return the memory that this process could still take: what the system calls available."""
    try:
        with open("/proc/meminfo") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
