"""CSV files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.csv as csv

from skate.data._io.commit import SaveMode
from skate.data._io.plain_data import plain
from skate.data._io.writers.file_sink import FileSink, call_args_fn
from skate.data._io.writers.formats import BlockFormat, BlockWriter
from skate.data._io.writers.names import FilenameProvider


class CSVFormat(BlockFormat):
    """CSV.

    Args:
        arguments: of ``pyarrow.csv.CSVWriter``: ``write_options``.
        arguments_function: makes further arguments, in the task.
    """

    extension = "csv"

    def __init__(
        self,
        arguments: Mapping[str, Any] | None = None,
        arguments_function: Callable[[], dict[str, Any]] | None = None,
    ) -> None:
        self.arguments = dict(arguments or {})
        self.arguments_function = arguments_function

    def __getstate__(self) -> dict[str, Any]:
        # pyarrow's options cannot be pickled.
        options = self.arguments.get("write_options")
        return {**self.__dict__, "arguments": {**self.arguments, "write_options": _as_dict(options)}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        options = self.arguments.pop("write_options", None)
        if options is not None:
            self.arguments["write_options"] = csv.WriteOptions(**options)

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "arguments": plain(self.__getstate__()["arguments"])}

    def check(self, schema: pa.Schema | None) -> None:
        try:
            csv.CSVWriter(pa.BufferOutputStream(), pa.schema([("x", pa.int64())]), **self.arguments).close()
        except TypeError as error:
            raise TypeError(f"arguments of write_csv for pyarrow's CSVWriter: {error}") from error
        if schema is not None:
            _check_columns(schema)

    def open_writer(self, stream: Any, schema: pa.Schema, where: str) -> BlockWriter:
        _check_columns(schema)
        return _CSVWriter(
            stream, schema, {**self.arguments, **call_args_fn(self.arguments_function, "arrow_csv_args_fn")}
        )


def _as_dict(options: Any) -> dict[str, Any] | None:
    """Return the parameters of pyarrow's options for writing."""
    if options is None:
        return None
    return {
        name: getattr(options, name)
        for name in dir(options)
        if not name.startswith("_") and name != "validate"
    }


def _check_columns(schema: pa.Schema) -> None:
    for field in schema:
        if pa.types.is_nested(field.type) or isinstance(field.type, pa.BaseExtensionType):
            raise ValueError(
                f"column {field.name!r} has type {field.type}; a CSV file has numbers, text and times "
                "only. Write "
                "Parquet or JSON, drop the column, or turn it into text first."
            )


def _is_binary(type_: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(type_) or pa.types.is_large_binary(type_) or pa.types.is_fixed_size_binary(type_)
    )


class _CSVWriter(BlockWriter):
    def __init__(self, stream: Any, schema: pa.Schema, arguments: dict[str, Any]) -> None:
        self._has_columns = bool(schema.names)
        self._writer = csv.CSVWriter(stream, schema, **arguments) if self._has_columns else None

    def write(self, block: pa.Table) -> None:
        if self._writer is None:
            raise ValueError("the rows have no columns; a CSV file cannot hold such rows. Keep one column.")
        try:
            self._writer.write_table(block)
        except pa.ArrowInvalid as error:
            binary = [field.name for field in block.schema if _is_binary(field.type)]
            if not binary:
                raise
            raise ValueError(
                f"columns {binary} have bytes that are no text (UTF-8), and a CSV file is text. Write "
                f"Parquet, drop the columns, or turn them into text first: {error}"
            ) from error

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


class CSVSink(FileSink):
    """The sink of ``write_csv``; parameters as there.

    Args:
        path: the folder.
        arrow_csv_args_fn: makes further arguments of pyarrow's CSVWriter, in each task.
        arrow_csv_args: of pyarrow's CSVWriter: ``write_options``.
    """

    def __init__(
        self,
        path: str,
        *,
        filesystem: Any = None,
        try_create_dir: bool = True,
        arrow_open_stream_args: Mapping[str, Any] | None = None,
        filename_provider: FilenameProvider | None = None,
        arrow_csv_args_fn: Callable[[], dict[str, Any]] | None = None,
        min_rows_per_file: int | None = None,
        mode: SaveMode | str = SaveMode.APPEND,
        resume: bool | str = False,
        **arrow_csv_args: Any,
    ) -> None:
        super().__init__(
            path,
            CSVFormat(arrow_csv_args, arrow_csv_args_fn),
            filesystem=filesystem,
            try_create_dir=try_create_dir,
            arrow_open_stream_args=arrow_open_stream_args,
            filename_provider=filename_provider,
            min_rows_per_file=min_rows_per_file,
            mode=mode,
            resume=resume,
        )
