"""A framed, non-blocking connection over a stream socket, and the listener that accepts them."""

from __future__ import annotations

import array
import contextlib
import errno
import os
import socket
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from skate._base import descriptors
from skate._base.clock import monotonic
from skate._transport.reactor import READABLE, WRITABLE, Reactor, Timer
from skate._transport.streams import ListeningStream, Stream
from skate._wire.codec import GARBAGE, MESSAGES, append_frame, decoder
from skate._wire.framing import MAX_FRAME, FrameError, FrameReader
from skate._wire.handshake import BUSY, GARBLED, WRONG_PEER, Handshake, Refused, WrongMessage, type_of

#: Bytes read at once: small enough for the allocator to keep, not map and unmap, the buffer.
CHUNK_BYTES = 64 * 1024
#: Queued frames are sent without waiting for a turn once there are this many bytes.
EAGER_BYTES = 8 * 1024
#: A submitter waits while more than this is queued for a peer that does not read.
HIGH_WATER_BYTES = 8 * 1024 * 1024
#: A listener without descriptors tries again after this time (seconds), and after this many failures in a
#: row it refuses the peers that wait.
_ACCEPT_RETRY_DELAY_S = 0.05
_MAX_ACCEPT_FAILURES = 40
#: Stands in ``_fds`` for a descriptor that the kernel could not deliver.
_MISSED = -1

Handler = Callable[["Connection", Any], None]


class Connection:
    """One peer. All methods are called under the reactor's lock.

    ``send`` queues; the reactor flushes at the end of its turn, or the sender earlier. A full socket
    never blocks: the rest waits for the socket to become writable.
    """

    __slots__ = ("reactor", "sock", "out", "peer", "closed", "close_reason", "refused", "handshake",
                 "hello_timer", "_fd", "_handlers", "_on_close", "_reader", "_dirty", "_chunks", "_fds",
                 "_wants_fds", "_blocked", "_mute", "_decode")  # fmt: skip

    def __init__(
        self,
        reactor: Reactor,
        sock: Stream,
        handlers: Mapping[type, Handler],
        on_close: Callable[[Connection], None],
        *,
        receives_fds: bool = False,
        largest: int = MAX_FRAME,
    ) -> None:
        """Serve a socket: ``handlers`` are for the only messages that are decoded, ``largest`` is their
        size."""
        sock.setblocking(False)
        self.reactor = reactor
        self.sock = sock
        self.out = bytearray()
        #: The role's record of this peer.
        self.peer: Any = None
        self.closed = False
        self.close_reason = ""
        #: Why the peer closed it, if it said so.
        self.refused: Refused | None = None
        #: Of an accepted connection: see ``acceptor``.
        self.handshake: Handshake | None = None
        self.hello_timer: Timer | None = None
        self._fd = sock.fileno()
        self._handlers = handlers
        self._on_close = on_close
        self._reader = FrameReader(largest)
        self._decode = decoder(frozenset(handlers))
        self._dirty = False
        self._chunks: deque[tuple[bytearray, tuple[int, ...]]] = deque()
        self._fds: deque[int] = deque()
        self._wants_fds = receives_fds
        self._blocked = False
        self._mute = False  # sending failed
        reactor.register(self._fd, self)

    def serve(self, handlers: Mapping[type, Handler]) -> None:
        """Decode these messages and no others, from the next frame on."""
        self._handlers = handlers
        self._decode = decoder(frozenset(handlers))
        self._reader.limit = MAX_FRAME

    # ------------------------------------------------------------------ sending

    def send(self, message: msgspec.Struct) -> None:
        """Queue a message; drop it if the connection is closed, which ``on_close`` has dealt with."""
        if self.closed or self._mute:
            return
        append_frame(message, self.out)
        if not self._dirty:
            self._dirty = True
            self.reactor.dirty.append(self)

    def send_now(self, message: msgspec.Struct) -> None:
        """Send a message, and what is queued, at once: the peer has nothing to do before it comes."""
        if self.closed or self._mute:
            return
        append_frame(message, self.out)
        self.flush()

    def send_with_fd(self, message: msgspec.Struct, fd: int) -> None:
        """Queue a message that takes a descriptor along; the caller keeps its own copy open.

        Raises:
            OSError: this process has no descriptor left for a copy of its own. Nothing was queued.
        """
        if self.closed or self._mute:
            return
        copy = os.dup(fd)
        if self.out:
            self._chunks.append((self.out, ()))
            self.out = bytearray()
        frame = bytearray()
        append_frame(message, frame)
        self._chunks.append((frame, (copy,)))
        if not self._dirty:
            self._dirty = True
            self.reactor.dirty.append(self)

    @property
    def queued_bytes(self) -> int:
        """The number of bytes that the kernel has not taken yet."""
        return len(self.out) + sum(len(chunk) for chunk, _ in self._chunks)

    def flush(self) -> None:
        """Send as much of the queue as the kernel takes."""
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
            # The peer is gone; its last messages are still to be read, and then its end.
            self._mute = True
            self._drop_output()
        if self._blocked:
            self._blocked = False
            self.reactor.modify(self._fd, READABLE)

    def flush_all(self, deadline: float) -> None:
        """Block until the kernel took everything, the peer is gone, or the deadline (monotonic) has passed.

        For the last messages of a process only: it reads nothing meanwhile.
        """
        self.flush()
        while not self.closed and self.queued_bytes and (left := deadline - monotonic()) > 0:
            if self.reactor.wait_until_writable(self._fd, left):
                self.flush()

    def _await_writable(self) -> None:
        if not self._blocked:
            self._blocked = True
            self.reactor.modify(self._fd, READABLE | WRITABLE)

    # ------------------------------------------------------------------ receiving

    def handle(self, events: int) -> None:
        """Flush or read. The reactor calls this when the socket is ready."""
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
                data, ancillary, flags, _ = self.sock.recvmsg(CHUNK_BYTES, space, socket.MSG_CMSG_CLOEXEC)
                if flags & socket.MSG_CTRUNC and not ancillary:
                    self.missed_fd()
            else:
                data = self.sock.recv(CHUNK_BYTES)
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
        body = b""
        try:
            for body in self._reader.feed(data):
                self._dispatch(self._decode(body))
                if self.closed:
                    return False
            if self._reader.rest:
                self._reader.check()
        except FrameError as error:
            self.refuse(Refused(GARBLED, f"sent garbage: {error}"))
        except GARBAGE as error:
            self._not_understood(body, error)
        return True

    def _not_understood(self, body: bytes, error: Exception) -> None:
        """Find out why the decoder rejected a frame, and refuse the peer."""
        if self.handshake is not None:
            self.refuse(self.handshake.not_understood(body, error, MESSAGES))
            return
        kind = type_of(body, MESSAGES)
        if kind is None or kind in self._handlers:
            self.refuse(Refused(GARBLED, f"sent garbage: {error}"))
        else:
            self.refuse(Refused(WRONG_PEER, f"sent {kind.__name__}, which is not said here"))

    def _dispatch(self, message: Any) -> None:
        handler = self._handlers.get(type(message))
        if handler is None:  # no other type is decoded
            self.refused = message
            self.close(f"the peer refused this connection, because this process {message.what}")
            return
        try:
            handler(self, message)
        except WrongMessage as wrong:
            self.refuse(Refused(wrong.code, f"sent {type(message).__name__} {wrong.what}"))
        except Exception as bug:  # ours; the messages behind it in the stream count all the same
            self.reactor.on_bug(bug)

    def drain(self) -> None:
        """Dispatch everything that has arrived from a peer whose process ended."""
        while self.read():
            pass

    def missed_fd(self) -> None:
        """Note that the kernel dropped the descriptor that came with a read, as no number was free.

        At most one comes with a read.
        """
        self._fds.append(_MISSED)

    def take_fd(self) -> int:
        """Return the descriptor that came with the message being handled; the caller owns it.

        Raises:
            OSError: EMFILE: it was lost, because this process had none left when it arrived.
        """
        fd = self._fds.popleft()
        if fd == _MISSED:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return fd

    # ------------------------------------------------------------------ end

    def refuse(self, refused: Refused) -> None:
        """Send the reason to the peer, and close."""
        if self.closed:
            return
        self.send(refused)
        self.flush()
        self.close(f"the peer {refused.what}")

    def close(self, reason: str) -> None:
        """Close, and call ``on_close``, once."""
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
            if fd != _MISSED:
                os.close(fd)
        self._fds.clear()

    def _drop_output(self) -> None:
        for _, fds in self._chunks:
            for fd in fds:
                os.close(fd)
        self._chunks.clear()
        self.out.clear()

    def abandon(self) -> None:
        """Close without calling ``on_close``: in a forked child, or when the process ends."""
        if not self.closed:
            self.closed = True
            self._drop()

    def __repr__(self) -> str:
        return f"<Connection to {self.peer!r}{' closed: ' + self.close_reason if self.closed else ''}>"


class Listener:
    """Accepts connections and hands each to ``on_accept`` (which makes a Connection of it).

    Without descriptors it stops watching its socket for a moment, which stays readable all the while:
    processes that dial wait in its queue. ``on_shortage`` is called with each new shortage. A ``refuses``
    listener keeps no peer waiting for longer than two seconds: it accepts with a spare descriptor, sends the
    peer the reason why it cannot be served (Refused, BUSY), and hangs up.
    """

    def __init__(
        self,
        reactor: Reactor,
        sock: ListeningStream,
        on_accept: Callable[[Stream], Any],
        on_shortage: Callable[[OSError], None] | None = None,
        *,
        refuses: bool = False,
    ) -> None:
        sock.setblocking(False)
        self._reactor = reactor
        self.sock = sock
        self._on_accept = on_accept
        self._on_shortage = on_shortage
        self._spare = os.eventfd(0, os.EFD_CLOEXEC) if refuses else -1
        #: Attempts in a row for which there was no descriptor.
        self._failed = 0
        self._pause: Timer | None = None
        self.closed = False
        reactor.register(sock.fileno(), self)

    def handle(self, events: int) -> None:
        """Accept every peer that waits. The reactor calls this."""
        while True:
            try:
                sock, _ = self.sock.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue  # that peer gave up: the next one
            except OSError as error:
                self._short(error)
                return
            self._failed = 0
            self._on_accept(sock)

    def _short(self, error: OSError) -> None:
        """Stop watching the socket for a moment, for lack of descriptors.

        epoll would report the same connection without end.
        """
        self._failed += 1
        if self._failed == 1 and self._on_shortage is not None:
            self._on_shortage(error)
        if self._failed > _MAX_ACCEPT_FAILURES and self._spare >= 0:
            self._refuse_all(error)
        self._reactor.unregister(self.sock.fileno())
        self._pause = self._reactor.call_later(_ACCEPT_RETRY_DELAY_S, self._watch_again)

    def _refuse_all(self, shortage: OSError) -> None:
        what = f"came while the process that it dialled {descriptors.explain(shortage)}"
        frame = bytearray()
        append_frame(Refused(BUSY, what), frame)
        try:
            while True:
                os.close(self._spare)
                self._spare = -1
                sock, _ = self.sock.accept()
                with contextlib.closing(sock):
                    sock.setblocking(False)
                    sock.send(frame)
                self._spare = os.eventfd(0, os.EFD_CLOEXEC)
        except OSError:
            pass  # no peer waits any more, or another thread has taken the number
        if self._spare < 0:
            try:
                self._spare = os.eventfd(0, os.EFD_CLOEXEC)
            except OSError:
                pass

    def _watch_again(self) -> None:
        self._pause = None
        if not self.closed:
            self._reactor.register(self.sock.fileno(), self)

    def close(self) -> None:
        """Stop listening."""
        if self.closed:
            return
        self.closed = True
        if self._pause is not None:
            self._pause.cancel()
        self._reactor.unregister(self.sock.fileno())
        self.sock.close()
        if self._spare >= 0:
            os.close(self._spare)
            self._spare = -1
