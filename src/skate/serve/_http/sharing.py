"""Passes sockets between the processes of a machine: the listening one, and connections.

Each process that takes part has a Unix socket (SEQPACKET, in the session's private folder). A message is one
packet: ``L`` asks for the listening socket, ``C`` and some bytes bring a connection from which those bytes
were read.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from typing import Any

#: The controller's own door: it takes connections as long as no replica does.
CONTROLLER_DOOR = "controller"
#: A packet holds at most so many bytes of a connection; what has sent more keeps its connection.
LONGEST = 64 * 1024
#: Passing a socket must not wait long for a busy process (seconds).
_TIMEOUT_S = 1.0
#: Without a free descriptor a door looks again after this time (seconds).
_NO_DESCRIPTOR_S = 0.05


def door_path(folder: str, door: str) -> str:
    """Return where a process takes sockets: by the last part of its id, as names of sockets have 107
    bytes."""
    return os.path.join(folder, f"door-{door.rpartition('-')[2]}")


class Door:
    """Takes connections from other processes, and gives them the listening socket.

    Args:
        path: of the Unix socket.
        listener: the listening socket.
        take: called with a connection and the bytes that were read from it.
    """

    def __init__(
        self, path: str, listener: socket.socket | None, take: Callable[[socket.socket, bytes], None]
    ) -> None:
        self.path = path
        self._listener = listener
        self._take = take
        self._loop = asyncio.get_running_loop()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.bind(path)
        self._socket.listen(128)
        self._socket.setblocking(False)
        self._peers: set[socket.socket] = set()
        self._is_closed = False
        self._loop.add_reader(self._socket, self._accept)

    def _can_take(self, source: socket.socket, read: Callable[..., None], *args: Any) -> bool:
        """Tell whether there is a free descriptor; if not, have the source read later: what is read without
        one is lost."""
        try:
            os.close(os.dup(source.fileno()))
        except OSError:
            if not self._is_closed:
                self._loop.remove_reader(source)
                self._loop.call_later(_NO_DESCRIPTOR_S, self._look_again, source, read, *args)
            return False
        return True

    def _look_again(self, source: socket.socket, read: Callable[..., None], *args: Any) -> None:
        if not self._is_closed:
            self._loop.add_reader(source, read, *args)

    def _accept(self) -> None:
        while self._can_take(self._socket, self._accept):
            try:
                peer, _ = self._socket.accept()
            except OSError:
                return
            peer.setblocking(False)
            self._peers.add(peer)
            self._loop.add_reader(peer, self._read, peer)

    def _read(self, peer: socket.socket) -> None:
        while self._can_take(peer, self._read, peer):
            try:
                data, fds, _, _ = socket.recv_fds(peer, LONGEST + 16, 4)
            except BlockingIOError:
                return
            except OSError:
                data, fds = b"", []
            if not data:
                self._loop.remove_reader(peer)
                self._peers.discard(peer)
                peer.close()
                return
            if data[:1] == b"C" and fds:
                connection = socket.socket(fileno=fds.pop())
                connection.setblocking(False)
                self._take(connection, data[1:])
            elif data[:1] == b"L" and self._listener is not None:
                with contextlib.suppress(OSError):
                    socket.send_fds(peer, [b"L"], [self._listener.fileno()])
            for fd in fds:
                os.close(fd)

    def close(self) -> None:
        """Take no more. Connections that were sent already are taken."""
        self._is_closed = True
        # Shut before it is emptied: what other processes send meanwhile fails there, and is not lost here.
        self._socket.shutdown(socket.SHUT_RD)
        self._accept()
        for peer in list(self._peers):
            with contextlib.suppress(OSError):
                peer.shutdown(socket.SHUT_RD)
            self._read(peer)
        self._loop.remove_reader(self._socket)
        self._socket.close()
        with contextlib.suppress(OSError):
            os.unlink(self.path)


class Doors:
    """Other processes' doors, as a place to pass connections to.

    Args:
        folder: where their sockets are.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._open: dict[str, socket.socket] = {}

    def give(self, door: str, connection: socket.socket, data: bytes) -> bool:
        """Pass a connection on; False if that process cannot take it now.

        Args:
            door: the process.
            connection: stays open here, and is to be closed without a shutdown.
            data: what was read from it.
        """
        if len(data) > LONGEST:
            return False
        for _ in range(2):
            target = self._open.get(door)
            try:
                if target is None:
                    target = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                    target.setblocking(False)
                    self._open[door] = target
                    target.connect(door_path(self._folder, door))
                socket.send_fds(target, [b"C" + data], [connection.fileno()])
                return True
            except BlockingIOError:
                return False
            except OSError:
                self.forget(door)  # it may have been replaced: once more, by a new connection
        return False

    def forget(self, door: str) -> None:
        """Close the connection to a process."""
        target = self._open.pop(door, None)
        if target is not None:
            target.close()

    def retain(self, doors: set[str]) -> None:
        """Forget all but these processes."""
        for door in self._open.keys() - doors:
            self.forget(door)

    def close(self) -> None:
        """Close all."""
        for door in list(self._open):
            self.forget(door)


def get_listener(folder: str, door: str) -> socket.socket | None:
    """Return the listening socket of another process, or None if it has none or does not answer."""
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)) as peer:
        peer.settimeout(_TIMEOUT_S)
        try:
            peer.connect(door_path(folder, door))
            peer.send(b"L")
            _, fds, _, _ = socket.recv_fds(peer, 16, 1)
        except OSError:
            return None
    if not fds:
        return None
    listener = socket.socket(fileno=fds[0])
    listener.setblocking(False)
    return listener


def listen(host: str, port: int) -> socket.socket:
    """Return a new listening socket.

    Raises:
        OSError: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio sets TCP_NODELAY on what it accepts; without that an answer waits 40
    # ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind((host, port))
        listener.listen(2048)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener
