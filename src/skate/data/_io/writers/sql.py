"""Rows into a table of a database, through Python's DB API."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

import pyarrow as pa

from skate.data._block.rows import iter_rows
from skate.data._io.commit_files import WriteFacts
from skate.data._io.sink import Sink
from skate.data._options import check_type
from skate.data._task.operators import TaskContext

_ROWS_AT_A_TIME = 1024


class SQLSink(Sink):
    """The sink of ``write_sql``: each task inserts its rows in one transaction.

    A task that fails leaves nothing. Tasks commit on their own, so a write that fails leaves the rows of the
    tasks that finished, and a task whose worker dies right after its commit inserts its rows again: put a key
    on the table and insert with the database's "on conflict do nothing" where that matters.

    Args:
        sql: an ``INSERT`` statement with a placeholder for each column, in the order of the columns.
        connection_factory: returns a new connection by the DB API; called once in each task.

    Example:
        >>> ds.write_sql("INSERT INTO words VALUES (?, ?)", lambda: sqlite3.connect("words.db"))
    """

    name = "WriteSQL"

    def __init__(self, sql: str, connection_factory: Callable[[], Any]) -> None:
        check_type("sql", sql, str, "an INSERT statement")
        if not callable(connection_factory):
            raise TypeError(
                f"connection_factory must be a function that returns a connection, not {connection_factory!r}"
            )
        self._sql = sql
        self._connect = connection_factory
        self.facts = WriteFacts()

    def write(self, blocks: Iterator[pa.Table], task: TaskContext) -> dict[str, int]:
        rows = 0
        connection: Any = None
        try:
            for block in blocks:
                for values in _chunks(block):
                    if connection is None:
                        connection = self._connect()
                        cursor = connection.cursor()
                    cursor.executemany(self._sql, values)
                    rows += len(values)
            if connection is not None:
                connection.commit()
        except BaseException:
            if connection is not None:
                connection.rollback()
            raise
        finally:
            if connection is not None:
                with closing(connection):
                    pass
        return {"rows": rows}

    def commit(self, results: Sequence[Any], schema: pa.Schema | None) -> None:
        self.facts.rows = sum(result["rows"] for result in results if result is not None)


def _chunks(block: pa.Table) -> Iterator[list[tuple[Any, ...]]]:
    """Yield the rows of a block as tuples, some at a time."""
    chunk: list[tuple[Any, ...]] = []
    for row in iter_rows(block):
        chunk.append(tuple(row.values()))
        if len(chunk) == _ROWS_AT_A_TIME:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
