"""PDF: a row a page or a document; text, and pictures of pages, by PDFium."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from skate.data._io.files.bundles import BundleLimits
from skate.data._io.files.errors import FileReadError, FileTooLargeError, require
from skate.data._io.files.file_source import FileBasedDatasource
from skate.data._io.files.output import Rejections
from skate.data._io.files.reading import InputFile, check_not_empty
from skate.data._io.readers.images import MAX_PIXELS
from skate.data._options import check_choice, check_positive, check_type


class PDFDatasource(FileBasedDatasource):
    """Pages or documents of PDF files.

    Columns: ``text``; ``num_pages``; for pages ``page`` (from 0); with ``render_dpi`` also ``image``, arrays
    of (height, width, 3). Text of a document is that of its pages with a form feed between them.

    Args:
        paths: see ``FileBasedDatasource``.
        per: ``"page"`` or ``"document"``: what a row is.
        text: add the column ``text``.
        render_dpi: dots an inch of pictures of the pages; None: no pictures. For pages only.
        max_pages: pages that are read of each file; None: all.
        max_pixels: a page that would have more is an unreadable file.
        password: of encrypted files.
        **options: of ``FileBasedDatasource``.

    Raises:
        ImportError: pypdfium2 is not installed.

    Example:
        >>> PDFDatasource("papers/", per="document")  # doctest: +SKIP
    """

    default_extensions = ("pdf",)
    is_decoding = True
    limits = BundleLimits(most_bytes=16 << 20, most_files=128, least_bytes=1 << 20)
    memory_per_byte = 0.5

    def __init__(
        self,
        paths: Any,
        *,
        per: str = "page",
        text: bool = True,
        render_dpi: float | None = None,
        max_pages: int | None = None,
        max_pixels: int = MAX_PIXELS,
        password: str | None = None,
        file_extensions: Any = default_extensions,
        **options: Any,
    ) -> None:
        require("pypdfium2", "read_pdf", "data-pdf")
        check_choice("per", per, ("page", "document"))
        check_type("text", text, bool, "True or False")
        check_positive("render_dpi", render_dpi, integer=False)
        check_positive("max_pages", max_pages)
        check_positive("max_pixels", max_pixels)
        if password is not None:
            check_type("password", password, str, "a string")
        if render_dpi is not None and per == "document":
            raise ValueError("render_dpi makes a picture of each page: it needs per='page'")
        self._per = per
        self._text = text
        self._render_dpi = render_dpi
        self._max_pages = max_pages
        self._max_pixels = max_pixels
        self._password = password
        super().__init__(paths, file_extensions=file_extensions, **options)
        self.rows_per_file = 1 if per == "document" else None

    def fingerprint(self) -> dict[str, Any]:
        """Return a digest of the files and the options; a password is no part of it."""
        made = super().fingerprint()
        made["options"].pop("password", None)
        return made

    def read_file(self, file: InputFile, rejections: Rejections) -> Iterator[pa.Table | Mapping[str, Any]]:
        check_not_empty(file, "PDF file")
        pdfium = require("pypdfium2", "read_pdf", "data-pdf")
        try:
            document = pdfium.PdfDocument(file.read(), password=self._password)
        except pdfium.PdfiumError as error:
            hint = ""
            if "password" in str(error).lower():
                hint = " (pass password=)"
            raise FileReadError(file.path, f"{error}{hint}") from error
        try:
            yield from self._rows(document, file.path)
        finally:
            document.close()

    def _rows(self, document: Any, path: str) -> Iterator[dict[str, Any]]:
        count = len(document)
        read = count if self._max_pages is None else min(count, self._max_pages)
        if self._per == "document":
            row: dict[str, Any] = {"num_pages": count}
            if self._text:
                row["text"] = "\f".join(self._page(document, number, path)["text"] for number in range(read))
            yield row
            return
        for number in range(read):
            yield {"page": number, "num_pages": count, **self._page(document, number, path)}

    def _page(self, document: Any, number: int, path: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        page = document[number]
        try:
            if self._text:
                text_page = page.get_textpage()
                try:
                    # Lone surrogates come out of broken fonts; Arrow's strings cannot hold them.
                    found["text"] = text_page.get_text_bounded().encode("utf-8", "replace").decode()
                finally:
                    text_page.close()
            if self._render_dpi is not None:
                scale = self._render_dpi / 72
                width, height = page.get_size()
                if width * height * scale * scale > self._max_pixels:
                    raise FileTooLargeError(
                        path,
                        f"page {number} would have {int(width * scale)} x {int(height * scale)} pixels at "
                        f"render_dpi={self._render_dpi}, max_pixels is {self._max_pixels}",
                    )
                bitmap = page.render(scale=scale, rev_byteorder=True)
                try:
                    found["image"] = bitmap.to_numpy()[:, :, :3].copy()
                finally:
                    bitmap.close()
        finally:
            page.close()
        return found
