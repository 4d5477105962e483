"""The interface of a file format, and how the rows of a task are laid out in files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pyarrow as pa

from skate.data._block.batches import to_batch
from skate.data._block.errors import SchemaConflictError
from skate.data._block.rows import iter_rows
from skate.data._block.tables import concat, size_bytes, slice_rows, unify_schemas
from skate.data._io.commit_staging import StagedTask
from skate.data._io.commit_store import Store
from skate.data._io.plain_data import plain
from skate.data._io.writers.names import FileNames
from skate.data._task.operators import TaskContext

#: Rows are written in pieces of about this many bytes, or of the target size of a block if that is less.
_PIECE_BYTES = 128 << 20


class Format(ABC):
    """A file format with its options; picklable.

    Attributes:
        extension: of files, without a dot.
        is_numbered: names of files end in the number of the file within its task.
    """

    extension: str = ""
    is_numbered: bool = False

    def check(self, schema: pa.Schema | None) -> None:  # noqa: B027 - formats may have no options
        """Raise if an option is wrong, a library is missing or a column cannot be written."""

    def describe(self) -> dict[str, Any]:
        """Return the options as plain data: a write is not resumed with others."""
        return {"format": type(self).__name__, **{key: plain(value) for key, value in vars(self).items()}}

    @abstractmethod
    def write(
        self,
        blocks: Iterator[pa.Table],
        files: StagedTask,
        names: FileNames,
        context: TaskContext,
        schema: pa.Schema | None,
    ) -> None:
        """Write the blocks of a task.

        Args:
            blocks: the rows.
            files: opens files and counts rows.
            names: the files' names.
            context: of the task.
            schema: of the rows, if the plan knows it.
        """

    def write_empty(  # noqa: B027 - see the docstring
        self, schema: pa.Schema | None, files: StagedTask, names: FileNames
    ) -> None:
        """Write the one file of a result without rows; a format whose files are rows writes none."""


class BlockWriter(ABC):
    """An open file."""

    @abstractmethod
    def write(self, block: pa.Table) -> None:
        """Add rows."""

    def close(self) -> None:  # noqa: B027 - most write everything at once
        """Write what is left; the file itself is closed by its opener."""

    def abandon(self) -> None:  # noqa: B027 - most hold nothing
        """Forget the file: writing it failed."""


class BlockFormat(Format):
    """A format whose files hold many rows.

    Attributes:
        has_schema: all rows of a file have the same columns and types.
        has_one_schema: all files of a write have the same columns and types.
        max_rows_per_file: rows after which a new file begins; None: a task writes one file.
    """

    has_schema: bool = True
    has_one_schema: bool = False
    max_rows_per_file: int | None = None

    @abstractmethod
    def open_writer(self, stream: Any, schema: pa.Schema, where: str) -> BlockWriter:
        """Begin a file.

        Args:
            stream: open for writing.
            schema: of the rows; for formats without schema, of the first ones.
            where: the file's name, for errors.
        """

    def write(
        self,
        blocks: Iterator[pa.Table],
        files: StagedTask,
        names: FileNames,
        context: TaskContext,
        schema: pa.Schema | None,
    ) -> None:
        cutter = FileCutter(self, files, names, on_conflict=context.on_conflict)
        with cutter:
            for piece in pieces(blocks, self, context, schema):
                cutter.add(piece)

    def write_empty(self, schema: pa.Schema | None, files: StagedTask, names: FileNames) -> None:
        cutter = FileCutter(self, files, names)
        with cutter:
            cutter.begin((schema if schema is not None else pa.schema([])).empty_table())

    def schema_of(self, store: Store, name: str) -> pa.Schema:
        """Return the schema of a file that was written; for formats with ``has_one_schema``."""
        raise NotImplementedError

    def tables_of(self, store: Store, name: str) -> Iterator[pa.Table]:
        """Yield the rows of a file that was written; for formats with ``has_one_schema``."""
        raise NotImplementedError


class RowFormat(Format):
    """A format whose files hold one row each."""

    @abstractmethod
    def encode(self, row: dict[str, Any], stream: Any, where: str) -> None:
        """Write a row to an open file."""

    def write(
        self,
        blocks: Iterator[pa.Table],
        files: StagedTask,
        names: FileNames,
        context: TaskContext,
        schema: pa.Schema | None,
    ) -> None:
        for block_number, block in enumerate(blocks):
            for number, row in enumerate(iter_rows(block)):
                name = names.of_row(row, block_number, number)
                with files.file(name) as stream:
                    self.encode(
                        row, stream, f"row {number} of block {block_number} of task {context.task_id}"
                    )
                files.rows += 1


def pieces(
    blocks: Iterator[pa.Table], form: BlockFormat, context: TaskContext, schema: pa.Schema | None
) -> Iterator[pa.Table]:
    """Yield the rows of blocks in pieces of a good size, each in one schema, without notes of ours.

    Args:
        blocks: the rows.
        form: what they are written as.
        context: of the task.
        schema: what the plan knows: columns that a block lacks are null, columns of nulls get their type.
    """
    limit = min(_PIECE_BYTES, context.target_max_block_bytes)
    waiting: list[pa.Table] = []
    size = 0
    for block in blocks:
        if not block.num_rows:
            continue
        table = to_batch(block, None)
        if not form.has_schema:
            yield table
            continue
        waiting.append(table)
        size += size_bytes(table)
        if size >= limit:
            yield _join(waiting, schema, context.on_conflict)
            waiting, size = [], 0
    if waiting:
        yield _join(waiting, schema, context.on_conflict)


def _join(tables: list[pa.Table], schema: pa.Schema | None, on_conflict: str) -> pa.Table:
    if schema is not None and any(table.schema != schema for table in tables):
        try:
            known = unify_schemas([schema, *(table.schema for table in tables)])
        except SchemaConflictError:
            pass  # the plan was wrong; the rows count
        else:
            return concat([known.empty_table(), *tables])
    return concat(tables, on_conflict)


class FileCutter:
    """Writes the rows of a task into one file after the other, to be used in a ``with`` statement.

    Args:
        form: the format.
        files: opens them.
        names: names them.
        folder: where they are below the target, with a slash at its end.
        on_conflict: what ``concat`` does where the types of rows differ.
    """

    def __init__(
        self,
        form: BlockFormat,
        files: StagedTask,
        names: FileNames,
        folder: str = "",
        on_conflict: str = "error",
    ) -> None:
        self._form = form
        self._files = files
        self._names = names
        self._folder = folder
        self._on_conflict = "object" if on_conflict == "object" else "error"
        self._number = 0
        self._rows = 0
        self._schema: pa.Schema | None = None
        self._writer: BlockWriter | None = None
        self._open = ExitStack()

    def __enter__(self) -> FileCutter:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if error is None:
            self.close()
            return
        if self._writer is not None:
            self._writer.abandon()
        with suppress(Exception):  # of closing a file whose writing failed; the first error is the one to see
            self._open.__exit__(kind, error, traceback)

    def begin(self, table: pa.Table) -> None:
        """Open the next file, for a table's schema."""
        name = self._folder + self._names.of_file(self._number, table)
        self._number += 1
        self._rows = 0
        self._schema = table.schema
        stream = self._open.enter_context(self._files.file(name))
        self._writer = self._form.open_writer(stream, table.schema, name)

    def add(self, table: pa.Table) -> None:
        """Write rows."""
        if self._writer is not None and self._form.has_schema:
            table = self._fit(table)
        start = 0
        while start < table.num_rows:
            if self._writer is None:
                self.begin(table)
            assert self._writer is not None
            limit = self._form.max_rows_per_file
            stop = table.num_rows if limit is None else min(table.num_rows, start + limit - self._rows)
            self._writer.write(slice_rows(table, start, stop))
            self._files.rows += stop - start
            self._rows += stop - start
            start = stop
            if self._rows == limit:
                self.close()

    def _fit(self, table: pa.Table) -> pa.Table:
        """Return the table in the schema of the open file; if that cannot hold it, close the file."""
        assert self._schema is not None
        if table.schema.equals(self._schema):
            return table
        schema = unify_schemas([self._schema, table.schema], self._on_conflict)
        if not schema.equals(self._schema):
            self.close()
        return concat([schema.empty_table(), table], self._on_conflict)

    def close(self) -> None:
        """End the open file, if there is one."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()
        self._open.close()
