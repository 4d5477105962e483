"""NumPy files: one column as an array."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from skate.data._block.batches import to_batch
from skate.data._block.tables import concat
from skate.data._io.files.errors import require
from skate.data._io.writers.file_sink import FileOptions, FileSink
from skate.data._io.writers.formats import BlockFormat, BlockWriter
from skate.data._options import check_type
from skate.data._previews import no_such_columns

if TYPE_CHECKING:
    from typing_extensions import Unpack


class NumpyFormat(BlockFormat):
    """One column as ``.npy``: the rows are the array's first dimension.

    Text becomes numpy's fixed-width text. A column of arrays of several shapes, or of other objects, becomes
    an array of objects, which numpy pickles: ``numpy.load`` needs ``allow_pickle=True`` for it.

    Args:
        column: its name.
    """

    extension = "npy"

    def __init__(self, column: str) -> None:
        self.column = column

    def check(self, schema: pa.Schema | None) -> None:
        require("numpy", "write_numpy", "data-all")
        if schema is not None:
            self._check_column(schema)

    def _check_column(self, schema: pa.Schema) -> None:
        if schema.get_field_index(self.column) < 0:
            raise ValueError(f"column=: {no_such_columns([self.column], schema.names)}")

    def open_writer(self, stream: Any, schema: pa.Schema, where: str) -> BlockWriter:
        if schema.names:
            self._check_column(schema)
        return _NumpyWriter(stream, self.column, schema)


class _NumpyWriter(BlockWriter):
    def __init__(self, stream: Any, column: str, schema: pa.Schema) -> None:
        self._stream = stream
        self._column = column
        self._schema = schema
        self._tables: list[pa.Table] = []

    def write(self, block: pa.Table) -> None:
        self._tables.append(block.select([self._column]))

    def close(self) -> None:
        import numpy as np

        if not self._tables and not self._schema.names:
            np.save(self._stream, np.empty((0,)))
            return
        tables = self._tables or [self._schema.empty_table().select([self._column])]
        array = to_batch(concat(tables), "numpy")[self._column]
        if array.dtype == object and all(isinstance(value, str) for value in array):
            array = array.astype(np.str_)
        np.save(self._stream, array)


class NumpySink(FileSink):
    """The sink of ``write_numpy``; parameters as there.

    Args:
        path: the folder.
        column: the column that is written.
    """

    def __init__(
        self,
        path: str,
        *,
        column: str,
        **options: Unpack[FileOptions],
    ) -> None:
        check_type("column", column, str, "a column's name")
        super().__init__(path, NumpyFormat(column), **options)
