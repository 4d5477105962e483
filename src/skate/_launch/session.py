"""The folder of a session: sockets, logs, the control store's file. Others cannot enter it."""

from __future__ import annotations

import os
import time

#: A Unix socket's path has at most 107 bytes; ours add this many to the session's folder.
_LONGEST_TAIL = len("/s/") + 16
_LONGEST_PATH = 107


def root() -> str:
    """Return the folder of all sessions of this user, made if need be.

    Raises:
        RuntimeError: somebody else owns it, or others may enter it.
    """
    base = os.environ.get("TMPDIR", "/tmp")  # noqa: S108  (tempfile takes 5 ms to import)
    if not os.path.isdir(base) or len(base) + 40 + _LONGEST_TAIL > _LONGEST_PATH:
        base = "/tmp"  # noqa: S108  (the folder below is ours alone)
    path = os.path.join(base, f"skate-{os.getuid()}")
    os.makedirs(path, mode=0o700, exist_ok=True)
    found = os.stat(path, follow_symlinks=False)
    if found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise RuntimeError(
            f"{path} is not a private folder of this user (owner {found.st_uid}, mode "
            f"{found.st_mode & 0o777:o}); remove it or set TMPDIR"
        )
    return path


def create() -> str:
    """Make the folder of a new session."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    path = os.path.join(root(), f"{stamp}-{os.getpid()}-{os.urandom(4).hex()}")
    for folder in (path, os.path.join(path, "s"), os.path.join(path, "logs")):
        os.mkdir(folder, 0o700)
    return path


def sweep(keep: int, current: str) -> None:
    """Remove what sessions left whose driver is gone: all but the logs of the newest ``keep``.

    Runs when a session ends: nobody waits for it then.
    """
    base = root()
    ended = [
        entry.path for entry in sorted(os.scandir(base), key=lambda e: e.name)
        if entry.is_dir(follow_symlinks=False) and entry.path != current and not _alive(entry.name)
    ]  # fmt: skip
    for path in ended[: max(0, len(ended) - keep)]:
        _remove_tree(path)
    for path in ended[max(0, len(ended) - keep) :]:
        remove_sockets(path)


def remove_sockets(path: str) -> None:
    """Leave only the logs of a session that ended."""
    _remove_tree(os.path.join(path, "s"))
    for name in ("node.sock", "control.sock", "control.db", "control.db-wal", "control.db-shm"):
        try:
            os.unlink(os.path.join(path, name))
        except OSError:
            pass


def _remove_tree(path: str) -> None:
    """Remove a folder of ours. Not by shutil: importing that while the interpreter ends runs an
    ``exec``, after which CPython forgets that it was Ctrl-C which ended it."""
    for folder, _, files in os.walk(path, topdown=False):
        for name in files:
            try:
                os.unlink(os.path.join(folder, name))
            except OSError:
                pass
        try:
            os.rmdir(folder)
        except OSError:
            pass


def _alive(name: str) -> bool:
    try:
        os.kill(int(name.split("-")[2]), 0)
    except (IndexError, ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True
