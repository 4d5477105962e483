"""SQL: the rows of a query, by any connection of the Python database interface (PEP 249)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from skate.data._block.builder import BlockBuilder
from skate.data._io.datasource import BlockMetadata, Datasource, ReadTask
from skate.data._options import check_type
from skate.data._task.operators import TaskContext

_CHUNK_ROWS = 4096


class SQLReadError(RuntimeError):
    """A query failed; ``__cause__`` is the database's own error."""


class SQLDatasource(Datasource):
    """Rows of a query.

    Args:
        sql: the query.
        connection_factory: a function without arguments that opens a connection; it runs in workers.
        sql_params: parameters of the query, as the driver's ``execute`` takes them.
        shard_keys: columns by whose hash the query is cut into parts, one for each task; None: one task.
        shard_hash_fn: the database's function that hashes text to an integer, or, for ``"MD5"``, to
            hexadecimal.

    Raises:
        TypeError: an option is of the wrong type; its name is in the message.

    Example:
        >>> import sqlite3
        >>> SQLDatasource("SELECT * FROM movie", lambda: sqlite3.connect("movies.db"))  # doctest: +SKIP
    """

    def __init__(
        self,
        sql: str,
        connection_factory: Callable[[], Any],
        *,
        sql_params: Any = None,
        shard_keys: Sequence[str] | None = None,
        shard_hash_fn: str = "MD5",
    ) -> None:
        check_type("sql", sql, str, "a query")
        if not sql.strip():
            raise ValueError("sql is empty")
        if not callable(connection_factory):
            raise TypeError(
                "connection_factory must be a function that opens a connection, such as "
                f"lambda: sqlite3.connect('my.db'), not {connection_factory!r}"
            )
        if shard_keys is not None:
            check_type("shard_keys", shard_keys, (list, tuple), "a list of names of columns")
            for key in shard_keys:
                check_type("shard_keys", key, str, "a list of names of columns")
        check_type("shard_hash_fn", shard_hash_fn, str, "the name of a function of the database")
        self._sql = sql.strip().rstrip(";")
        self._factory = connection_factory
        self._params = sql_params
        self._shard_keys = tuple(shard_keys or ())
        self._hash = shard_hash_fn

    def get_name(self) -> str:
        return "SQL"

    def get_read_tasks(
        self, parallelism: int = -1, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        """Return one part; with ``shard_keys``, ``parallelism`` of them."""
        count = parallelism if self._shard_keys and parallelism > 1 else 1
        limits = [limit for limit in (per_task_row_limit, self.hints.limit) if limit is not None]
        tasks = []
        for number in range(count):
            read = SQLRead(self._query(number, count), self._factory, self._params, min(limits, default=None))
            tasks.append(ReadTask(read, BlockMetadata(), None, per_task_row_limit, f"sql[{number}/{count}]"))
        return tasks

    def _query(self, number: int, count: int) -> str:
        if count == 1:
            return self._sql
        keys = self._shard_keys
        text = keys[0] if len(keys) == 1 else f"CONCAT({', '.join(keys)})"
        hashed = f"{self._hash}({text})"
        if self._hash.upper() == "MD5":  # hexadecimal text; MySQL makes an integer of it so
            hashed = f"CONV(SUBSTR({hashed}, 1, 7), 16, 10)"
        return f"SELECT * FROM ({self._sql}) AS t WHERE MOD(ABS({hashed}), {count}) = {number}"  # noqa: S608 - the user's own

    def fingerprint(self) -> dict[str, Any]:
        """Return the query. Whether its rows changed cannot be known."""
        return {"source": "SQL", "sql": self._sql, "params": repr(self._params)}


class SQLRead:
    """The read function of a part of a query; picklable if the factory is.

    Args:
        sql: the query.
        factory: opens a connection.
        params: of the query.
        limit: rows after which reading stops.
    """

    def __init__(self, sql: str, factory: Callable[[], Any], params: Any, limit: int | None) -> None:
        self._sql = sql
        self._factory = factory
        self._params = params
        self._limit = limit

    def __call__(self) -> Iterator[pa.Table]:
        """Return the blocks."""
        return self.read(TaskContext("read"))

    def read(self, task: TaskContext) -> Iterator[pa.Table]:
        """Return the blocks of a task."""
        connection = self._factory()
        if not hasattr(connection, "cursor"):
            raise TypeError(
                f"connection_factory must return a connection with a method cursor(), not {connection!r}"
            )
        try:
            yield from self._rows(connection, BlockBuilder(task.target_max_block_bytes))
        finally:
            connection.close()

    def _rows(self, connection: Any, builder: BlockBuilder) -> Iterator[pa.Table]:
        cursor = connection.cursor()
        left = self._limit
        try:
            try:
                if self._params is None:
                    cursor.execute(self._sql)
                else:
                    cursor.execute(self._sql, self._params)
            except Exception as error:
                raise SQLReadError(
                    f"the query failed ({type(error).__name__}: {error}): {self._sql}"
                ) from error
            if cursor.description is None:
                raise SQLReadError(f"read_sql takes queries that return rows; this returns none: {self._sql}")
            names = _unique([column[0] for column in cursor.description])
            any_rows = False
            while left is None or left > 0:
                rows = cursor.fetchmany(_CHUNK_ROWS if left is None else min(left, _CHUNK_ROWS))
                if not rows:
                    break
                any_rows = True
                if left is not None:
                    left -= len(rows)
                for row in rows:
                    values = row.values() if isinstance(row, Mapping) else row
                    builder.add_row(dict(zip(names, values, strict=True)))
                yield from builder.ready()
            if not any_rows:
                builder.add_block(pa.table({name: pa.nulls(0) for name in names}))
        finally:
            cursor.close()
        yield from builder.finish()


def _unique(names: list[str]) -> list[str]:
    """Return names of which none comes twice: ``id, id`` become ``id, id_1``."""
    seen: dict[str, int] = {}
    made = []
    for name in names:
        number = seen.get(name, 0)
        seen[name] = number + 1
        made.append(f"{name}_{number}" if number else name)
    return made
