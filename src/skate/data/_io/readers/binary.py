"""Files as they are: a row a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from skate.data._io.files.bundles import BundleLimits
from skate.data._io.files.file_source import FileBasedDatasource
from skate.data._io.files.output import Rejections
from skate.data._io.files.reading import InputFile

# Larger files are blocks' parts as they were read; smaller ones are put together, which copies them.
_COPIED_BYTES = 1 << 20


class BinaryDatasource(FileBasedDatasource):
    """The bytes of files: a column ``bytes``, a row for each file.

    Compressed files (``.gz``, ``.bz2``, ``.zst``, ``.lz4``, ``.br``) are decompressed, as Ray does; with
    ``open_stream_args={"compression": None}`` they are not.

    Args:
        paths: see ``FileBasedDatasource``.
        **options: of ``FileBasedDatasource``.
    """

    limits = BundleLimits(most_bytes=64 << 20, most_files=1000, least_bytes=4 << 20)
    rows_per_file = 1

    def file_schema(self) -> pa.Schema:
        return pa.schema([("bytes", pa.binary())])

    def read_file(self, file: InputFile, rejections: Rejections) -> Iterator[pa.Table | Mapping[str, Any]]:
        data = file.read()
        yield {"bytes": data} if len(data) < _COPIED_BYTES else pa.table({"bytes": _without_copy(data)})


def _without_copy(data: bytes) -> pa.Array:
    """Return a column of one value that refers to the bytes."""
    is_wide = len(data) >= 1 << 31
    offsets = pa.array([0, len(data)], pa.int64() if is_wide else pa.int32()).buffers()[1]
    type_ = pa.large_binary() if is_wide else pa.binary()
    return pa.Array.from_buffers(type_, 1, [None, offsets, pa.py_buffer(data)])
