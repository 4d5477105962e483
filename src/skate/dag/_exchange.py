"""Sends and receives values over the connections of one member of a compiled graph. Effects."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Iterable, Sequence
from pickle import dumps
from typing import TYPE_CHECKING, Any, NamedTuple

from skate._base import descriptors
from skate._base.clock import monotonic
from skate._serialize import culprit
from skate._serialize.exceptions import load_error
from skate._serialize.values import deserialize, serialize
from skate._transport.connection import CHUNK_BYTES, Connection, Handler
from skate._transport.reactor import TICK_S, Reactor
from skate._transport.spin import Spin
from skate._wire import graph as wire
from skate._wire.codec import GARBAGE, append_frame
from skate._wire.framing import HEADER_SIZE, unpack_header
from skate._wire.handshake import PROTOCOL
from skate._wire.worker import BUFFERS, ERROR, PICKLE
from skate._worker.process.peers import Peer
from skate.dag._memory import Segment, Segments, Windows

if TYPE_CHECKING:
    from skate._worker.core import Core

#: The kind of a value that is no pickle: never pickled, or unpickled already.
HERE = -1

#: Less than the reactor's tick.
_MOMENT_MS = TICK_S * 500
#: How often the reactor turns while values keep arriving.
_TURN_PERIOD_S = 0.005
_FDS = socket.CMSG_SPACE(16 * 4)
#: Types whose values are small and contain no other values.
_SCALARS = frozenset({int, float, bool, complex})

Value = tuple[int, Any]
"""Kind and data, as they arrived."""


class Channel(Connection):
    """A connection between two members with a fast path for values.

    Connection's own path does the same more slowly, and handles all that is not a single small value.
    """

    __slots__ = ("_on_value", "_whole")

    def __init__(
        self,
        reactor: Reactor,
        sock: socket.socket,
        handlers: dict[type, Handler],
        on_close: Callable[[Connection], None],
        on_value: Callable[[int, int, Value], None],
    ) -> None:
        super().__init__(reactor, sock, handlers, on_close, receives_fds=True)
        self._on_value = on_value
        #: Only whole frames were received so far.
        self._whole = True

    def handle(self, events: int) -> None:
        """Read a single small value fast, and everything else as Connection does."""
        if events != select.POLLIN or not self._whole:
            super().handle(events)
            self._whole = not self._reader.rest
            return
        try:
            data, ancillary, flags, _ = self.sock.recvmsg(CHUNK_BYTES, _FDS, socket.MSG_CMSG_CLOEXEC)
        except OSError:
            super().handle(events)
            return
        if flags & socket.MSG_CTRUNC and not ancillary:
            self.missed_fd()
        if not ancillary and len(data) > HEADER_SIZE and unpack_header(data)[0] == len(data) - HEADER_SIZE:
            try:
                message = self._decode(data[HEADER_SIZE:])
                if type(message) is wire.GraphValue:
                    self._on_value(message.execution, message.number, (message.kind, message.data))
                    return
            except GARBAGE:
                pass  # Connection's own path reports the fault
            except Exception as bug:
                self.reactor.on_bug(bug)
                return
        self.received(data, ancillary)
        self._whole = not self._reader.rest

    def post(self, message: wire.GraphValue) -> None:
        """Send a value at once if no earlier message waits."""
        if self.out or self._chunks or self.closed or self._mute:
            self.send(message)
            return
        frame = bytearray()
        append_frame(message, frame)
        try:
            sent = self.sock.send(frame)
        except OSError:
            sent = 0  # full, or broken: Connection's own path finds out
        if sent < len(frame):
            self.out += frame[sent:]
            self.flush()


class Encoded(NamedTuple):
    """A value to send: inline, or in a segment."""

    kind: int
    data: bytes
    segment: Segment | None = None
    size: int = 0


class Exchange:
    """The connections of one member. All methods but ``encode`` are called under the process's lock.

    Args:
        core: the runtime of this process.
        graph: the graph's id.
        me: the number of this member.
        buffer_size: bytes of a shared buffer at least.
        on_value: called with execution, number and value.
        on_closed: called with a member and the reason when its connection ended, unless we closed it.
    """

    def __init__(
        self,
        core: Core,
        graph: bytes,
        me: int,
        buffer_size: int,
        on_value: Callable[[int, int, Value], None],
        on_closed: Callable[[int, str], None],
    ) -> None:
        self._core = core
        self._graph = graph
        self._me = me
        self._segments = Segments(buffer_size)
        self._windows = Windows(me)
        self._on_value = on_value
        self._on_closed = on_closed
        #: Called when an actor reports that its connection to another one ended.
        self.on_broken: Callable[[int, str], None] = lambda member, reason: None
        self.connections: dict[int, Channel] = {}
        self._channels: dict[int, Channel] = {}  # by descriptor
        self._poll = select.poll()
        self._spin = Spin(core.context.config.spin_us / 1e6)
        self._poll.register(core.context.reactor.fileno(), select.POLLIN)
        self._next_turn = 0.0
        self.closed = False

    # ------------------------------------------------------------------ connections

    def add(self, member: int, sock: socket.socket) -> Channel:
        """Start to exchange values with a member over a socket."""

        on_value = self._on_value

        def value(connection: Connection, message: wire.GraphValue) -> None:
            on_value(message.execution, message.number, (message.kind, message.data))

        def large(connection: Connection, message: wire.GraphLarge) -> None:
            if message.segment_size:
                try:
                    fd = connection.take_fd()
                except OSError as error:
                    connection.close(f"this process {descriptors.explain(error)}")
                    return
                self._windows.attach(member, message.segment, message.segment_size, fd)
            view = self._windows.view(member, message.segment, message.size)
            on_value(message.execution, message.number, (BUFFERS, view))

        connection = Channel(
            self._core.context.reactor,
            sock,
            {
                wire.GraphValue: value,
                wire.GraphLarge: large,
                wire.GraphForget: lambda _, message: self._windows.forget(member, message.segment),
                wire.GraphBroken: lambda _, message: self.on_broken(message.member, message.reason),
            },
            lambda connection: self._ended(member, connection),
            on_value,
        )
        connection.peer = Peer()
        self._core.peers.adopt(connection)
        self.connections[member] = connection
        self._channels[sock.fileno()] = connection
        self._poll.register(sock.fileno(), select.POLLIN)
        return connection

    def greet(self, member: int, sock: socket.socket) -> None:
        """Start to exchange values with a member that this one has dialed."""
        self.add(member, sock).send(wire.GraphHello(self._graph, self._me, PROTOCOL))

    def _ended(self, member: int, connection: Connection) -> None:
        self._core.peers.release_adopted(connection)
        self.connections.pop(member, None)
        for fd, channel in list(self._channels.items()):
            if channel is connection:
                del self._channels[fd]
                self._poll.unregister(fd)
        if not self.closed:
            self._on_closed(member, connection.close_reason)

    def read_soon(self) -> bool:
        """Poll for values for a moment; tell whether any may have come. Without the lock.

        The thread that waits for a value reads it here itself, which costs less than a turn of the reactor.
        Any other work for the reactor ends the poll, so that the caller begins an ordinary wait; while
        values keep arriving, the reactor gets a turn now and then.
        """
        reactor = self._core.context.reactor
        if not reactor.try_lead():
            return False
        found = False
        try:
            now = monotonic()
            if now > self._next_turn:
                self._next_turn = now + _TURN_PERIOD_S
                reactor.turn(0)
                found = True
            else:
                ready = self._spin.look(self._poll.poll) or self._poll.poll(_MOMENT_MS)
                if ready:
                    with self._core.context.lock:
                        for fd, events in ready:
                            channel = self._channels.get(fd)
                            if channel is not None:
                                channel.handle(events)
                                found = True
        finally:
            reactor.leave_lead()
        if reactor.interrupted:
            self._core.main_thread.check_interrupt()
        return found

    def close(self) -> None:
        """Close all connections and release the memory; remaining views stay valid."""
        if self.closed:
            return
        self.closed = True
        for connection in list(self.connections.values()):
            connection.close("the graph ended")
        self._segments.close()
        self._windows.close()

    # ------------------------------------------------------------------ values

    def encode(self, value: Any, receivers: Sequence[int], name: str) -> Encoded:
        """Encode a value for messages, in shared memory if it is large. Without the lock.

        Args:
            value: the value to send.
            receivers: the members that get it.
            name: a description of the value, for errors.

        Raises:
            TypeError: it cannot be pickled.
            ValueError: there are ObjectRefs or actor handles in it.
            OSError: no memory is left for it.
        """
        if type(value) in _SCALARS:
            return Encoded(PICKLE, dumps(value, 5))
        try:
            serialized = serialize(value)
        except (RecursionError, MemoryError):
            raise
        except Exception as error:
            raise TypeError(f"cannot send {name}: {culprit.explain(value, name, error)}") from None
        if serialized.refs:
            raise ValueError(
                f"{name} has an ObjectRef or an actor handle in it ({serialized.refs[0]!r}): compiled graphs "
                "carry values only, since their channels count no references. Pass the value "
                "(skate.get(ref)); give actors the handles they need before, in an ordinary call"
            )
        if serialized.size <= self._core.context.config.max_inline_bytes:
            return Encoded(serialized.kind, serialized.to_bytes())
        size = serialized.laid_out_size
        with self._core.context.lock:
            if self.closed:
                return Encoded(serialized.kind, b"")  # no member will get it
            segment, dropped = self._segments.take(size, receivers)
            for one in dropped:
                self._forget(one)
        try:
            segment.write(serialized)
        except BaseException:
            segment.release()
            raise
        return Encoded(BUFFERS, b"", segment, size)

    def _forget(self, segment: Segment) -> None:
        for member in segment.known:
            if member in self.connections:
                self.connections[member].send(wire.GraphForget(segment.number))

    def send(self, execution: int, number: int, value: Encoded, receivers: Iterable[int]) -> None:
        """Send a value to members; buffered messages leave with the reactor's next turn or flush."""
        segment = value.segment
        for member in receivers:
            connection = self.connections.get(member)
            if connection is None:
                continue  # it has ended, and the graph ends with it
            if segment is None:
                connection.post(wire.GraphValue(execution, number, value.kind, value.data))
            elif member in segment.known:
                connection.send(wire.GraphLarge(execution, number, segment.number, value.size))
            else:
                segment.known.add(member)
                message = wire.GraphLarge(execution, number, segment.number, value.size, segment.size)
                try:
                    connection.send_with_fd(message, segment.fd)
                except OSError as error:
                    connection.close(f"this process {descriptors.explain(error)}")


def decode(value: Value) -> Any:
    """Return the value that arrived; large buffers in it are read-only views.

    Raises:
        RayTaskError, ...: the value is an error.
    """
    kind, data = value
    if kind == ERROR:
        raise load_error(bytes(data))
    if kind == HERE:
        return data
    return deserialize(kind, data)
