"""The bytes of the files of one task: read ahead where reading waits, decompressed, within limits."""

from __future__ import annotations

import io
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, cast

from skate.data._io.files.bundles import Piece
from skate.data._io.files.errors import FileReadError, FileTooLargeError
from skate.data._io.files.filesystem import FileSystem, LocalFileSystem
from skate.data._io.files.retrying import Retries

#: Files up to this size are read whole by readers that can decode from memory; larger ones are opened.
WHOLE_FILE_BYTES = 64 << 20
_AHEAD_BYTES = 64 << 20
_CHUNK_FILES = 32
_CHUNK_BYTES = 2 << 20
_LOCAL_THREADS = 4
# A local read slower than this waits for a disk: from there on threads read ahead. Reads out of the page
# cache are faster, and threads would only cost (measured: 4 us a file of 4 kB inline, 8 us with two threads).
_SLOW_READ_S = 0.0005
_CACHE_BYTES_PER_S = 1e9

_CODECS = {".gz": "gzip", ".gzip": "gzip", ".bz2": "bz2", ".zst": "zstd", ".lz4": "lz4", ".br": "brotli"}


def codec_of(path: str, stream_args: dict[str, Any] | None) -> str | None:
    """Return how a file is compressed: as the stream's arguments say, or its extension."""
    given = (stream_args or {}).get("compression", "detect")
    if given is None or given == "uncompressed":
        return None
    if given != "detect":
        return str(given)
    dot = path.rfind(".")
    return _CODECS.get(path[dot:].lower()) if dot >= 0 else None


class InputFile:
    """A file, or a part of one, as a reader gets it.

    Attributes:
        path: its path.
        piece: which part of it.
        codec: how it is compressed; None: not.
    """

    def __init__(
        self,
        filesystem: FileSystem,
        piece: Piece,
        data: bytes | None,
        codec: str | None,
        max_file_bytes: int | None,
        retries: Retries | None = None,
    ) -> None:
        self.filesystem = filesystem
        self.piece = piece
        self.path = piece.entry.path
        self.codec = codec
        self._data = data
        self._max_bytes = max_file_bytes
        self._retries = retries or Retries()

    @property
    def extension(self) -> str:
        """The part of the name after its last dot, in lower case."""
        name = self.path.rpartition("/")[2]
        return name.rpartition(".")[2].lower() if "." in name else ""

    def read(self) -> bytes:
        """Return all bytes, decompressed.

        Raises:
            FileTooLargeError: there are more than ``max_file_bytes``.
        """
        if self.codec is not None:
            return self._decompressed()
        if self._data is not None:
            return self._data
        return self._retries.call(lambda: self.filesystem.read(self.path, self.piece.entry.size))

    def open(self) -> BinaryIO:
        """Open the file as it is, to read and seek."""
        if self._data is not None:
            return io.BytesIO(self._data)
        return self._retries.call(lambda: self.filesystem.open(self.path))

    def open_stream(self) -> Any:
        """Open the file, decompressed, to read from start to end: a ``pyarrow.NativeFile``."""
        import pyarrow as pa

        if self._data is not None:
            raw: Any = pa.BufferReader(self._data)
        elif isinstance(self.filesystem, LocalFileSystem):
            raw = pa.OSFile(self.path, "rb")
        else:
            raw = self._retries.call(lambda: self.filesystem.arrow().open_input_stream(self.path))
        return raw if self.codec is None else pa.CompressedInputStream(raw, self.codec)

    def _decompressed(self) -> bytes:
        with self.open_stream() as stream:
            limit = self._max_bytes
            if limit is None:
                return cast(bytes, stream.read())
            data = stream.read(limit + 1)
            if len(data) > limit:
                raise FileTooLargeError(
                    self.path, f"it holds more than max_file_bytes={limit} bytes once it is decompressed"
                )
            return cast(bytes, data)


def check_size(piece: Piece, max_file_bytes: int | None) -> None:
    """Raise FileTooLargeError if a file has more than ``max_file_bytes``."""
    if max_file_bytes is not None and piece.entry.size > max_file_bytes:
        raise FileTooLargeError(
            piece.entry.path, f"it has {piece.entry.size} bytes, max_file_bytes is {max_file_bytes}"
        )


Loaded = tuple[Piece, "bytes | Exception | None"]


def read_ahead(
    filesystem: FileSystem,
    pieces: Sequence[Piece],
    max_file_bytes: int | None = None,
    retries: Retries | None = None,
) -> Iterator[Loaded]:
    """Yield each piece with its file's bytes, or None if it is too large to hold, or the error of reading it.

    Threads read the next files while the caller decodes, as far as ``_AHEAD_BYTES``; for local files only
    from the moment on when a read was slow.

    Args:
        filesystem: where the files are.
        pieces: what to read.
        max_file_bytes: limit of a file; larger ones give a FileTooLargeError.
        retries: which errors are tried again; None: none.
    """
    again = retries or Retries()

    def load(piece: Piece) -> bytes | Exception | None:
        try:
            check_size(piece, max_file_bytes)
            if not piece.is_whole or piece.entry.size > WHOLE_FILE_BYTES:
                return None
            return again.call(lambda: filesystem.read(piece.entry.path, piece.entry.size))
        except Exception as error:
            return error

    position = 0
    threads = filesystem.read_threads
    if not threads:
        while position < len(pieces):
            piece = pieces[position]
            began = time.perf_counter()
            loaded = load(piece)
            elapsed = time.perf_counter() - began
            position += 1
            yield piece, loaded
            if elapsed > _SLOW_READ_S + piece.entry.size / _CACHE_BYTES_PER_S:
                break
        threads = _LOCAL_THREADS
    rest = pieces[position:]
    if len(rest) == 1:
        yield rest[0], load(rest[0])
    elif rest:
        yield from _read_with_threads(rest, load, threads)


def _read_with_threads(pieces: Sequence[Piece], load: Any, threads: int) -> Iterator[Loaded]:
    from concurrent.futures import Future, ThreadPoolExecutor

    chunks = deque(_chunks(pieces, max(1, len(pieces) // threads)))
    running: deque[tuple[list[Piece], int, Future[list[Any]]]] = deque()
    ahead = 0
    executor = ThreadPoolExecutor(min(threads, len(chunks)), thread_name_prefix="skate-data-read")

    def load_all(chunk: list[Piece]) -> list[Any]:
        return [load(piece) for piece in chunk]

    try:
        while chunks or running:
            while chunks and (ahead < _AHEAD_BYTES or not running):
                chunk = chunks.popleft()
                size = sum(piece.entry.size for piece in chunk if piece.entry.size <= WHOLE_FILE_BYTES)
                ahead += size
                running.append((chunk, size, executor.submit(load_all, chunk)))
            chunk, size, future = running.popleft()
            results = deque(future.result())
            ahead -= size
            for piece in chunk:
                yield piece, results.popleft()
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _chunks(pieces: Sequence[Piece], most_files: int) -> Iterator[list[Piece]]:
    chunk: list[Piece] = []
    size = 0
    for piece in pieces:
        if chunk and (size + piece.entry.size > _CHUNK_BYTES or len(chunk) >= min(_CHUNK_FILES, most_files)):
            yield chunk
            chunk, size = [], 0
        chunk.append(piece)
        size += piece.entry.size
    if chunk:
        yield chunk


def read_range(file: InputFile, start: int, stop: int, delimiter: bytes = b"\n") -> Iterator[bytes]:
    """Yield the lines of a file that begin in a range of bytes, as chunks of whole lines.

    Ranges that follow one another give every line exactly once: a line belongs to the range of its first
    byte.

    Args:
        file: the file, not compressed.
        start: first byte of the range.
        stop: the byte after the last.
        delimiter: one byte that ends a line.
    """
    with file.open() as stream:
        position = start
        if start:
            # The line that runs across the start belongs to the range before, unless one ends right there.
            stream.seek(start - 1)
            position = start - 1
            if not (position := _skip_line(stream, position, stop, delimiter)):
                return
        yield from lines_of(stream, position, stop, delimiter)


def _skip_line(stream: BinaryIO, position: int, stop: int, delimiter: bytes) -> int:
    """Move behind the next delimiter; return the position there, 0 if it is not before ``stop``."""
    while position < stop:
        chunk = stream.read(min(1 << 16, stop - position))
        if not chunk:
            return 0
        found = chunk.find(delimiter)
        if found >= 0:
            position += found + 1
            stream.seek(position)
            return position if position < stop else 0
        position += len(chunk)
    return 0


def lines_of(
    stream: Any,
    position: int = 0,
    stop: int | None = None,
    delimiter: bytes = b"\n",
    chunk_bytes: int = 8 << 20,
) -> Iterator[bytes]:
    """Yield the lines of a stream as chunks of whole lines: those that begin before ``stop``.

    Args:
        stream: at ``position``.
        position: number of its next byte.
        stop: lines from here on are left out; None: all are taken.
        delimiter: one byte that ends a line.
        chunk_bytes: about the size of a chunk; a longer line is a chunk of its own.
    """
    parts: list[bytes] = []
    while stop is None or position < stop:
        want = chunk_bytes if stop is None else min(chunk_bytes, stop - position)
        data = stream.read(want)
        if not data:
            break
        position += len(data)
        if stop is not None and position >= stop and not data.endswith(delimiter):
            data += _rest_of_line(stream, delimiter)
            position = stop
        end = data.rfind(delimiter) + 1
        if end:
            parts.append(data[:end])
            yield b"".join(parts)
            parts = [data[end:]] if end < len(data) else []
        else:
            parts.append(data)
    if parts:
        yield b"".join(parts)


def _rest_of_line(stream: Any, delimiter: bytes) -> bytes:
    parts = []
    while True:
        data = stream.read(1 << 16)
        found = data.find(delimiter)
        if found >= 0:
            parts.append(data[: found + 1])
            break
        parts.append(data)
        if not data:
            break
    return b"".join(parts)


def check_not_empty(file: InputFile, what: str) -> None:
    """Raise FileReadError if a file has no bytes."""
    if file.piece.entry.size == 0:
        raise FileReadError(file.path, f"it is empty, which is no {what}")
