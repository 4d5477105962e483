"""Dials Unix sockets, listens on them, and adopts those that this process was started with."""

from __future__ import annotations

import os
import socket

from skate._base import descriptors


def dial(path: str) -> socket.socket:
    """Return a socket connected to the Unix socket at ``path``; wait while the listener's queue is full.

    Raises:
        OSError: no process listens there, or this process has no descriptor left.
    """
    return _connected(path, 0)


def dial_now(path: str) -> socket.socket:
    """Dial without ever waiting: for callers that hold a lock, or run a loop.

    Raises:
        OSError: like ``dial``, or BlockingIOError: the listener's queue is full.
            ``descriptors.is_transient`` tells after which of them another attempt may succeed.
    """
    return _connected(path, socket.SOCK_NONBLOCK)


def _connected(path: str, flags: int) -> socket.socket:
    try:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | flags)
    except OSError as error:
        raise descriptors.explained(error) from None
    try:
        sock.connect(path)
    except OSError:
        sock.close()
        raise
    return sock


def listen(path: str, backlog: int = 1024) -> socket.socket:
    """Return a listening Unix socket at ``path``. The folder's mode keeps others out.

    Raises:
        OSError: the path is taken, or this process has no descriptor left.
    """
    try:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    except OSError as error:
        raise descriptors.explained(error) from None
    try:
        sock.bind(path)
        os.chmod(path, 0o600)  # the umask of the user may keep the user out too
        sock.listen(backlog)
    except OSError:
        sock.close()
        raise
    return sock


def adopt(fd: int) -> socket.socket:
    """Return the socket, connected or listening, behind a descriptor that this process inherited."""
    return socket.socket(fileno=fd)
