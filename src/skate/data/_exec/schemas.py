"""Compares the columns of the blocks of a stage, and those of the rows that are written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skate.data._block.schemas import first_difference, public_schema
from skate.data._exec.commands import Submit
from skate.data._io.sink import Sink
from skate.data._io.writers.one_schema import SeenSchemas, Written
from skate.data._task.slices import BlockSlice
from skate.data.exceptions import SchemaMismatchError

if TYPE_CHECKING:
    import pyarrow as pa


class SchemaWatch:
    """Remembers the columns of each stage's first block. Blocks without rows do not count.

    Args:
        on_schema: ``DataContext.on_schema``. Blocks of a stage are compared if it is ``"error"``, rows that
            are written always.
    """

    def __init__(self, on_schema: str = "error") -> None:
        self._on_schema = on_schema
        self._first: dict[int, tuple[pa.Schema, str]] = {}
        self._written = SeenSchemas()

    def wrote(self, sink: Sink, task: Written) -> None:
        """Compare the columns of the rows that a task wrote with those of the tasks before it.

        Rows that cannot go into one file are an error now and not at the end of the write.

        Raises:
            SchemaMismatchError: they have to have one schema, and there is none.
        """
        for origin in task.schemas:
            if self._written.add(origin) and (sink.has_one_schema or self._on_schema == "error"):
                self._written.check(sink.name, self._on_schema)
        sink.is_uniform = len(self._written.origins) <= 1

    def check(self, stage: str, command: Submit, piece: BlockSlice) -> None:
        """Compare a block with the first one of its stage.

        Args:
            stage: name of the stage.
            command: what submitted the task that made the block.
            piece: the block.

        Raises:
            SchemaMismatchError: a column has another type, or is in one of them only.
        """
        schema = piece.meta.schema
        if self._on_schema != "error":
            return
        if schema is None or not piece.num_rows or piece.meta.extra is not None:
            return
        first, origin = self._first.setdefault(command.stage, (schema, _origin(command, piece)))
        found = None if schema is first else first_difference(public_schema(first), public_schema(schema))
        if found is not None:
            name, left, right = found
            here = _origin(command, piece)
            raise SchemaMismatchError(
                f"{stage}: the column {name!r} is {left or 'missing'} in {origin} and "
                f"{right or 'missing'} in {here}. DataContext.on_schema is 'error': make the function or the "
                "files agree, or set it to 'unify' or 'object'"
            )


def _origin(command: Submit, piece: BlockSlice) -> str:
    """Return where a block comes from, for people."""
    files = piece.meta.input_files
    return f"a block of {files[0]}" if files else f"a block of task {command.name}"
