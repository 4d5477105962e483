"""Text: a row a line."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from skate.data._io.files.bundles import BundleLimits
from skate.data._io.files.file_source import FileBasedDatasource
from skate.data._io.files.output import Rejections
from skate.data._io.files.reading import WHOLE_FILE_BYTES, InputFile, lines_of, read_range
from skate.data._options import check_type

# Encodings in which no byte of another character is a line feed, so bytes can be cut at line feeds.
_CUT_AT_LINE_FEEDS = ("utf-8", "ascii", "latin", "iso8859", "cp125", "koi8", "mac-")


class TextDatasource(FileBasedDatasource):
    r"""Lines of text files: a column ``text``.

    Args:
        paths: see ``FileBasedDatasource``.
        encoding: name of the encoding.
        drop_empty_lines: leave out lines that have nothing but white space.
        **options: of ``FileBasedDatasource``.

    Lines end with ``\n`` or ``\r\n``. Files of 128 MiB and more are read in several tasks.

    Example:
        >>> TextDatasource("poems/", file_extensions=["txt"])  # doctest: +SKIP
    """

    limits = BundleLimits(most_bytes=64 << 20, most_files=1000, least_bytes=4 << 20)

    def __init__(
        self, paths: Any, *, encoding: str = "utf-8", drop_empty_lines: bool = True, **options: Any
    ) -> None:
        check_type("encoding", encoding, str, "the name of an encoding")
        check_type("drop_empty_lines", drop_empty_lines, bool, "True or False")
        try:
            self._codec_name = codecs.lookup(encoding).name
        except LookupError:
            raise ValueError(f"encoding={encoding!r} is not known to Python") from None
        self._drop_empty_lines = drop_empty_lines
        super().__init__(paths, **options)

    def file_schema(self) -> pa.Schema:
        return pa.schema([("text", pa.string())])

    def is_splittable(self) -> bool:
        return self._codec_name.startswith(_CUT_AT_LINE_FEEDS)

    def read_file(self, file: InputFile, rejections: Rejections) -> Iterator[pa.Table | Mapping[str, Any]]:
        if not self.is_splittable():
            yield self._table(file.read())
        elif not file.piece.is_whole:
            yield from map(self._table, read_range(file, file.piece.start, file.piece.stop))
        elif file.codec is None and file.piece.entry.size <= WHOLE_FILE_BYTES:
            yield self._table(file.read())
        else:
            with file.open_stream() as stream:
                yield from map(self._table, lines_of(stream))

    def _table(self, data: bytes) -> pa.Table:
        text = data.decode(self._codec_name)
        if "\r\n" in text:
            text = text.replace("\r\n", "\n")
        lines = text.split("\n")
        if not lines[-1]:  # what follows the last line feed is no line
            lines.pop()
        if self._drop_empty_lines:
            lines = [line for line in lines if line and not line.isspace()]
        return pa.table({"text": pa.array(lines, pa.string())})
