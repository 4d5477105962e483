"""Facts of files: the cheap first stage of a pipeline. Nothing is read but the first bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import pyarrow as pa

from skate.data._io.files.bundles import BundleLimits
from skate.data._io.files.file_source import FileBasedDatasource, as_text
from skate.data._io.files.output import Rejections
from skate.data._io.files.reading import InputFile
from skate.data._options import check_type

_MAGIC_BYTES = 512


class FilesDatasource(FileBasedDatasource):
    """Facts of files: columns ``path``, ``size`` (bytes), ``mtime`` and ``type``, a row for each file.

    Args:
        paths: see ``FileBasedDatasource``.
        detect_type: look at the first bytes of each file for its type: ``"png"``, ``"pdf"``, ``"text"``,
            ``"unknown"``, ...; False: no column ``type``, and no file is opened.
        **options: of ``FileBasedDatasource``.

    Example:
        >>> FilesDatasource("downloads/", detect_type=True)  # doctest: +SKIP
    """

    limits = BundleLimits(most_bytes=1 << 60, most_files=4000, least_bytes=1 << 60)
    reads_whole_files = False
    rows_per_file = 1
    memory_per_byte = 0.0
    _row_bytes = 200

    def __init__(self, paths: Any, *, detect_type: bool = True, **options: Any) -> None:
        check_type("detect_type", detect_type, bool, "True or False")
        self._detect_type = detect_type
        super().__init__(paths, **{**options, "include_paths": False})

    def get_name(self) -> str:
        return "Files"

    def estimate_inmemory_data_size(self) -> int:
        """Return the expected bytes of all rows; of a very long listing, at least as many."""
        return sum(self._row_bytes for _ in islice(self.listing, 10_000))

    def file_schema(self) -> pa.Schema:
        fields = [("path", pa.string()), ("size", pa.int64()), ("mtime", pa.timestamp("us", "UTC"))]
        return pa.schema([*fields, *([("type", pa.string())] if self._detect_type else [])])

    def read_file(self, file: InputFile, rejections: Rejections) -> Iterator[pa.Table | Mapping[str, Any]]:
        entry = file.piece.entry
        row: dict[str, Any] = {"path": as_text(entry.path), "size": entry.size}
        row["mtime"] = (
            pa.scalar(entry.mtime_ns // 1000, pa.timestamp("us", "UTC")).as_py() if entry.mtime_ns else None
        )
        if self._detect_type:
            with file.open() as stream:
                row["type"] = type_of(stream.read(_MAGIC_BYTES))
        yield row


_MAGIC = (
    (0, b"\x89PNG\r\n\x1a\n", "png"),
    (0, b"\xff\xd8\xff", "jpeg"),
    (0, b"GIF8", "gif"),
    (0, b"BM", "bmp"),
    (0, b"II*\0", "tiff"),
    (0, b"MM\0*", "tiff"),
    (8, b"WEBP", "webp"),
    (8, b"WAVE", "wav"),
    (8, b"AVI ", "avi"),
    (0, b"%PDF-", "pdf"),
    (0, b"PAR1", "parquet"),
    (0, b"ARROW1", "arrow"),
    (0, b"\x93NUMPY", "npy"),
    (0, b"OggS", "ogg"),
    (0, b"fLaC", "flac"),
    (0, b"ID3", "mp3"),
    (0, b"\xff\xfb", "mp3"),
    (0, b"\xff\xf3", "mp3"),
    (0, b"FORM", "aiff"),
    (0, b"\x1aE\xdf\xa3", "matroska"),
    (4, b"ftypM4A", "m4a"),
    (4, b"ftypqt", "mov"),
    (4, b"ftypavif", "avif"),
    (4, b"ftypheic", "heic"),
    (4, b"ftyp", "mp4"),
    (0, b"FLV\x01", "flv"),
    (0, b"\x1f\x8b", "gzip"),
    (0, b"BZh", "bzip2"),
    (0, b"\xfd7zXZ\0", "xz"),
    (0, b"\x28\xb5\x2f\xfd", "zstd"),
    (0, b"\x04\x22\x4d\x18", "lz4"),
    (0, b"7z\xbc\xaf\x27\x1c", "7z"),
    (0, b"PK\x03\x04", "zip"),
    (257, b"ustar", "tar"),
    (0, b"SQLite format 3\0", "sqlite"),
    (0, b"\x7fELF", "elf"),
    (0, b"\x89HDF\r\n\x1a\n", "hdf5"),
    (0, b"ORC", "orc"),
    (0, b"Obj\x01", "avro"),
    (0, b"{\\rtf", "rtf"),
)


def type_of(head: bytes) -> str:
    """Return the type of a file by its first bytes; ``"text"``, ``"unknown"`` or ``"empty"`` if need be."""
    if not head:
        return "empty"
    for offset, magic, name in _MAGIC:
        if head.startswith(magic, offset):
            return name
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:64].lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "html"
    if start.startswith(b"<svg"):
        return "svg"
    if start.startswith(b"<?xml"):
        return "xml"
    if b"\0" in head:
        return "unknown"
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        is_cut_character = len(head) == _MAGIC_BYTES and error.start >= len(head) - 3
        if not is_cut_character:
            return "unknown"
    return "json" if start.startswith((b"{", b"[")) else "text"
