"""Dialling a Unix socket."""

from __future__ import annotations

import socket


def dial(path: str) -> socket.socket:
    """Return a socket connected to the Unix socket at ``path``; wait while the listener's queue is full.

    Raises:
        OSError: nobody listens there, or this process has no descriptor left.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.connect(path)
    except OSError:
        sock.close()
        raise
    return sock


def dial_now(path: str) -> socket.socket:
    """The same, but never wait: for callers that hold a lock, or run a loop.

    Raises:
        OSError: as above, or BlockingIOError: the listener's queue is full. ``descriptors.is_transient``
        tells
            which of them may go better later.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.connect(path)
    except OSError:
        sock.close()
        raise
    return sock
