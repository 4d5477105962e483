"""Taking descriptors away from a process, and connections. Light: workers import it."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from skate._worker.process import current


@contextmanager
def without_descriptors(pid: int = 0, spare: int = 0) -> Iterator[None]:
    """In the ``with`` block, a process (0: this one) can open ``spare`` files more and no others."""
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (_with_room_for(pid, spare), hard))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))


def _with_room_for(pid: int, spare: int) -> int:
    """Return the limit below which that many numbers are free."""
    folder = f"/proc/{pid or 'self'}/fd"
    listed = os.listdir(folder)
    # Not the one that listed them.
    used = {int(name) for name in listed if os.path.lexists(f"{folder}/{name}")}
    limit = 0
    while spare or limit in used:
        spare -= limit not in used
        limit += 1
    return limit


def cut() -> None:
    """Break the connections of this process to other drivers and workers, which live."""
    core = current.process.core
    assert core is not None
    # Not under the lock: this is no code of the runtime, so a signal's handler that calls ``get`` may run here.
    for connection in core.peers.connections:
        with contextlib.suppress(OSError):  # it has just ended
            connection.sock.shutdown(socket.SHUT_RDWR)
    core.context.reactor.request_turn()
