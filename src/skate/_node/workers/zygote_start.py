"""Starts a zygote process. Standard library only: it is used before anything else is imported."""

from __future__ import annotations

import socket

from skate._base.spawning import spawn

#: A socket's buffer holds at least this: the longest message, twice.
_BUFFER = 1 << 20


def start_zygote(argv: list[str], progress_fd: int, log_fd: int) -> tuple[int, socket.socket]:
    """Execute a zygote; return its pid and the daemon's end of the socket.

    It finds the other end as descriptor 3, the progress table as 4; it logs to ``log_fd``.

    Raises:
        OSError: this process has no descriptors left.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    # Workers write their titles over its command line: the name of the session is found there.
    session = {"SKATE_SESSION": argv[-1]}
    try:
        for sock in (ours, theirs):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        pid = spawn(argv, {3: theirs.fileno(), 4: progress_fd, 1: log_fd, 2: log_fd}, session)
    except OSError:
        ours.close()
        raise
    finally:
        theirs.close()
    ours.setblocking(False)
    return pid, ours
