"""JSON: an object a line, an array of objects, or one object.

Lines are parsed by pyarrow; what it refuses (values of several types in one field, a broken line) is parsed
line by line, so that the line at fault is known.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec
import pyarrow as pa
from pyarrow import json as pajson

from skate.data._block.rows import from_rows
from skate.data._block.tables import cast_to
from skate.data._io.files.bundles import BundleLimits
from skate.data._io.files.file_source import FileBasedDatasource
from skate.data._io.files.output import Rejections
from skate.data._io.files.reading import WHOLE_FILE_BYTES, InputFile, lines_of, read_range
from skate.data._options import check_type

_SNIFFED_BYTES = 1 << 16
_ROWS_AT_A_TIME = 8192
_BOM = b"\xef\xbb\xbf"


class JSONDatasource(FileBasedDatasource):
    """Rows of JSON files: an object a line, an array of objects, or one object that is one row.

    Texts that look like times become timestamps, as pyarrow does; ``arrow_json_args={"parse_options":
    ParseOptions(explicit_schema=...)}`` says otherwise.

    Args:
        paths: see ``FileBasedDatasource``.
        lines: files have an object a line, whatever they look like; False: each file is looked at.
        arrow_json_args: ``read_options`` and ``parse_options`` of ``pyarrow.json``.
        **options: of ``FileBasedDatasource``.
    """

    default_extensions = tuple(
        name + codec for codec in ("", ".gz", ".br", ".zst", ".lz4") for name in ("json", "jsonl")
    )
    limits = BundleLimits(most_bytes=64 << 20, most_files=1000, least_bytes=4 << 20)
    memory_per_byte = 1.5

    def __init__(
        self,
        paths: Any,
        *,
        lines: bool = False,
        arrow_json_args: Mapping[str, Any] | None = None,
        file_extensions: Any = default_extensions,
        **options: Any,
    ) -> None:
        check_type("lines", lines, bool, "True or False")
        args = dict(arrow_json_args or {})
        kinds = {"read_options": pajson.ReadOptions, "parse_options": pajson.ParseOptions}
        for name, value in args.items():
            if name not in kinds:
                raise TypeError(
                    f"read_json has no option {name!r}: arrow_json_args are read_options and parse_options"
                )
            if value is not None:
                check_type(name, value, kinds[name], f"a pyarrow.json.{kinds[name].__name__}")
        self._lines = lines
        self._parse_options = args.get("parse_options")
        super().__init__(paths, file_extensions=file_extensions, **options)

    def is_splittable(self) -> bool:
        return True

    def read_file(self, file: InputFile, rejections: Rejections) -> Iterator[pa.Table | Mapping[str, Any]]:
        piece = file.piece
        if file.codec is None and piece.is_whole and piece.entry.size <= WHOLE_FILE_BYTES:
            data = file.read().removeprefix(_BOM)
            if self._is_lines(data[:_SNIFFED_BYTES]):
                yield from self._rows_of_lines([data], file.path, rejections)
            else:
                yield from self._rows_of_document(data, file.path, rejections)
            return
        with file.open_stream() as stream:
            head = stream.read(_SNIFFED_BYTES)
        if not self._is_lines(head.removeprefix(_BOM)):
            if piece.part == 0:  # a document is one value: nothing of it can be read alone
                yield from self._rows_of_document(file.read().removeprefix(_BOM), file.path, rejections)
        elif not piece.is_whole:
            chunks = read_range(file, piece.start, piece.stop)
            yield from self._rows_of_lines(chunks, file.path, rejections, piece.start)
        else:
            with file.open_stream() as stream:
                yield from self._rows_of_lines(lines_of(stream), file.path, rejections)

    def _is_lines(self, head: bytes) -> bool:
        """Tell by its first bytes whether a file has a value a line."""
        if self._lines:
            return True
        start = head.lstrip()
        if not start.startswith(b"{"):
            return not start.startswith(b"[")
        line, separator, _ = start.partition(b"\n")
        if not separator:
            return True
        try:
            _decode(line)
        except ValueError:
            # An object over several lines; or lines of which the first is broken. The second line decides.
            second = start.partition(b"\n")[2].lstrip()
            return second.startswith(b"{")
        return True

    def _rows_of_document(self, data: bytes, path: str, rejections: Rejections) -> Iterator[pa.Table]:
        value = _decode(data)
        rows = value if isinstance(value, list) else [value]
        good = []
        for number, row in enumerate(rows):
            if isinstance(row, dict):
                good.append(row)
            else:
                error = TypeError(f"item {number} is no object but {str(row)[:80]!r}")
                rejections.reject(error, path, {"line": json.dumps(row)})
        if good:
            yield self._table(good)

    def _rows_of_lines(
        self, chunks: Iterable[bytes], path: str, rejections: Rejections, first_byte: int = 0
    ) -> Iterator[pa.Table]:
        lines_before = 0
        for chunk in chunks:
            data = chunk.removeprefix(_BOM)
            if data and not data.isspace():
                read_options = pajson.ReadOptions(
                    use_threads=False, block_size=min(len(data) + 1, (1 << 31) - 1)
                )
                try:
                    yield pajson.read_json(pa.BufferReader(data), read_options, self._parse_options)
                except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
                    after = f" after byte {first_byte}" if first_byte else ""
                    yield from self._line_by_line(data, path, rejections, lines_before, after)
            lines_before += chunk.count(b"\n")

    def _line_by_line(
        self, data: bytes, path: str, rejections: Rejections, lines_before: int, after: str
    ) -> Iterator[pa.Table]:
        good: list[dict[str, Any]] = []
        bad: list[tuple[ValueError, str]] = []
        any_good = False
        for number, line in enumerate(data.split(b"\n"), start=lines_before + 1):
            if not line.strip():
                continue
            try:
                row = _decode(line)
                if not isinstance(row, dict):
                    raise TypeError(f"it is no object but {str(row)[:80]!r}")
            except (ValueError, TypeError) as error:
                text = line.decode("utf-8", "replace")
                described = ValueError(f"line {number}{after}: {error}: {text[:200]}")
                described.__cause__ = error
                bad.append((described, text))
                if rejections.is_raising:
                    raise described from error
            else:
                any_good = True
                good.append(row)
                if len(good) >= _ROWS_AT_A_TIME:
                    yield self._table(good)
                    good = []
        if len(bad) > 1 and not any_good:  # another kind of file: one letter, not one for each line
            raise ValueError(f"none of {len(bad)} lines is a JSON object; {bad[0][0]}") from bad[0][0]
        for described, text in bad:
            rejections.reject(described, path, {"line": text})
        if good:
            yield self._table(good)

    def _table(self, rows: list[dict[str, Any]]) -> pa.Table:
        made = from_rows(rows)
        schema = self._parse_options.explicit_schema if self._parse_options is not None else None
        if schema is None:
            return made
        for field in schema:
            if made.schema.get_field_index(field.name) < 0:
                made = made.append_column(field, pa.nulls(made.num_rows, field.type))
        return cast_to(made.select(schema.names), schema)


def _decode(data: bytes) -> Any:
    """Return a JSON value; NaN and Infinity are accepted, as Python's json does."""
    try:
        return msgspec.json.decode(data)
    except msgspec.DecodeError as error:
        try:
            return json.loads(data)
        except (ValueError, RecursionError):
            raise ValueError(str(error)) from None
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
