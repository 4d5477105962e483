"""The folder of an execution's files: gone with the execution, or, if its process is killed, at the next one.

::

    $TMPDIR/skate-data-<user>/4711-0/        files of the first execution of process 4711
    $TMPDIR/skate-data-<user>/4711-0.lock    locked by process 4711 for as long as it lives

A lock ends with its process, however that ends. So a process that gets the lock of another one removes what
it stands for.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import shutil
import tempfile

from skate.data._io.commit_lock import is_file_at

_LOCK = ".lock"
_REMOVED = ".removed"

_numbers = itertools.count()


def root() -> str:
    """Return the folder of all executions' files of this user."""
    return os.path.join(tempfile.gettempdir(), f"skate-data-{os.getuid()}")


class SpillFolder:
    """A folder that is made when it is needed.

    Attributes:
        path: where it is, or will be.
    """

    def __init__(self) -> None:
        self.path = os.path.join(root(), f"{os.getpid()}-{next(_numbers)}")
        self._lock: int | None = None

    def make(self) -> None:
        """Make it, if it was not made.

        Raises:
            PermissionError: another user made the folder for all executions.
        """
        if self._lock is not None:
            return
        self._lock = _locked(self.path + _LOCK)
        os.mkdir(self.path, mode=0o700)

    def remove(self) -> None:
        """Remove it. Tasks that still run can write nothing into it any more."""
        if self._lock is None:
            return
        lock, self._lock = self._lock, None
        _remove(self.path)
        with contextlib.suppress(OSError):
            os.unlink(self.path + _LOCK)
        os.close(lock)
        with contextlib.suppress(OSError):
            os.rmdir(os.path.dirname(self.path))  # if it was the last


def sweep() -> list[str]:
    """Remove the folders of processes that were killed. Return their paths."""
    above = root()
    try:
        names = sorted(os.listdir(above))
    except OSError:
        return []
    removed = []
    for name in names:
        owner = name.partition("-")[0]
        if not name.endswith(_LOCK) or owner == str(os.getpid()):
            continue  # a process may take its own locks again, so it must not try
        path = os.path.join(above, name.removesuffix(_LOCK))
        try:
            lock = os.open(path + _LOCK, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if is_file_at(lock, path + _LOCK):
                _remove(path)
                os.unlink(path + _LOCK)
                removed.append(path)
        except OSError:
            pass  # its process lives
        finally:
            os.close(lock)
    with contextlib.suppress(OSError):
        os.rmdir(above)
    return removed


def _locked(path: str) -> int:
    """Return the descriptor of a new file that this process has locked."""
    above = os.path.dirname(path)
    while True:
        os.makedirs(above, mode=0o700, exist_ok=True)
        if os.stat(above).st_uid != os.getuid():
            raise PermissionError(f"{above} belongs to another user; set TMPDIR to a folder of your own")
        try:
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            continue  # the folder above was empty, and somebody removed it
        fcntl.lockf(lock, fcntl.LOCK_EX)
        if is_file_at(lock, path):
            return lock
        os.close(lock)  # somebody swept it before it was locked


def _remove(path: str) -> None:
    # Renamed first: a task that still runs would add files to what is being removed.
    try:
        os.rename(path, path + _REMOVED)
    except OSError:
        pass  # it was not made, or somebody got so far and was killed
    shutil.rmtree(path + _REMOVED, ignore_errors=True)
