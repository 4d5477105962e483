"""The folder that a write goes to: what the commit protocol does with files, here and on remote storage.

Paths are relative to the folder, with slashes. ``LocalStore`` renames and syncs; on remote storage a rename
is a copy and a removal, which may be repeated, and a file is there as a whole or not at all once it is
closed.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, NamedTuple

from skate.data._io.files.filesystem import ArrowFileSystem, FileSystem, LocalFileSystem

#: Storage that has no folders: a key with slashes needs none.
_OBJECT_STORES = ("s3", "gcs", "abfs")
_ATTEMPTS = 20
#: Files that are synced by a call each; of more, all of the filesystem is, in one call.
_SYNCED_ONE_BY_ONE = 16


class StoredFile(NamedTuple):
    """A file of the target.

    Attributes:
        path: below the target's folder.
        size: bytes.
        mtime_ns: time of its last change, in nanoseconds; 0 if unknown.
    """

    path: str
    size: int
    mtime_ns: int


class Store(ABC):
    """Files below one folder; picklable.

    Attributes:
        root: the folder's path.
        is_local: files can be locked, synced and renamed.
    """

    is_local: bool = False

    def __init__(self, filesystem: FileSystem, root: str) -> None:
        self.filesystem = filesystem
        self.root = root

    def path(self, name: str) -> str:
        """Return the whole path of a name."""
        return f"{self.root}/{name}" if name else self.root

    def kind(self, name: str = "") -> str | None:
        """Return ``"file"``, ``"dir"``, or None if there is nothing."""
        return self.filesystem.kind(self.path(name))

    @abstractmethod
    def open(self, name: str, arguments: dict[str, Any] | None = None) -> Any:
        """Open a new file to write; ``arguments`` are pyarrow's (``compression``, ``buffer_size``, ...)."""

    @abstractmethod
    def names(self, folder: str) -> list[str]:
        """Return the names in a folder, in order; none if it is not there."""

    @abstractmethod
    def walk(self, folder: str) -> list[StoredFile]:
        """Return all files below a folder, by path; none if it is not there."""

    @abstractmethod
    def make_folder(self, name: str) -> None:
        """Make a folder and those above it."""

    @abstractmethod
    def make_one_folder(self, name: str) -> None:
        """Make a folder in one that is there; if it is not, raise FileNotFoundError (local alone)."""

    @abstractmethod
    def read(self, name: str) -> bytes | None:
        """Return a file's bytes, None if it is not there."""

    @abstractmethod
    def write(self, name: str, data: bytes, sync: bool = False) -> None:
        """Write a small file: it is there as a whole or not at all; ``sync``: it survives a power cut."""

    @abstractmethod
    def rename(self, old: str, new: str) -> None:
        """Rename a file, in the place of one that is there; its new folder must be there."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove a file if it is there."""

    @abstractmethod
    def remove_tree(self, name: str) -> None:
        """Remove a folder with all that is in it, if it is there."""

    @abstractmethod
    def remove_empty(self, name: str) -> bool:
        """Remove a folder if it is there and empty; tell whether it is gone."""

    def sync(self, name: str) -> None:  # noqa: B027 - nothing to do on remote storage
        """Make a file's bytes, or a folder's names, survive a power cut."""

    def sync_all(self, names: list[str], folder: str) -> None:
        """Make files and folders below a folder survive a power cut."""
        for name in names:
            self.sync(name.rstrip("/"))

    def missing(self) -> list[str]:
        """Return the folders that making the target would make, the innermost first; paths."""
        return []

    def unmake(self, folders: list[str]) -> None:  # noqa: B027 - nothing was made
        """Remove folders that were missing, as far as they are empty."""


class LocalStore(Store):
    """A folder of this machine."""

    is_local = True

    def open(self, name: str, arguments: dict[str, Any] | None = None) -> Any:
        return self.filesystem.arrow().open_output_stream(self.path(name), **(arguments or {}))

    def names(self, folder: str) -> list[str]:
        try:
            return sorted(os.listdir(self.path(folder)))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def walk(self, folder: str) -> list[StoredFile]:
        found: list[StoredFile] = []
        start = len(self.root) + 1

        def visit(path: str) -> None:
            try:
                entries = os.scandir(path)
            except (FileNotFoundError, NotADirectoryError):
                return
            with entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        visit(entry.path)
                        continue
                    with contextlib.suppress(FileNotFoundError):
                        facts = entry.stat(follow_symlinks=False)
                        found.append(StoredFile(entry.path[start:], facts.st_size, facts.st_mtime_ns))

        visit(self.path(folder))
        found.sort()
        return found

    def make_folder(self, name: str) -> None:
        for attempt in range(_ATTEMPTS):
            try:
                os.makedirs(self.path(name), exist_ok=True)
                return
            except FileNotFoundError:  # another write that ended has just removed a folder above
                if attempt == _ATTEMPTS - 1:
                    raise

    def make_one_folder(self, name: str) -> None:
        os.mkdir(self.path(name))

    def read(self, name: str) -> bytes | None:
        try:
            with open(self.path(name), "rb") as file:
                return file.read()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def write(self, name: str, data: bytes, sync: bool = False) -> None:
        temporary = self.path(f"{name}.{uuid.uuid4().hex[:8]}.tmp")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)
        try:
            with open(os.open(temporary, flags, 0o666), "wb") as file:
                file.write(data)
                if sync:
                    file.flush()
                    os.fsync(file.fileno())
            os.replace(temporary, self.path(name))
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        if sync:
            self.sync(os.path.dirname(name))

    def rename(self, old: str, new: str) -> None:
        os.replace(self.path(old), self.path(new))

    def remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path(name))

    def remove_tree(self, name: str) -> None:
        path = self.path(name)
        for attempt in range(_ATTEMPTS):
            try:
                shutil.rmtree(path)
                return
            except FileNotFoundError:
                if not os.path.lexists(path):
                    return
            except OSError as error:  # a worker whose driver is dead still writes there
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or attempt == _ATTEMPTS - 1:
                    raise

    def remove_empty(self, name: str) -> bool:
        try:
            os.rmdir(self.path(name))
        except FileNotFoundError:
            pass
        except OSError:
            return False
        return True

    def sync(self, name: str) -> None:
        descriptor = os.open(self.path(name), os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def sync_all(self, names: list[str], folder: str) -> None:
        if len(names) <= _SYNCED_ONE_BY_ONE or not self._sync_filesystem(folder):
            super().sync_all(names, folder)

    def _sync_filesystem(self, folder: str) -> bool:
        """Write everything that waits for the disk, where the system has a call for it."""
        try:
            call = ctypes.CDLL(None, use_errno=True).syncfs
        except (OSError, AttributeError, TypeError):
            return False
        descriptor = os.open(self.path(folder), os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        try:
            return bool(call(descriptor) == 0)
        finally:
            os.close(descriptor)

    def missing(self) -> list[str]:
        found, path = [], self.root
        while not os.path.lexists(path):
            found.append(path)
            path = os.path.dirname(path)
        return found

    def unmake(self, folders: list[str]) -> None:
        for path in folders:
            try:
                os.rmdir(path)
            except OSError:
                return


class RemoteStore(Store):
    """A folder that pyarrow or fsspec reaches."""

    @property
    def _arrow(self) -> Any:
        return self.filesystem.arrow()

    def _infos(self, folder: str, recursive: bool) -> list[Any]:
        from pyarrow.fs import FileSelector

        selector = FileSelector(self.path(folder), recursive=recursive, allow_not_found=True)
        return list(self._arrow.get_file_info(selector))

    def open(self, name: str, arguments: dict[str, Any] | None = None) -> Any:
        return self._arrow.open_output_stream(self.path(name), **(arguments or {}))

    def names(self, folder: str) -> list[str]:
        return sorted(info.base_name for info in self._infos(folder, False))

    def walk(self, folder: str) -> list[StoredFile]:
        from pyarrow.fs import FileType

        start = len(self.root.rstrip("/")) + 1
        return sorted(
            StoredFile(info.path[start:], info.size or 0, info.mtime_ns or 0)
            for info in self._infos(folder, True)
            if info.type == FileType.File
        )

    def make_folder(self, name: str) -> None:
        if self._arrow.type_name not in _OBJECT_STORES:
            self._arrow.create_dir(self.path(name), recursive=True)

    def make_one_folder(self, name: str) -> None:
        self.make_folder(name)

    def read(self, name: str) -> bytes | None:
        if self.kind(name) != "file":
            return None
        with self._arrow.open_input_stream(self.path(name)) as stream:
            data: bytes = stream.read()
        return data

    def write(self, name: str, data: bytes, sync: bool = False) -> None:
        with self.open(name) as stream:
            stream.write(data)

    def rename(self, old: str, new: str) -> None:
        self._arrow.move(self.path(old), self.path(new))

    def remove(self, name: str) -> None:
        if self.kind(name) == "file":
            self._arrow.delete_file(self.path(name))

    def remove_tree(self, name: str) -> None:
        if self.kind(name) is None:
            return
        with contextlib.suppress(FileNotFoundError):
            self._arrow.delete_dir(self.path(name))

    def remove_empty(self, name: str) -> bool:
        kind = self.kind(name)
        if kind == "dir" and not self._infos(name, False):
            self.remove_tree(name)
            return True
        return kind is None


def open_store(filesystem: FileSystem, root: str) -> Store:
    """Return the store of a folder."""
    if isinstance(filesystem, LocalFileSystem):
        return LocalStore(filesystem, root.rstrip("/") or "/")
    assert isinstance(filesystem, ArrowFileSystem)
    return RemoteStore(filesystem, root.rstrip("/"))


def folders_above(name: str) -> Iterator[str]:
    """Yield the folders of a name, the innermost first, without the target's own."""
    while "/" in name:
        name = name.rpartition("/")[0]
        yield name
