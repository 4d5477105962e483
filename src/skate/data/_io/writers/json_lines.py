"""JSON files: an object a line."""

from __future__ import annotations

import base64
import datetime
import decimal
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa

from skate.data._block.batches import to_batch
from skate.data._block.rows import iter_rows
from skate.data._io.commit import SaveMode
from skate.data._io.files.errors import require
from skate.data._io.writers.file_sink import FileSink, call_args_fn
from skate.data._io.writers.formats import BlockFormat, BlockWriter
from skate.data._io.writers.names import FilenameProvider


class JSONFormat(BlockFormat):
    """JSON, an object a line: NaN is null, times are ISO 8601, bytes are base64, tensors nested lists.

    With arguments for pandas, ``DataFrame.to_json`` writes the lines, by its own rules.

    Args:
        arguments: of ``pandas.DataFrame.to_json``.
        arguments_function: makes further arguments, in the task.
    """

    extension = "json"
    has_schema = False

    def __init__(
        self,
        arguments: Mapping[str, Any] | None = None,
        arguments_function: Callable[[], dict[str, Any]] | None = None,
    ) -> None:
        self.arguments = dict(arguments or {})
        self.arguments_function = arguments_function

    def check(self, schema: pa.Schema | None) -> None:
        if self.arguments or self.arguments_function:
            frame = require("pandas", "write_json with arguments for pandas", "data-all").DataFrame(
                {"x": [1]}
            )
            try:
                frame.to_json(**_for_pandas(self.arguments))
            except (TypeError, ValueError) as error:
                raise type(error)(f"arguments of write_json for pandas: {error}") from error

    def open_writer(self, stream: Any, schema: pa.Schema, where: str) -> BlockWriter:
        arguments = {**self.arguments, **call_args_fn(self.arguments_function, "pandas_json_args_fn")}
        return _PandasWriter(stream, arguments) if arguments else _JSONWriter(stream, where)

    def write_empty(self, schema: pa.Schema | None, files: Any, names: Any) -> None:
        with files.file(names.of_file(0, None)):
            pass


def _for_pandas(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {"orient": "records", "lines": True, **arguments}


class _PandasWriter(BlockWriter):
    def __init__(self, stream: Any, arguments: dict[str, Any]) -> None:
        self._stream = stream
        self._arguments = _for_pandas(arguments)

    def write(self, block: pa.Table) -> None:
        text = to_batch(block, "pandas").to_json(**self._arguments)
        self._stream.write(text.encode() if text.endswith("\n") else text.encode() + b"\n")


class _JSONWriter(BlockWriter):
    def __init__(self, stream: Any, where: str) -> None:
        self._stream = stream
        self._where = where
        self._encode = json.JSONEncoder(
            ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=plain_json
        ).encode

    def write(self, block: pa.Table) -> None:
        lines = []
        size = 0
        for row in iter_rows(block):
            try:
                line = self._encode(row)
            except (TypeError, ValueError):
                line = self._carefully(row)
            lines.append(line)
            size += len(line)
            if size > 1 << 22:
                self._stream.write(("\n".join(lines) + "\n").encode())
                lines, size = [], 0
        if lines:
            self._stream.write(("\n".join(lines) + "\n").encode())

    def _carefully(self, row: dict[str, Any]) -> str:
        """Return a row that the encoder refused: it has NaN, which JSON lacks, or a foreign value."""
        for name, value in row.items():
            try:
                self._encode(without_nan(value))
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"column {name!r}: {type(value).__name__} {value!r:.80} cannot be written as JSON "
                    f"({error}). "
                    "Write Parquet, or turn the column into numbers, text, lists or dicts first."
                ) from error
        return self._encode(without_nan(row))


def plain_json(value: Any) -> Any:
    """Return what JSON has for a value that Python's encoder does not know."""
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, decimal.Decimal):
        number = float(value)
        return number if math.isfinite(number) else None
    if hasattr(value, "tolist"):  # arrays and scalars of numpy
        found = without_nan(value.tolist())
        return value.isoformat() if found is value else found
    if hasattr(value, "isoformat"):
        return value.isoformat()
    raise TypeError(f"a {type(value).__name__} has no place in JSON")


def without_nan(value: Any) -> Any:
    """Return a value with null in the place of NaN and infinity, which JSON lacks."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(item) for item in value]
    return value


class JSONSink(FileSink):
    """The sink of ``write_json``; parameters as there.

    Args:
        path: the folder.
        pandas_json_args_fn: makes further arguments of pandas' ``to_json``, in each task.
        pandas_json_args: of pandas' ``to_json``; without any, pandas is not needed.
    """

    def __init__(
        self,
        path: str,
        *,
        filesystem: Any = None,
        try_create_dir: bool = True,
        arrow_open_stream_args: Mapping[str, Any] | None = None,
        filename_provider: FilenameProvider | None = None,
        pandas_json_args_fn: Callable[[], dict[str, Any]] | None = None,
        min_rows_per_file: int | None = None,
        mode: SaveMode | str = SaveMode.APPEND,
        resume: bool | str = False,
        **pandas_json_args: Any,
    ) -> None:
        super().__init__(
            path,
            JSONFormat(pandas_json_args, pandas_json_args_fn),
            filesystem=filesystem,
            try_create_dir=try_create_dir,
            arrow_open_stream_args=arrow_open_stream_args,
            filename_provider=filename_provider,
            min_rows_per_file=min_rows_per_file,
            mode=mode,
            resume=resume,
        )
