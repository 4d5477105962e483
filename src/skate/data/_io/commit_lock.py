"""One driver at a time for a job: a lock with a number that grows with each driver (its fence).

On this machine, ``flock``: the kernel releases it when its process ends, however it ends. On remote storage
nobody can tell whether another driver lives; there the newer one takes over, and the older finds out before
it commits.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import uuid
from typing import Any

from skate.data._io.commit import TargetInUse
from skate.data._io.commit_store import Store

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows
    fcntl = None  # type: ignore[assignment, unused-ignore]


class JobLock:
    """The lock of a job that this driver holds; not picklable: it belongs to one process.

    Attributes:
        fence: number of this driver among those that had the lock, from 1.
    """

    def __init__(self, store: Store, name: str, fence: int, descriptor: int | None, token: str) -> None:
        self.fence = fence
        self._store = store
        self._name = name
        self._descriptor = descriptor
        self._token = token

    def check(self) -> None:
        """Raise TargetInUse if a newer driver has taken the job over (remote storage alone)."""
        if self._descriptor is not None:
            return
        content = _parse(self._store.read(self._name))
        if content.get("token") != self._token:
            raise TargetInUse(
                f"Another driver (process {content.get('pid')} on {content.get('host')}) has taken over "
                "the write "
                f"to {self._store.root}; this one stops without committing anything."
            )

    def release(self, remove: bool) -> None:
        """Give the lock up.

        Args:
            remove: remove its file too: the job is over. Its number is lost with it.
        """
        if remove:
            self._store.remove(self._name)
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __del__(self) -> None:
        if getattr(self, "_descriptor", None) is not None:
            self.release(remove=False)


def acquire(store: Store, name: str, least_fence: int = 1) -> JobLock:
    """Take the lock of a job; its folder must be there.

    Args:
        store: where the job is.
        name: of the lock's file.
        least_fence: the fence is at least this.

    Raises:
        TargetInUse: another driver holds it and lives.
    """
    lock = try_acquire(store, name, least_fence)
    if lock is None:
        content = _parse(store.read(name))
        pid = content.get("pid")
        raise TargetInUse(
            f"Another driver writes to {store.root} now: process {pid} on {content.get('host')}. A "
            "resumable write "
            "has one driver at a time. Wait for it or end it"
            + (
                ""
                if _is_alive(content)
                else f"; {pid} itself has ended, but a process that it forked still holds the lock"
            )
            + f". Its lock is {store.path(name)}."
        )
    return lock


def try_acquire(store: Store, name: str, least_fence: int = 1) -> JobLock | None:
    """Take the lock of a job; None if another driver holds it."""
    token = uuid.uuid4().hex
    if not store.is_local or fcntl is None:
        content = _parse(store.read(name))
        if content and _is_alive(content) and content.get("pid") != os.getpid():
            return None
        fence = max(least_fence, int(content.get("fence", 0)) + 1)
        store.write(name, _content(fence, token))
        return JobLock(store, name, fence, None, token)
    while True:
        path = store.path(name)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if is_file_at(descriptor, path):
                fence = max(least_fence, int(_parse(os.pread(descriptor, 4096, 0)).get("fence", 0)) + 1)
                content_bytes = _content(fence, token)
                os.pwrite(descriptor, content_bytes, 0)
                os.ftruncate(descriptor, len(content_bytes))
                return JobLock(store, name, fence, descriptor, token)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its last holder removed the file between open and flock


def acquire_abandoned(store: Store, name: str) -> JobLock | None:
    """Take the lock of a job whose driver has certainly ended; None if that is not certain."""
    if not store.is_local or fcntl is None:
        content = _parse(store.read(name))
        if content.get("host") != socket.gethostname() or _is_alive(content):
            return None
    return try_acquire(store, name)


def _content(fence: int, token: str) -> bytes:
    facts = {"fence": fence, "pid": os.getpid(), "host": socket.gethostname(), "token": token}
    return json.dumps(facts).encode() + b"\n"


def _parse(data: bytes | None) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        content = json.loads(data or b"{}")
        if isinstance(content, dict):
            return content
    return {}


def is_file_at(descriptor: int, path: str) -> bool:
    """Tell whether an open file is still the one of its name: a holder of a lock removes its file."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _is_alive(content: dict[str, Any]) -> bool:
    """Tell whether the process that wrote a lock's file lives: known on its own machine alone."""
    pid = content.get("pid")
    if content.get("host") != socket.gethostname() or not isinstance(pid, int):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
