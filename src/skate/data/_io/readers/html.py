"""HTML: a row a file; its title and text, by lexbor."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from skate.data._io.files.bundles import BundleLimits
from skate.data._io.files.errors import FileTooLargeError, require
from skate.data._io.files.file_source import FileBasedDatasource
from skate.data._io.files.output import Rejections
from skate.data._io.files.reading import InputFile
from skate.data._io.readers.html_text import lines_of
from skate.data._options import check_type

#: The parser's time grows with the square of the depth: this one takes it a tenth of a second. Browsers
#: nest 512 elements.
_MOST_DEPTH = 5000
_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]*)")
#: Elements that hold no others, or that a page need not close.
_SHALLOW = frozenset((
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr",
    "p", "li", "dt", "dd", "option", "optgroup", "tr", "td", "th", "thead", "tbody", "tfoot", "colgroup",
    "rb", "rt", "rp",
))  # fmt: skip


class HTMLDatasource(FileBasedDatasource):
    """HTML files: columns ``title`` and ``text``, a row for each file.

    Args:
        paths: see ``FileBasedDatasource``.
        include_html: add a column ``html``: the source.
        separator: stands between two lines: paragraphs, headings, list items and rows of tables have lines of
            their own.
        remove: CSS selectors of elements whose text is left out.
        encoding: of all files; None: as a file says, else UTF-8.
        **options: of ``FileBasedDatasource``.

    Raises:
        ImportError: selectolax is not installed.
    """

    default_extensions = ("html", "htm", "xhtml")
    is_decoding = True
    limits = BundleLimits(most_bytes=16 << 20, most_files=512, least_bytes=1 << 20)
    rows_per_file = 1

    def __init__(
        self,
        paths: Any,
        *,
        include_html: bool = False,
        separator: str = "\n",
        remove: tuple[str, ...] | list[str] = ("script", "style", "noscript", "template"),
        encoding: str | None = None,
        file_extensions: Any = default_extensions,
        **options: Any,
    ) -> None:
        require("selectolax.lexbor", "read_html", "data-html")
        check_type("include_html", include_html, bool, "True or False")
        check_type("separator", separator, str, "a string")
        check_type("remove", remove, (list, tuple), "a list of CSS selectors")
        if encoding is not None:
            check_type("encoding", encoding, str, "the name of an encoding")
            _lookup(encoding)
        self._include_html = include_html
        self._separator = separator
        self._remove = tuple(remove)
        self._encoding = encoding
        super().__init__(paths, file_extensions=file_extensions, **options)

    def file_schema(self) -> pa.Schema:
        names = ["title", "text", *(["html"] if self._include_html else [])]
        return pa.schema([(name, pa.string()) for name in names])

    def read_file(self, file: InputFile, rejections: Rejections) -> Iterator[pa.Table | Mapping[str, Any]]:
        lexbor = require("selectolax.lexbor", "read_html", "data-html")
        source = _decode(file.read(), self._encoding)
        if source.count("<") > _MOST_DEPTH and (depth := _depth(source)) > _MOST_DEPTH:
            raise FileTooLargeError(
                file.path, f"its elements are {depth} deep; a page may have {_MOST_DEPTH}"
            )
        tree = lexbor.LexborHTMLParser(source)
        title = tree.css_first("title")
        row: dict[str, Any] = {"title": title.text(strip=True) if title is not None else None}
        for selector in self._remove:
            for node in tree.css(selector):
                node.decompose()
        row["text"] = self._separator.join(lines_of(tree.body))
        if self._include_html:
            row["html"] = source
        yield row


def _depth(source: str) -> int:
    """Return about how deep the elements of a page are in each other."""
    depth = deepest = 0
    for match in _TAG.finditer(source):
        if match.group(2).lower() not in _SHALLOW:
            depth = max(0, depth - 1) if match.group(1) else depth + 1
            deepest = max(deepest, depth)
    return deepest


def _lookup(encoding: str) -> None:
    import codecs

    try:
        codecs.lookup(encoding)
    except LookupError:
        raise ValueError(f"encoding={encoding!r} is not known to Python") from None


def _decode(data: bytes, encoding: str | None) -> str:
    """Decode as ``encoding``, a byte order mark or ``<meta charset>`` says; what does not fit is U+FFFD."""
    if encoding is None:
        for mark, name in ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
            if data.startswith(mark):
                encoding = name
                break
        else:
            encoding = _charset_of(data[:2048]) or "utf-8"
    try:
        return data.decode(encoding, "replace")
    except LookupError:
        return data.decode("utf-8", "replace")


def _charset_of(head: bytes) -> str | None:
    position = head.lower().find(b"charset=")
    if position < 0:
        return None
    rest = head[position + 8 :].lstrip(b"\"' ")
    end = 0
    while end < len(rest) and (rest[end : end + 1].isalnum() or rest[end : end + 1] in b"-_:."):
        end += 1
    return rest[:end].decode("ascii", "replace") or None
