"""Defines the part of a socket that a connection needs, and the network where a process gets one.

Roles name no sockets. They dial and listen through their reactor, which is a ``Network``; a simulation gives
it streams in memory, of which the same connections are made.
"""

from __future__ import annotations

import select
from collections.abc import Iterable
from typing import Any, Protocol

from skate._transport import dialing


class Stream(Protocol):
    """One end of a connection, as a socket has it: bytes in order, and descriptors beside them."""

    def fileno(self) -> int:
        """Return the number by which the reactor watches it."""

    def setblocking(self, flag: bool, /) -> None:
        """Choose whether ``recv`` and ``send`` wait."""

    def recv(self, bufsize: int, /) -> bytes:
        """Return bytes that have arrived; none: the peer closed its end."""

    def recvmsg(self, bufsize: int, ancbufsize: int, flags: int, /) -> tuple[bytes, list[Any], int, Any]:
        """Return bytes, ancillary data with descriptors, flags, and an address."""

    def send(self, data: Any, /) -> int:
        """Send a part of the bytes; return its size."""

    def sendmsg(self, buffers: Iterable[Any], ancdata: Iterable[Any], /) -> int:
        """Send a part of the bytes, and descriptors."""

    def shutdown(self, how: int, /) -> None:
        """End one direction, or both."""

    def close(self) -> None:
        """Close this end."""


class ListeningStream(Protocol):
    """Where other processes connect to this one."""

    def fileno(self) -> int:
        """Return the number by which the reactor watches it."""

    def setblocking(self, flag: bool, /) -> None:
        """Choose whether ``accept`` waits."""

    def accept(self) -> tuple[Stream, Any]:
        """Return the stream of a process that dialled, and its address."""

    def close(self) -> None:
        """Refuse all further dials."""


class Network:
    """Unix sockets of this machine. A simulated reactor has other streams behind the same methods."""

    def dial(self, address: str) -> Stream:
        """Connect to the process that listens at this address, without waiting.

        Raises:
            OSError: see ``dialing.dial_now``.
        """
        return dialing.dial_now(address)

    def listen(self, address: str) -> ListeningStream:
        """Let other processes dial this one at this address.

        Raises:
            OSError: see ``dialing.listen``.
        """
        return dialing.listen(address)

    def make_poller(self) -> select.epoll:
        """Return the object that finds out which streams are ready."""
        return select.epoll()

    def wait_until_writable(self, fd: int, seconds: float) -> bool:
        """Block until the peer's buffer has room, or the time is up; tell which. Messages wait meanwhile."""
        poller = select.poll()
        poller.register(fd, select.POLLOUT)
        return bool(poller.poll(seconds * 1000))
