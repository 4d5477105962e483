"""A framed, non-blocking connection over a stream socket, and the listener that accepts them."""

from __future__ import annotations

import array
import os
import select
import socket
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from skate._base.clock import monotonic
from skate._transport.reactor import READABLE, WRITABLE, Reactor
from skate._wire.codec import GARBAGE, append_frame, decoder
from skate._wire.framing import FrameError, FrameReader

#: Bytes read at once: small enough for the allocator to keep, not map and unmap, the buffer.
CHUNK = 64 * 1024
#: Queued frames are sent without waiting for a turn once there are this many bytes.
EAGER_BYTES = 8 * 1024
#: A submitter waits while more than this is queued for a peer that does not read.
HIGH_WATER = 8 * 1024 * 1024

Handler = Callable[["Connection", Any], None]


class Connection:
    """One peer. All methods are called under the reactor's lock.

    ``send`` queues; the reactor flushes at the end of its turn, or the sender earlier. A full socket
    never blocks: the rest waits for the socket to become writable.
    """

    __slots__ = ("reactor", "sock", "out", "peer", "closed", "close_reason", "_fd", "_handlers",
                 "_on_close", "_reader", "_dirty", "_chunks", "_fds", "_wants_fds", "_blocked",
                 "_mute", "_decode")  # fmt: skip

    def __init__(
        self,
        reactor: Reactor,
        sock: socket.socket,
        handlers: Mapping[type, Handler],
        on_close: Callable[[Connection], None],
        *,
        receives_fds: bool = False,
    ) -> None:
        sock.setblocking(False)
        self.reactor = reactor
        self.sock = sock
        self.out = bytearray()
        #: Whatever the role knows about this peer.
        self.peer: Any = None
        self.closed = False
        self.close_reason = ""
        self._fd = sock.fileno()
        self._handlers = handlers
        self._on_close = on_close
        self._reader = FrameReader()
        self._decode = decoder()
        self._dirty = False
        self._chunks: deque[tuple[bytearray, tuple[int, ...]]] = deque()
        self._fds: deque[int] = deque()
        self._wants_fds = receives_fds
        self._blocked = False
        self._mute = False  # sending failed
        reactor.register(self._fd, self)

    # ------------------------------------------------------------------ sending

    def send(self, message: msgspec.Struct) -> None:
        """Queue a message. Dropped if the connection is closed: its on_close has told everybody."""
        if self.closed or self._mute:
            return
        append_frame(message, self.out)
        if not self._dirty:
            self._dirty = True
            self.reactor.dirty.append(self)

    def send_with_fd(self, message: msgspec.Struct, fd: int) -> None:
        """Queue a message that takes a descriptor along; the caller keeps its own copy open."""
        if self.closed or self._mute:
            return
        if self.out:
            self._chunks.append((self.out, ()))
            self.out = bytearray()
        frame = bytearray()
        append_frame(message, frame)
        self._chunks.append((frame, (os.dup(fd),)))
        if not self._dirty:
            self._dirty = True
            self.reactor.dirty.append(self)

    @property
    def queued_bytes(self) -> int:
        """Bytes not yet taken by the kernel."""
        return len(self.out) + sum(len(chunk) for chunk, _ in self._chunks)

    def flush(self) -> None:
        """Give the kernel what it takes."""
        self._dirty = False
        if self.closed:
            return
        try:
            while self._chunks:
                chunk, fds = self._chunks[0]
                if fds:
                    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
                    sent = self.sock.sendmsg([chunk], rights)
                    for fd in fds:
                        os.close(fd)
                else:
                    sent = self.sock.send(chunk)
                if sent < len(chunk):
                    self._chunks[0] = (chunk[sent:], ())
                else:
                    self._chunks.popleft()
            out = self.out
            if out:
                sent = self.sock.send(out)
                if sent == len(out):
                    out.clear()
                else:
                    del out[:sent]
                    self._await_writable()
                    return
        except BlockingIOError:
            self._await_writable()
            return
        except OSError:
            # The peer is gone; what it said last is still to be read, and then its end.
            self._mute = True
            self._drop_output()
        if self._blocked:
            self._blocked = False
            self.reactor.modify(self._fd, READABLE)

    def flush_all(self, deadline: float) -> None:
        """Block until the kernel took everything, the peer is gone, or it is that late (monotonic).

        For the last words of a process only: it reads nothing meanwhile.
        """
        poller = select.poll()
        if not self.closed:
            poller.register(self._fd, select.POLLOUT)
        self.flush()
        while not self.closed and self.queued_bytes and (left := deadline - monotonic()) > 0:
            if poller.poll(left * 1000):
                self.flush()

    def _await_writable(self) -> None:
        if not self._blocked:
            self._blocked = True
            self.reactor.modify(self._fd, READABLE | WRITABLE)

    # ------------------------------------------------------------------ receiving

    def handle(self, events: int) -> None:
        """Called by the reactor when the socket is ready."""
        if events & WRITABLE:
            self.flush()
        if events & ~WRITABLE and not self.closed:
            self.read()

    def read(self) -> bool:
        """Receive once and dispatch the messages that are complete. False: nothing is there now."""
        if self.closed:
            return False
        ancillary: list[Any] = []
        try:
            if self._wants_fds:
                space = socket.CMSG_SPACE(16 * 4)
                data, ancillary, _, _ = self.sock.recvmsg(CHUNK, space, socket.MSG_CMSG_CLOEXEC)
            else:
                data = self.sock.recv(CHUNK)
        except BlockingIOError:
            return False
        except OSError as error:
            self.close(f"receiving failed: {error.strerror or error}")
            return False
        return self.received(data, ancillary)

    def received(self, data: bytes, ancillary: list[Any]) -> bool:
        """Dispatch the messages that are complete with what was received. False: it was the end."""
        for _, _, rights in ancillary:
            self._fds.extend(memoryview(rights).cast("i"))
        if not data:
            self.close("the peer closed the connection")
            return False
        try:
            for body in self._reader.feed(data):
                self._dispatch(self._decode(body))
                if self.closed:
                    return False
            self._reader.check()
        except (FrameError, *GARBAGE) as error:
            self.close(f"the peer sent garbage: {error}")
        return True

    def _dispatch(self, message: Any) -> None:
        handler = self._handlers.get(type(message))
        if handler is None:
            self.close(f"the peer sent {type(message).__name__}, which is not said here")
            return
        try:
            handler(self, message)
        except Exception as bug:  # ours; what comes behind it in the stream counts all the same
            self.reactor.on_bug(bug)

    def drain(self) -> None:
        """Dispatch everything that has arrived: the peer's process ended, and it counts."""
        while self.read():
            pass

    def take_fd(self) -> int:
        """Return the descriptor that came with the message being handled; the caller owns it."""
        return self._fds.popleft()

    # ------------------------------------------------------------------ end

    def close(self, reason: str) -> None:
        """Close and tell the role, once."""
        if self.closed:
            return
        self.closed = True
        self.close_reason = reason
        self._drop()
        self._on_close(self)

    def _drop(self) -> None:
        self.reactor.unregister(self._fd)
        self.sock.close()
        self._drop_output()
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()

    def _drop_output(self) -> None:
        for _, fds in self._chunks:
            for fd in fds:
                os.close(fd)
        self._chunks.clear()
        self.out.clear()

    def abandon(self) -> None:
        """Close without telling anybody: in a forked child, or when the process ends."""
        if not self.closed:
            self.closed = True
            self._drop()

    def __repr__(self) -> str:
        return f"<Connection to {self.peer!r}{' closed: ' + self.close_reason if self.closed else ''}>"


class Listener:
    """Accepts connections and hands each to ``on_accept`` (which makes a Connection of it)."""

    def __init__(
        self, reactor: Reactor, sock: socket.socket, on_accept: Callable[[socket.socket], None]
    ) -> None:
        sock.setblocking(False)
        self._reactor = reactor
        self.sock = sock
        self._on_accept = on_accept
        reactor.register(sock.fileno(), self)

    def handle(self, events: int) -> None:
        """Called by the reactor: take everybody who is waiting."""
        while True:
            try:
                sock, _ = self.sock.accept()
            except BlockingIOError:
                return
            except OSError:
                return  # out of descriptors, or the peer gave up: it will be seen again
            self._on_accept(sock)

    def close(self) -> None:
        """Stop listening."""
        self._reactor.unregister(self.sock.fileno())
        self.sock.close()


def listen(path: str, backlog: int = 1024) -> socket.socket:
    """Return a listening Unix socket at ``path``. The folder's mode keeps others out."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.bind(path)
    os.chmod(path, 0o600)  # the umask of the user may keep the user out too
    sock.listen(backlog)
    return sock


def dial(path: str) -> socket.socket:
    """Return a socket connected to the Unix socket at ``path``.

    Raises:
        OSError: nobody listens there.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.connect(path)
    except OSError:
        sock.close()
        raise
    return sock
