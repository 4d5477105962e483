"""Output of a read task: blocks cut by bytes, with the columns that paths give, and letters."""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa

from skate.data._block.builder import BlockBuilder
from skate.data._block.sources import with_sources
from skate.data._block.tables import slice_rows
from skate.data._io.files.errors import NOT_OF_FILES, FileReadError, named
from skate.data._task.operators import Letter, TaskContext


class Rejections:
    """Letters, or the error, for files and rows in them that cannot be read.

    Args:
        on_error: ``"raise"``, ``"skip"`` or ``"dead_letter"``.
        task: gets the letters.
        stage: the name of the read, for letters.
    """

    def __init__(self, on_error: str, task: TaskContext, stage: str) -> None:
        self.on_error = on_error
        self._task = task
        self._stage = stage
        self._count = 0

    @property
    def is_raising(self) -> bool:
        """Whether the first failure ends the task."""
        return self.on_error == "raise"

    def reject(
        self, error: Exception, path: str, row: Mapping[str, Any] | None = None, rows_before: int = 0
    ) -> None:
        """Raise the error, with the name of the file, or make a letter of it and return.

        Args:
            error: what went wrong.
            path: the file.
            row: the row, if it is one row of the file that failed.
            rows_before: rows of the file that were read before it failed.
        """
        described = named(error, path, 0 if self.is_raising else rows_before)
        if self.is_raising or isinstance(described, NOT_OF_FILES):
            if isinstance(described, FileReadError):
                described = described.ending()
            if described is error:
                raise error
            raise described from error
        text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        self._task.letters.append(
            Letter(
                row=dict(row) if row is not None else None,
                error=described,
                traceback_text=text,
                stage=self._stage,
                path=path,
                row_id=f"{self._task.task_id}:{self._count}",
                is_kept=self.on_error == "dead_letter",
            )
        )
        self._count += 1

    def add(self, letters: Iterable[Letter]) -> None:
        """Take letters that another process made of the same read."""
        for letter in letters:
            letter.row_id = f"{self._task.task_id}:{self._count}"
            self._task.letters.append(letter)
            self._count += 1


class Output:
    """The blocks of one read task.

    Args:
        target_bytes: size of a block.
        limit: rows after which the task is done; None: all.
        constants: gives the columns of a file by its path: value and type by name.
    """

    def __init__(
        self,
        target_bytes: int,
        limit: int | None,
        constants: Callable[[str], Mapping[str, tuple[Any, pa.DataType]]] | None,
    ) -> None:
        self._builder = BlockBuilder(target_bytes)
        self._left = limit
        self._constants_of = constants
        self._constants: Mapping[str, tuple[Any, pa.DataType]] = {}
        self._runs: deque[list[Any]] = deque()
        self.rows_of_file = 0

    @property
    def is_full(self) -> bool:
        """Whether the limit is reached."""
        return self._left is not None and self._left <= 0

    def begin(self, path: str) -> None:
        """Take the next rows as those of a file."""
        self.rows_of_file = 0
        self._runs.append([path, 0])
        if self._constants_of is not None:
            self._constants = self._constants_of(path)

    def add(self, made: pa.Table | Mapping[str, Any]) -> Iterator[pa.Table]:
        """Take a table or a row; yield the blocks that are complete."""
        if isinstance(made, pa.Table):
            self._add_table(made)
        else:
            self._add_row(made)
        for block in self._builder.ready():
            yield self._with_sources(block)

    def finish(self) -> Iterator[pa.Table]:
        """Yield the rest."""
        for block in self._builder.finish():
            yield self._with_sources(block)

    def _add_row(self, row: Mapping[str, Any]) -> None:
        if self.is_full:
            return
        if self._constants:
            row = {**row, **{name: value for name, (value, _) in self._constants.items()}}
        self._builder.add_row(row)
        self._count(1)

    def _add_table(self, table: pa.Table) -> None:
        if self._left is not None and table.num_rows > self._left:
            table = slice_rows(table, 0, self._left)
        if not table.num_rows and not table.num_columns:
            return
        if self._constants:
            table = with_constants(table, self._constants)
        self._builder.add_block(table)
        self._count(table.num_rows)

    def _count(self, rows: int) -> None:
        self._runs[-1][1] += rows
        self.rows_of_file += rows
        if self._left is not None:
            self._left -= rows

    def _with_sources(self, block: pa.Table) -> pa.Table:
        wanted = block.num_rows
        runs = []
        while wanted:
            path, rows = self._runs[0]
            taken = min(rows, wanted)
            if taken:
                runs.append((path, taken))
            wanted -= taken
            if taken == rows:
                if len(self._runs) == 1:
                    self._runs[0][1] = 0
                    break
                self._runs.popleft()
            else:
                self._runs[0][1] -= taken
        return with_sources(block, runs)


def with_constants(table: pa.Table, constants: Mapping[str, tuple[Any, pa.DataType]]) -> pa.Table:
    """Return a table with columns of one value each; a column of the same name is replaced."""
    for name, (value, type_) in constants.items():
        column = pa.nulls(table.num_rows, type_)
        if value is not None:
            column = pa.repeat(pa.scalar(value, type_), table.num_rows)
        position = table.schema.get_field_index(name)
        if position >= 0:
            table = table.set_column(position, name, column)
        else:
            table = table.append_column(name, column)
    return table
