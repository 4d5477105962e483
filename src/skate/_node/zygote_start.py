"""Starts a zygote process. Standard library only: it is used before anything else is imported."""

from __future__ import annotations

import fcntl
import os
import socket

#: A socket's buffer holds at least this: the longest message, twice.
_BUFFER = 1 << 20


def start_zygote(argv: list[str], board_fd: int, log_fd: int) -> tuple[int, socket.socket]:
    """Execute a zygote; return its pid and our end of the socket.

    It finds the other end as descriptor 3, the board as 4; it logs to ``log_fd``.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for sock in (ours, theirs):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
    # Numbers that are 3 or 4 already would be overwritten by each other: move them up first.
    fds = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in (theirs.fileno(), board_fd)]
    actions = [
        (os.POSIX_SPAWN_DUP2, fds[0], 3),
        (os.POSIX_SPAWN_DUP2, fds[1], 4),
        (os.POSIX_SPAWN_DUP2, log_fd, 1),
        (os.POSIX_SPAWN_DUP2, log_fd, 2),
    ]
    pid = os.posix_spawn(argv[0], argv, os.environ, file_actions=actions, setsid=True)
    theirs.close()
    for fd in fds:
        os.close(fd)
    ours.setblocking(False)
    return pid, ours
