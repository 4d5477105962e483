"""Walks folders of the user, digests their content and copies them.

Both sides walk a folder alike: the process that names the folder computes its digest, and the process that
copies it computes the digest again.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from skate._environment import ignore

#: Patterns that are left out of every folder, as in Ray; RAY_OVERRIDE_RUNTIME_ENV_DEFAULT_EXCLUDES names
#: others.
_ALWAYS = ".git,.venv,venv,__pycache__"
_IGNORE_FILES = (".gitignore", ".rayignore")
_CHUNK = 1 << 20


class Entry(NamedTuple):
    """Describes a file, or a link to a folder, below the root."""

    path: str  # relative, with slashes
    size: int
    mtime_ns: int
    executable: bool
    #: The target of a link to a folder; empty: it is a file.
    link: str


def default_excludes() -> list[str]:
    """Return the patterns that hold in every folder."""
    text = os.environ.get("RAY_OVERRIDE_RUNTIME_ENV_DEFAULT_EXCLUDES", _ALWAYS)
    return [pattern for pattern in text.split(",") if pattern]


def walk(root: str, excludes: Sequence[str]) -> Iterator[Entry]:
    """Yield the files and links that belong to a folder, in the order of names.

    ``.gitignore`` and ``.rayignore`` files hold where they lie and below (the former not if
    RAY_RUNTIME_ENV_IGNORE_GITIGNORE=1), ``excludes`` from the root on, above all of them. Links to files
    count as files, links to folders stay links; sockets, devices and broken links do not count.

    Raises:
        OSError: a file or folder in it cannot be read.
    """
    names = _IGNORE_FILES[1:] if os.environ.get("RAY_RUNTIME_ENV_IGNORE_GITIGNORE") == "1" else _IGNORE_FILES
    return _walk(root, "", names, [], ignore.parse(excludes))


def _walk(
    root: str, base: str, names: Sequence[str], found: list[ignore.Rule], first: list[ignore.Rule]
) -> Iterator[Entry]:
    for name in names:
        try:
            with open(os.path.join(root, base, name), encoding="utf-8", errors="replace") as file:
                found = found + ignore.parse(file, base)
        except (FileNotFoundError, IsADirectoryError):
            pass
    for entry in sorted(os.scandir(os.path.join(root, base)), key=lambda one: one.name):
        path = base + entry.name
        is_folder = entry.is_dir()
        if ignore.is_ignored(path, is_folder, first) or ignore.is_ignored(path, is_folder, found):
            continue
        if is_folder and not entry.is_symlink():
            yield from _walk(root, path + "/", names, found, first)
            continue
        if is_folder:
            yield Entry(path, 0, 0, False, os.path.realpath(entry.path))
            continue
        try:
            info = entry.stat()
        except FileNotFoundError:
            continue
        if stat.S_ISREG(info.st_mode):
            yield Entry(path, info.st_size, info.st_mtime_ns, bool(info.st_mode & 0o100), "")


def digest_of(root: str, entries: Sequence[Entry]) -> str:
    """Return the digest of a folder's content: names, bytes, and which files are executable."""
    whole = hashlib.sha256()
    for entry in entries:
        _add(whole, entry, entry.link.encode() or _digest(os.path.join(root, entry.path)))
    return whole.hexdigest()[:32]


def file_digest(path: str) -> str:
    """Return the digest of one file's content."""
    return _digest(path).hex()[:32]


def copy(root: str, entries: Sequence[Entry], target: str) -> str:
    """Copy a folder's content to a new folder; return the digest of what was copied."""
    whole = hashlib.sha256()
    os.makedirs(target)
    for entry in entries:
        place = os.path.join(target, entry.path)
        os.makedirs(os.path.dirname(place), exist_ok=True)
        if entry.link:
            os.symlink(entry.link, place)
            _add(whole, entry, entry.link.encode())
            continue
        shutil.copyfile(os.path.join(root, entry.path), place)
        os.chmod(place, 0o755 if entry.executable else 0o644)
        os.utime(place, ns=(entry.mtime_ns, entry.mtime_ns))
        _add(whole, entry, _digest(place))
    return whole.hexdigest()[:32]


def _add(whole: hashlib._Hash, entry: Entry, content: bytes) -> None:
    kind = b"l" if entry.link else b"x" if entry.executable else b"f"
    name = entry.path.encode("utf-8", "surrogateescape")
    whole.update(kind + len(name).to_bytes(4, "big") + name + len(content).to_bytes(4, "big") + content)


def _digest(path: str) -> bytes:
    content = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            content.update(chunk)
    return content.digest()
