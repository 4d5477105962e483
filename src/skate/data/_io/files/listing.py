"""Which files there are: paths, folders and globs become one ordered listing.

A listing is read as far as it is needed. The call that makes it checks that every path exists and that there
is one file at least; the first tasks are made before the rest is listed. So a hundred thousand files
cost their first row one folder's names, not a hundred thousand questions to the filesystem.
"""

from __future__ import annotations

import fnmatch
import os
import posixpath
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import PurePath
from typing import Any

from skate.data._io.files.filesystem import (
    FileEntry,
    FileSystem,
    is_hidden,
    pack_entries,
    resolve,
    unpack_entries,
)
from skate.data._options import check_type

_READ_AT_A_TIME = 500
_MAGIC = re.compile(r"[*?\[]")


def check_paths(paths: Any) -> list[str]:
    """Return ``paths`` as a list of strings; raise, naming the option, if it is none."""
    if isinstance(paths, (str, PurePath)):
        paths = [paths]
    elif not isinstance(paths, (list, tuple)):
        raise TypeError(
            f"paths must be a path or a list of paths, not {paths!r} of type {type(paths).__name__}"
        )
    if not paths:
        raise ValueError("paths must name at least one file or folder; it is an empty list")
    for path in paths:
        check_type("paths", path, (str, PurePath), "a path or a list of paths")
        if not str(path):
            raise ValueError("paths must not contain an empty string")
    return [str(path) for path in paths]


def check_extensions(extensions: Any) -> tuple[str, ...] | None:
    """Return file extensions in lower case with their dot; raise, naming the option, if they are none."""
    if extensions is None:
        return None
    if isinstance(extensions, str):
        extensions = [extensions]
    check_type("file_extensions", extensions, (list, tuple, set, frozenset), "a list of extensions")
    for extension in extensions:
        check_type("file_extensions", extension, str, "a list of extensions such as ['csv', 'csv.gz']")
    return tuple(sorted({"." + extension.lower().lstrip(".") for extension in extensions}))


class Listing:
    """The files of a datasource, in order; read on demand, kept, safe for several threads.

    Args:
        paths: files, folders, globs (``*``, ``?``, ``[...]``, ``**``), local or URLs.
        filesystem: of pyarrow or fsspec; None: found by the paths.
        extensions: what names end with, in lower case and with a dot; None: anything.
        extensions_of_files_too: leave out files that are named themselves, if their extension differs.
        keep: tells by the path whether a file is read; None: all.
        ignore_missing_paths: leave out paths that do not exist.

    Raises:
        FileNotFoundError: a path or the files of a glob do not exist.
        ValueError: there is no file.
    """

    def __init__(
        self,
        paths: Sequence[str],
        filesystem: Any = None,
        *,
        extensions: tuple[str, ...] | None = None,
        extensions_of_files_too: bool = True,
        keep: Callable[[str], bool] | None = None,
        ignore_missing_paths: bool = False,
    ) -> None:
        self.filesystem, resolved = resolve(paths, filesystem)
        self._given = list(paths)
        self._extensions = extensions
        self._extensions_of_files_too = extensions_of_files_too
        self._keep = keep
        self._lock = threading.Lock()
        self._known: list[FileEntry] = []
        roots = self._roots(resolved, ignore_missing_paths)
        self.root = _common_folder(
            [path if isinstance(found, str) else posixpath.dirname(path) for path, found in roots]
        )
        self._rest: Iterator[FileEntry] | None = self._walk(roots)
        if not self._read_more(1):
            self._raise_nothing_found()

    def __getstate__(self) -> dict[str, Any]:
        # A plan that is pickled keeps what was found: listing again elsewhere might find something else.
        return {"filesystem": self.filesystem, "root": self.root, "_known": pack_entries(self.all())}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._known = unpack_entries(state["_known"])
        self._lock = threading.Lock()
        self._rest = None

    def __iter__(self) -> Iterator[FileEntry]:
        position, known = 0, self._known
        while position < len(known) or self._read_more(_READ_AT_A_TIME):
            yield known[position]
            position += 1

    def all(self) -> list[FileEntry]:
        """Return all files; reads the rest of the listing."""
        with self._lock:
            if self._rest is not None:
                self._known.extend(self._rest)
                self._rest = None
            return self._known

    def relative(self, path: str) -> str:
        """Return a path as seen from the folder that all files have in common."""
        return path[len(self.root) :].lstrip("/") if path.startswith(self.root) else path

    def _read_more(self, count: int) -> bool:
        """Take up to ``count`` more files; return whether there was one."""
        with self._lock:
            if self._rest is None:
                return False
            found = list(islice(self._rest, count))
            self._known.extend(found)
            if len(found) < count:
                self._rest = None
            return bool(found)

    def _roots(self, paths: Sequence[str], ignore_missing: bool) -> list[tuple[str, FileEntry | str]]:
        """Return what paths and globs lead to: files with their facts, and folders."""
        roots: list[tuple[str, FileEntry | str]] = []
        for path, found in zip(paths, self.filesystem.look(paths), strict=True):
            if found is not None:
                roots.append((path, found))
                continue
            matches = expand_glob(self.filesystem, path) if _MAGIC.search(path) else []
            looked = self.filesystem.look(matches)
            roots.extend(
                (match, seen) for match, seen in zip(matches, looked, strict=True) if seen is not None
            )
            if not matches and not ignore_missing:
                reason = "No file matches" if _MAGIC.search(path) else "No such file or directory"
                raise FileNotFoundError(2, f"{reason} (pass ignore_missing_paths=True to leave it out)", path)
        return roots

    def _walk(self, roots: list[tuple[str, FileEntry | str]]) -> Iterator[FileEntry]:
        for path, found in roots:
            if isinstance(found, str):
                yield from self.filesystem.walk(path, self._is_wanted)
            elif self._is_wanted_file(path):
                yield found

    def _is_wanted(self, path: str) -> bool:
        if self._extensions is not None and not path.lower().endswith(self._extensions):
            return False
        return self._keep is None or self._keep(path)

    def _is_wanted_file(self, path: str) -> bool:
        if self._extensions_of_files_too:
            return self._is_wanted(path)
        return self._keep is None or self._keep(path)

    def _raise_nothing_found(self) -> None:
        shown = (
            self._given if len(self._given) <= 5 else [*self._given[:5], f"... {len(self._given) - 5} more"]
        )
        hints = "Note that listing skips names starting with '_' or '.'"
        if self._extensions is not None:
            hints += f", and names that do not end with one of {', '.join(self._extensions)}"
        if self._keep is not None:
            hints += ", and files that partition_filter or skip_paths leave out"
        raise ValueError(f"No files found under {shown}. {hints}.")


def expand_glob(filesystem: FileSystem, pattern: str) -> list[str]:
    """Return the files and folders that a pattern matches, in order of paths.

    ``*``, ``?`` and ``[...]`` match within a name, ``**`` any number of folders. Names that begin with ``_``
    or ``.`` match only a pattern that begins alike.
    """
    segments = pattern.split("/")
    first = next(index for index, segment in enumerate(segments) if _MAGIC.search(segment))
    base = "/".join(segments[:first])
    base = base if base or not pattern.startswith("/") else "/"
    found: set[str] = set()
    if base and filesystem.kind(base) != "dir":
        return []
    _match(filesystem, base, [segment for segment in segments[first:] if segment], found)
    return sorted(found)


def _match(filesystem: FileSystem, folder: str, segments: list[str], found: set[str]) -> None:
    segment, rest = segments[0], segments[1:]
    if segment == "**":
        if not rest:
            found.add(folder)
            return
        _match(filesystem, folder, rest, found)
    elif not _MAGIC.search(segment):
        path = posixpath.join(folder, segment)
        kind = filesystem.kind(path)
        if kind == "dir" and rest:
            _match(filesystem, path, rest, found)
        elif kind is not None and not rest:
            found.add(path)
        return
    for name, is_dir in filesystem.children(folder):
        if is_hidden(name) and not segment.startswith(name[0]):
            continue
        path = posixpath.join(folder, name)
        if segment == "**":
            if is_dir and not os.path.islink(path):
                _match(filesystem, path, segments, found)
        elif fnmatch.fnmatchcase(name, segment):
            if not rest:
                found.add(path)
            elif is_dir:
                _match(filesystem, path, rest, found)


def _common_folder(folders: list[str]) -> str:
    if not folders:
        return ""
    try:
        common = posixpath.commonpath(folders)
    except ValueError:
        return ""
    return common.rstrip("/") + "/" if common else ""
