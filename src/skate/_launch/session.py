"""Manages the folder of a session: sockets, logs, the control store's file. Other users cannot enter it.

A session lives as long as any process holds the shared lock on its file ``alive``: the driver that made it,
the daemon, the control store. The kernel drops a lock with its process, however that ends.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from typing import Any

from skate._base.process import portable

#: The path of a Unix socket has at most 107 bytes; the names of sockets add so many to the session's folder
#: (bytes).
_MAX_SOCKET_NAME_BYTES = len("/s/") + 16
_MAX_SOCKET_PATH_BYTES = 107

_ALIVE = "alive"
_FACTS = "session.json"
_CURRENT = "current"


def root() -> str:
    """Return the folder of all sessions of this user; make it if necessary.

    Raises:
        RuntimeError: another user owns the folder, or others may enter it.
    """
    base = os.environ.get("TMPDIR", "/tmp")  # noqa: S108  (tempfile takes 5 ms to import)
    length = len(os.fsencode(base))
    if (
        not os.path.isdir(base)
        or length + 40 + _MAX_SOCKET_NAME_BYTES > _MAX_SOCKET_PATH_BYTES
        or portable(base) != base
    ):
        base = "/tmp"  # noqa: S108  (the folder below is private)
    path = os.path.join(base, f"skate-{os.getuid()}")
    try:
        _make(path)
    except FileExistsError:
        pass
    except OSError as error:
        raise RuntimeError(
            f"cannot make the folder of sessions, {path}: {error}; set TMPDIR to a folder of yours"
        ) from None
    found = os.stat(path, follow_symlinks=False)
    if found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise RuntimeError(
            f"{path} is not a private folder of this user (owner {found.st_uid}, mode "
            f"{found.st_mode & 0o777:o}); remove it or set TMPDIR"
        )
    return path


def create() -> tuple[str, int]:
    """Make the folder of a new session; return it and the descriptor that keeps it alive."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    path = os.path.join(root(), f"{stamp}-{os.getpid()}-{os.urandom(4).hex()}")
    _make(path)
    # First of all, as another process may sweep.
    alive = os.open(os.path.join(path, _ALIVE), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.fchmod(alive, 0o600)
    fcntl.flock(alive, fcntl.LOCK_SH)
    for folder in ("s", "logs"):
        _make(os.path.join(path, folder))
    return path, alive


def _make(path: str) -> None:
    """Make a folder that only its owner may use, whatever the umask."""
    os.mkdir(path, 0o700)
    os.chmod(path, 0o700)


def describe(path: str, facts: dict[str, Any]) -> None:
    """Write the facts that processes need to join the session."""
    _write(os.path.join(path, _FACTS), json.dumps(facts))


def facts(path: str) -> dict[str, Any]:
    """Return the facts that ``describe`` wrote.

    Raises:
        OSError, ValueError: the folder is no session of skate.
    """
    with open(os.path.join(path, _FACTS), encoding="utf-8") as file:
        found = json.load(file)
    if not isinstance(found, dict):
        raise ValueError(f"{path}/{_FACTS} is not what a session writes there")
    return found


def make_current(path: str) -> None:
    """Make this session the one that ``init()`` joins when no other is named."""
    _write(os.path.join(root(), _CURRENT), path)


def current() -> str | None:
    """Return the living session that ``make_current`` named, if any."""
    try:
        with open(os.path.join(root(), _CURRENT), encoding="utf-8") as file:
            path = file.read().strip()
    except OSError:
        return None
    return path if is_alive(path) else None


def living() -> list[str]:
    """Return every living session of this user, the newest first."""
    found = [entry.path for entry in os.scandir(root()) if entry.is_dir(follow_symlinks=False)]
    return [path for path in sorted(found, reverse=True) if is_alive(path)]


def is_alive(path: str) -> bool:
    """Tell whether any process of the session is left."""
    try:
        fd = os.open(os.path.join(path, _ALIVE), os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def _write(path: str, text: str) -> None:
    """Replace a small file atomically: readers see the old one or the new one."""
    draft = f"{path}.{os.getpid()}"
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(fd, 0o600)
        os.write(fd, text.encode())
    finally:
        os.close(fd)
    os.replace(draft, path)


def sweep(keep: int, keep_path: str) -> None:
    """Remove the folders of ended sessions, except the logs of the newest ``keep``.

    It runs when a session ends, since no user waits for it then.
    """
    base = root()
    ended = [
        entry.path for entry in sorted(os.scandir(base), key=lambda e: e.name)
        if entry.is_dir(follow_symlinks=False) and entry.path != keep_path and not is_alive(entry.path)
    ]  # fmt: skip
    for path in ended[: max(0, len(ended) - keep)]:
        _remove_tree(path)
    for path in ended[max(0, len(ended) - keep) :]:
        remove_sockets(path)


def remove_sockets(path: str) -> None:
    """Remove all files of an ended session except the logs."""
    for folder in ("s", "environments"):
        _remove_tree(os.path.join(path, folder))
    for name in (
        "node.sock",
        "control.sock",
        "control.db",
        "control.db-wal",
        "control.db-shm",
        _ALIVE,
        _FACTS,
    ):
        try:
            os.unlink(os.path.join(path, name))
        except OSError:
            pass


def _remove_tree(path: str) -> None:
    """Remove a folder of the runtime. It does not use shutil, whose import runs an ``exec``: while the
    interpreter ends, that makes CPython forget that Ctrl-C ended the program."""
    for folder, folders, files in os.walk(path, topdown=False):
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        for name in (*files, *links):
            try:
                os.unlink(os.path.join(folder, name))
            except OSError:
                pass
        try:
            os.rmdir(folder)
        except OSError:
            pass
