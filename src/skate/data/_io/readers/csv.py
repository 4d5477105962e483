"""CSV, by pyarrow.

Files are parsed in chunks of whole rows. The types of the first chunk hold for the next ones; where they do
not fit, a chunk is parsed with types of its own, which hold from then on. So a column that is int for a
million rows and float after that is read, not refused.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
from pyarrow import csv as pacsv

from skate.data._io.files.bundles import BundleLimits
from skate.data._io.files.file_source import FileBasedDatasource
from skate.data._io.files.output import Rejections
from skate.data._io.files.reading import WHOLE_FILE_BYTES, InputFile, check_not_empty, read_range
from skate.data._options import check_type

_CHUNK_BYTES = 8 << 20
_HEAD_BYTES = 1 << 20


class CSVDatasource(FileBasedDatasource):
    r"""Tables of CSV files.

    A quoted value may contain line feeds. A large file is therefore one task, unless ``parse_options`` says
    that none does (``newlines_in_values=False``, pyarrow's default, or ``quote_char=False``): then it is
    several.

    Args:
        paths: see ``FileBasedDatasource``.
        arrow_csv_args: ``read_options``, ``parse_options`` and ``convert_options`` of ``pyarrow.csv``.
        **options: of ``FileBasedDatasource``.

    Example:
        >>> from pyarrow.csv import ParseOptions
        >>> CSVDatasource("prices/", arrow_csv_args={"parse_options": ParseOptions(delimiter=";")})  #
        doctest: +SKIP
    """

    limits = BundleLimits(most_bytes=64 << 20, most_files=1000, least_bytes=4 << 20)
    memory_per_byte = 1.5

    def __init__(
        self, paths: Any, *, arrow_csv_args: Mapping[str, Any] | None = None, **options: Any
    ) -> None:
        args = dict(arrow_csv_args or {})
        kinds = {
            "read_options": pacsv.ReadOptions,
            "parse_options": pacsv.ParseOptions,
            "convert_options": pacsv.ConvertOptions,
        }
        for name, value in args.items():
            if name not in kinds:
                raise TypeError(
                    f"read_csv has no option {name!r}: arrow_csv_args are read_options, parse_options and "
                    "convert_options of pyarrow.csv, such as parse_options=ParseOptions(delimiter=';')"
                )
            if value is not None:
                check_type(name, value, kinds[name], f"a pyarrow.csv.{kinds[name].__name__}")
        self._read_options = args.get("read_options") or pacsv.ReadOptions()
        self._convert_options = args.get("convert_options") or pacsv.ConvertOptions()
        given = args.get("parse_options")
        self._parse_options = given or pacsv.ParseOptions(newlines_in_values=True)
        self._rows_end_at_line_feeds = given is not None and (
            not given.newlines_in_values or given.quote_char is False
        )
        super().__init__(paths, **options)

    def is_splittable(self) -> bool:
        return self._rows_end_at_line_feeds and self._read_options.encoding.lower().replace("-", "") == "utf8"

    def file_schema(self) -> pa.Schema | None:
        return self._schema

    def read_file(self, file: InputFile, rejections: Rejections) -> Iterator[pa.Table | Mapping[str, Any]]:
        check_not_empty(file, "CSV file: it has not even a header")
        handler = None if rejections.is_raising else _RejectingHandler(file.path, rejections)
        parser = _Parser(self._read_options, self._parse_options, self._convert_options, handler)
        piece = file.piece
        if not piece.is_whole:
            yield from self._part(file, parser)
        elif file.codec is None and piece.entry.size <= WHOLE_FILE_BYTES:
            yield parser.parse(file.read())
        else:
            yield from self._stream(file, parser)

    def _part(self, file: InputFile, parser: _Parser) -> Iterator[pa.Table]:
        if file.piece.part:
            with file.open() as stream:
                head = stream.read(_HEAD_BYTES)
            parser.parse(head[: head.rfind(b"\n") + 1] or head)
        for rows in read_range(file, file.piece.start, file.piece.stop):
            yield parser.parse(rows)

    def _stream(self, file: InputFile, parser: _Parser) -> Iterator[pa.Table]:
        with file.open_stream() as stream:
            if not parser.can_be_cut:
                yield parser.parse(stream.read())
                return
            rest = b""
            while data := stream.read(_CHUNK_BYTES):
                rest += data
                if len(rest) >= _CHUNK_BYTES and (end := parser.end_of_rows(rest)):
                    yield parser.parse(rest[:end])
                    rest = rest[end:]
            if rest:
                yield parser.parse(rest)


class _RejectingHandler:
    """Makes a letter of a row that has too few or too many values."""

    def __init__(self, path: str, rejections: Rejections) -> None:
        self._path = path
        self._rejections = rejections

    def __call__(self, row: Any) -> str:
        where = f" (row {row.number})" if row.number is not None else ""
        error = ValueError(
            f"expected {row.expected_columns} columns, got {row.actual_columns}{where}: {row.text[:200]}"
        )
        self._rejections.reject(error, self._path, {"line": row.text})
        return "skip"


class _Parser:
    """Parses the chunks of one file: the first has the header, its types hold for the next."""

    def __init__(self, read_options: Any, parse_options: Any, convert_options: Any, handler: Any) -> None:
        self._read_options = read_options
        self._parse_options = parse_options
        self._convert_options = convert_options
        self._handler = handler
        self._names: list[str] | None = None
        self._types: dict[str, pa.DataType] = {}
        quote = parse_options.quote_char
        self._quote = quote.encode() if parse_options.newlines_in_values and quote else None

    @property
    def can_be_cut(self) -> bool:
        """Whether the ends of rows can be seen in the bytes: not with escapes, nor in wide encodings."""
        encoding = self._read_options.encoding.lower().replace("-", "")
        is_plain = encoding in ("utf8", "ascii", "latin1", "iso88591", "cp1252")
        return is_plain and not (self._quote and self._parse_options.escape_char)

    def end_of_rows(self, data: bytes) -> int:
        """Return where the last whole row of a chunk that begins with a row ends; 0 if there is none."""
        end = data.rfind(b"\n") + 1
        while end and self._quote and data.count(self._quote, 0, end) % 2:
            end = data.rfind(b"\n", 0, end - 1) + 1  # this line feed lies between quotes
        return end

    def parse(self, data: bytes) -> pa.Table:
        """Return the rows of a chunk."""
        first = self._names is None
        read_options = copy.copy(self._read_options)
        read_options.use_threads = False
        read_options.block_size = min(max(len(data) + 1, 1 << 16), (1 << 31) - 1)
        convert_options = self._convert_options
        if not first:
            read_options.column_names = self._names
            read_options.autogenerate_column_names = False
            read_options.skip_rows = read_options.skip_rows_after_names = 0
            convert_options = copy.copy(convert_options)
            convert_options.column_types = {**self._types, **convert_options.column_types}
        try:
            table = self._read(data, read_options, convert_options)
        except pa.ArrowInvalid:
            if first or not self._types:
                raise
            table = self._read(data, read_options, self._convert_options)
        if first:
            self._names = self._names_of(data, table)
        self._types.update(
            {field.name: field.type for field in table.schema if not pa.types.is_null(field.type)}
        )
        return table

    def _read(self, data: bytes, read_options: Any, convert_options: Any) -> pa.Table:
        try:
            return pacsv.read_csv(pa.BufferReader(data), read_options, self._parse_options, convert_options)
        except pa.ArrowInvalid:
            # pyarrow calls the handler with the row's text, and loses the row if that is no UTF-8.
            if self._handler is None or not (read_options.encoding != "utf8" or _is_utf8(data)):
                raise
        parse_options = copy.copy(self._parse_options)
        parse_options.invalid_row_handler = self._handler
        return pacsv.read_csv(pa.BufferReader(data), read_options, parse_options, convert_options)

    def _names_of(self, data: bytes, table: pa.Table) -> list[str]:
        """Return the names of all columns of the file, also of those that ``include_columns`` leaves out."""
        if not self._convert_options.include_columns:
            return list(table.column_names)
        head = data[: self.end_of_rows(data[:_HEAD_BYTES]) or len(data)]
        read_options = copy.copy(self._read_options)
        read_options.block_size = max(len(head) + 1, 1 << 16)
        return list(self._read(head, read_options, pacsv.ConvertOptions()).column_names)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
