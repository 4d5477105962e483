"""Where files are: this machine, or whatever pyarrow or fsspec reaches.

Local files are listed and read with ``os`` alone, which is several times faster than a general interface;
all others go through one ``pyarrow.fs.FileSystem``, into which fsspec filesystems are wrapped.
"""

from __future__ import annotations

import os
import stat
from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple, cast

# A call of the system returns at most 2 GiB; joining two answers would hold a file twice.
_MOST_OF_ONE_CALL = 1 << 30
_LOCAL_SCHEMES = ("file", "local")
# The constructor of a named tuple is a Python function; there is a call for each of many files.
_new_tuple = tuple.__new__


class FileEntry(NamedTuple):
    """A file that was found.

    Attributes:
        path: its path, without a scheme.
        size: bytes.
        mtime_ns: time of its last change in nanoseconds since 1970; 0 if unknown.
    """

    path: str
    size: int
    mtime_ns: int


def pack_entries(entries: Sequence[FileEntry]) -> tuple[str, bytes, bytes]:
    """Return files as a few large values: a tuple for each of a hundred thousand files is slow to pickle."""
    return (
        "\0".join([entry.path for entry in entries]),
        array("q", [entry.size for entry in entries]).tobytes(),
        array("q", [entry.mtime_ns for entry in entries]).tobytes(),
    )


def unpack_entries(packed: tuple[str, bytes, bytes]) -> list[FileEntry]:
    """Return what ``pack_entries`` was given."""
    paths, sizes, mtimes = packed
    if not sizes:
        return []
    return list(map(FileEntry, paths.split("\0"), array("q", sizes), array("q", mtimes)))


class FileSystem(ABC):
    """Calls that reading needs of a filesystem; picklable.

    Attributes:
        read_threads: threads that read ahead inside a task; 0: as many as measured reads call for.
    """

    read_threads: int = 0

    def kind(self, path: str) -> str | None:
        """Return ``"file"``, ``"dir"``, or None if there is nothing."""
        [found] = self.look([path])
        return "file" if isinstance(found, FileEntry) else found

    @abstractmethod
    def look(self, paths: Sequence[str]) -> list[FileEntry | str | None]:
        """Return for each path the facts of the file, ``"dir"`` for a folder, or None if there is nothing."""

    @abstractmethod
    def children(self, folder: str) -> list[tuple[str, bool]]:
        """Return the names in a folder, in order, and whether each is a folder."""

    @abstractmethod
    def walk(self, folder: str, wanted: Callable[[str], bool]) -> Iterator[FileEntry]:
        """Yield the files below a folder whose paths are wanted, in the order of their paths.

        Names that begin with ``_`` or ``.`` are left out, folders with all that is in them.
        """

    @abstractmethod
    def open(self, path: str) -> BinaryIO:
        """Open a file to read and seek."""

    @abstractmethod
    def read(self, path: str, size: int) -> bytes:
        """Return the bytes of a file of about ``size`` bytes."""

    @abstractmethod
    def arrow(self) -> Any:
        """Return the ``pyarrow.fs.FileSystem``."""

    def describe(self) -> str:
        """Return plain text that differs between filesystems, for fingerprints."""
        return type(self).__name__


def is_hidden(name: str) -> bool:
    """Tell whether listing skips a name."""
    return name[:1] in ("_", ".")


class LocalFileSystem(FileSystem):
    """Files of this machine."""

    def look(self, paths: Sequence[str]) -> list[FileEntry | str | None]:
        found: list[FileEntry | str | None] = []
        for path in paths:
            try:
                facts = os.stat(path)
            except (FileNotFoundError, NotADirectoryError):
                found.append(None)
                continue
            is_dir = stat.S_ISDIR(facts.st_mode)
            found.append("dir" if is_dir else FileEntry(path, facts.st_size, facts.st_mtime_ns))
        return found

    def children(self, folder: str) -> list[tuple[str, bool]]:
        with os.scandir(folder) as found:
            return sorted((entry.name, entry.is_dir()) for entry in found)

    def walk(self, folder: str, wanted: Callable[[str], bool]) -> Iterator[FileEntry]:
        # One stack, not recursion: a generator inside a generator would cost for each level and file.
        pending = [iter(_sorted_entries(folder))]
        while pending:
            for _, is_dir, entry in pending[-1]:
                if is_dir:
                    if entry.is_symlink() and _is_circle(entry.path):
                        continue
                    pending.append(iter(_sorted_entries(entry.path)))
                    break
                if not wanted(entry.path):
                    continue
                try:
                    facts = entry.stat()
                except FileNotFoundError:
                    # A link without a target: reading reports it. Skipping it here would lose it silently.
                    yield FileEntry(entry.path, 0, 0)
                    continue
                if stat.S_ISREG(facts.st_mode):  # pipes and sockets would block for ever
                    yield _new_tuple(FileEntry, (entry.path, facts.st_size, facts.st_mtime_ns))
            else:
                pending.pop()

    def open(self, path: str) -> BinaryIO:
        return open(path, "rb")

    def read(self, path: str, size: int) -> bytes:
        if size >= _MOST_OF_ONE_CALL:
            with open(path, "rb", buffering=0) as stream:
                return stream.readall()
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        try:
            data = os.read(descriptor, size + 1)
            if len(data) == size:
                return data
            # The file changed since it was listed, or one call cannot return as much.
            parts = [data]
            while data:
                data = os.read(descriptor, 1 << 24)
                parts.append(data)
            return b"".join(parts)
        finally:
            os.close(descriptor)

    def arrow(self) -> Any:
        from pyarrow import fs

        return fs.LocalFileSystem()


def _sorted_entries(folder: str) -> list[tuple[str, bool, os.DirEntry[str]]]:
    """Return what is in a folder in the order of paths: a folder's name sorts as if it ended with a slash."""
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            if name[0] == "_" or name[0] == ".":
                continue
            is_dir = entry.is_dir()
            found.append((name + "/" if is_dir else name, is_dir, entry))
    found.sort(key=lambda item: item[0])
    return found


def _is_circle(path: str) -> bool:
    """Tell whether a link leads to a folder that contains the link: following it would never end."""
    target = os.path.realpath(path)
    parent = os.path.realpath(os.path.dirname(path))
    return parent == target or parent.startswith(target.rstrip("/") + "/")


class ArrowFileSystem(FileSystem):
    """Files that a ``pyarrow.fs.FileSystem`` reaches.

    Args:
        filesystem: it, or an fsspec filesystem.
    """

    read_threads = 16

    def __init__(self, filesystem: Any) -> None:
        self._filesystem = filesystem
        self._wrapped: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {"_filesystem": self._filesystem, "_wrapped": None}

    def arrow(self) -> Any:
        if self._wrapped is None:
            from pyarrow import fs

            is_arrow = isinstance(self._filesystem, fs.FileSystem)
            self._wrapped = (
                self._filesystem if is_arrow else fs.PyFileSystem(fs.FSSpecHandler(self._filesystem))
            )
        return self._wrapped

    def describe(self) -> str:
        return str(getattr(self._filesystem, "type_name", None) or getattr(self._filesystem, "protocol", ""))

    def look(self, paths: Sequence[str]) -> list[FileEntry | str | None]:
        from pyarrow.fs import FileType

        # One call for all: pyarrow asks object stores in parallel.
        kinds = {FileType.Directory: "dir", FileType.NotFound: None}
        return [
            kinds[info.type] if info.type in kinds else _entry_of(info)
            for info in self.arrow().get_file_info(list(paths))
        ]

    def children(self, folder: str) -> list[tuple[str, bool]]:
        from pyarrow.fs import FileSelector, FileType

        found = self.arrow().get_file_info(FileSelector(folder, recursive=False))
        return sorted((info.base_name, info.type == FileType.Directory) for info in found)

    def walk(self, folder: str, wanted: Callable[[str], bool]) -> Iterator[FileEntry]:
        from pyarrow.fs import FileSelector, FileType

        start = len(folder.rstrip("/")) + 1 if folder.strip("/") else 0
        found = []
        for info in self.arrow().get_file_info(FileSelector(folder, recursive=True)):
            if info.type != FileType.File or not wanted(info.path):
                continue
            if any(is_hidden(name) for name in info.path[start:].strip("/").split("/")):
                continue
            found.append(_entry_of(info))
        found.sort()
        yield from found

    def open(self, path: str) -> BinaryIO:
        return cast(BinaryIO, self.arrow().open_input_file(path))

    def read(self, path: str, size: int) -> bytes:
        with self.arrow().open_input_stream(path) as stream:
            return cast(bytes, stream.read())


def _entry_of(info: Any) -> FileEntry:
    mtime = info.mtime_ns
    return FileEntry(info.path, info.size or 0, mtime if mtime is not None and mtime > 0 else 0)


def resolve(paths: Sequence[str], filesystem: Any = None) -> tuple[FileSystem, list[str]]:
    """Find the filesystem of paths, and their paths on it.

    Args:
        paths: local paths, or URLs of one scheme: ``s3://``, ``gs://``, ``hdfs://``, ``memory://``,
            ``file://``, ...
        filesystem: of pyarrow or fsspec; None: found by the scheme.

    Returns:
        The filesystem and the paths without scheme; local ones are absolute.

    Raises:
        ValueError: the schemes differ, or nobody knows the scheme.
        TypeError: ``filesystem`` is neither of pyarrow nor of fsspec.
    """
    if filesystem is not None:
        return _given(paths, filesystem)
    schemes = {_scheme(path) for path in paths}
    if len(schemes) > 1:
        named = ", ".join(sorted(scheme or "local path" for scheme in schemes))
        raise ValueError(
            f"paths must be of one filesystem, not of several ({named}): read each and use union()"
        )
    scheme = schemes.pop() if schemes else ""
    if scheme == "" or scheme in _LOCAL_SCHEMES:
        return LocalFileSystem(), [os.path.abspath(_without_scheme(path)) for path in paths]
    return _by_scheme(scheme, paths)


def _given(paths: Sequence[str], filesystem: Any) -> tuple[FileSystem, list[str]]:
    from pyarrow import fs

    if isinstance(filesystem, FileSystem):
        return filesystem, list(paths)
    if isinstance(filesystem, fs.LocalFileSystem):
        return LocalFileSystem(), [os.path.abspath(_without_scheme(path)) for path in paths]
    if isinstance(filesystem, fs.FileSystem):
        return ArrowFileSystem(filesystem), [_without_scheme(path) for path in paths]
    if hasattr(filesystem, "_strip_protocol"):
        if "file" in _protocols(filesystem):
            return LocalFileSystem(), [os.path.abspath(filesystem._strip_protocol(path)) for path in paths]
        return ArrowFileSystem(filesystem), [str(filesystem._strip_protocol(path)) for path in paths]
    raise TypeError(
        "filesystem must be a pyarrow.fs.FileSystem or an fsspec filesystem, "
        f"not {filesystem!r} of type {type(filesystem).__name__}"
    )


def _protocols(filesystem: Any) -> tuple[str, ...]:
    protocol = getattr(filesystem, "protocol", ())
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)


def _by_scheme(scheme: str, paths: Sequence[str]) -> tuple[FileSystem, list[str]]:
    from pyarrow import fs

    trouble = ""
    if scheme in ("s3", "gs", "hdfs", "abfs", "abfss"):
        try:
            found = _anonymous_s3(paths[0]) if scheme == "s3" else None
            if found is None:
                found, _ = fs.FileSystem.from_uri(paths[0])
        except (OSError, ValueError, NotImplementedError, ImportError) as error:
            found, trouble = None, f"pyarrow: {error}; fsspec: "  # fsspec may know the way
        if found is not None:
            return ArrowFileSystem(found), [_without_scheme(path, keep_user=False) for path in paths]
    try:
        import fsspec  # type: ignore[import-untyped, unused-ignore]
    except ImportError as error:
        raise ImportError(
            f"reading {scheme}:// needs fsspec, which is not installed: pip install 'skate-runtime[data]'"
        ) from error
    try:
        filesystem = fsspec.filesystem(scheme)
    except (ValueError, ImportError) as error:
        raise ValueError(
            f"cannot read {paths[0]!r}: {trouble}{str(error).rstrip('.')}. Pass filesystem= to say how to "
            "reach it."
        ) from error
    return ArrowFileSystem(filesystem), [str(filesystem._strip_protocol(path)) for path in paths]


def _anonymous_s3(path: str) -> Any:
    """Return the filesystem of ``s3://anonymous@bucket/...``; None for other paths."""
    user, separator, rest = path.partition("://")[2].partition("/")[0].partition("@")
    if not separator or user != "anonymous":
        return None
    from pyarrow import fs

    try:
        region = fs.resolve_s3_region(rest)
    except OSError:
        region = None
    return fs.S3FileSystem(anonymous=True, region=region)


def _scheme(path: str) -> str:
    scheme, separator, _ = path.partition("://")
    return scheme.lower() if separator and scheme.replace("+", "").isalnum() else ""


def _without_scheme(path: str, *, keep_user: bool = True) -> str:
    if not _scheme(path):
        return path
    rest = path.partition("://")[2]
    if not keep_user:  # s3://anonymous@bucket/key
        head, slash, tail = rest.partition("/")
        rest = head.rpartition("@")[2] + slash + tail
    return rest
