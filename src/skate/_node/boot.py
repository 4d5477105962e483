"""The first thing a daemon does: execute its zygote, which then imports while the daemon does.

Standard library only, and little of it.
"""

from __future__ import annotations

import fcntl
import os
import socket

#: Bytes of the board: a word of 16 for each of 8192 workers (see launcher.Board).
BOARD_SIZE = 16 * 8192
#: A socket's buffer holds at least this: the longest message, twice.
_BUFFER = 1 << 20


def main(settings_json: str, *zygote_argv: str) -> None:
    """Run a daemon with these settings; the rest is the command line of its zygote."""
    board_fd = os.memfd_create("skate-board", os.MFD_CLOEXEC)
    os.ftruncate(board_fd, BOARD_SIZE)
    pid, sock = start_zygote(list(zygote_argv), board_fd, 2)
    from skate._node import daemon

    daemon.main(settings_json, list(zygote_argv), board_fd, pid, sock)


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
