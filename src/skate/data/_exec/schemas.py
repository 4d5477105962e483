"""Compares the columns of the blocks of a stage: ``DataContext.on_schema = "error"``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skate.data._block.schemas import first_difference, public_schema
from skate.data._exec.commands import Submit
from skate.data._task.slices import BlockSlice
from skate.data.exceptions import SchemaMismatchError

if TYPE_CHECKING:
    import pyarrow as pa


class SchemaWatch:
    """Remembers the columns of each stage's first block. Blocks without rows do not count."""

    def __init__(self) -> None:
        self._first: dict[int, tuple[pa.Schema, str]] = {}

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
