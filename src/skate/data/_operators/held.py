"""Tables that may not be passed on yet: few in memory, many in a file."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Iterator
from typing import IO, Any

import pyarrow as pa

from skate.data._block.tables import compact, size_bytes


class Held:
    """Holds what a call has made until it is known that the call comes to its end.

    Args:
        limit_bytes: bytes that stay in memory; further tables go to a temporary file.

    Attributes:
        rest: rows that are no table yet, for the owner's use; they follow the tables.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.rest: list[Any] = []
        self._limit = limit_bytes
        self._bytes = 0
        self._tables: list[pa.Table] = []
        self._file: IO[bytes] | None = None
        self._in_file = 0

    @property
    def is_empty(self) -> bool:
        """There are no tables."""
        return not self._tables and not self._in_file

    def add(self, table: pa.Table) -> None:
        """Add a table."""
        size = size_bytes(table)
        if self._file is None and self._bytes + size <= self._limit:
            self._bytes += size
            self._tables.append(table)
            return
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="skate-held-")
        # Not as an Arrow stream: columns of pickled values are known to pickle alone.
        pickle.dump(compact(table), self._file, 5)
        self._in_file += 1

    def __iter__(self) -> Iterator[pa.Table]:
        """Yield the tables in order, once."""
        try:
            tables, self._tables = self._tables, []
            tables.reverse()
            while tables:
                yield tables.pop()
            if self._file is not None:
                self._file.seek(0)
                for _ in range(self._in_file):
                    yield pickle.load(self._file)
        finally:
            self.close()

    def close(self) -> None:
        """Forget the tables."""
        self._tables = []
        self._in_file = 0
        if self._file is not None:
            self._file.close()
            self._file = None
