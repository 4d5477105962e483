"""A connection between two members: however the stream is cut, and whichever way is taken, the same values."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skate._transport.connection import Connection
from skate._transport.reactor import Reactor
from skate._wire import graph as wire
from skate._wire.codec import append_frame
from skate.dag._exchange import Channel

from ..effort import effort

values = st.builds(
    wire.GraphValue, st.integers(0, 9), st.integers(0, 9), st.integers(0, 4), st.binary(max_size=200)
)
forgets = st.builds(wire.GraphForget, st.integers(0, 9))


class End:
    """A channel that remembers what came, and the socket at its other end."""

    def __init__(self) -> None:
        self.reactor = Reactor("test")
        mine, self.other = socket.socketpair()
        self.seen: list[Any] = []
        self.closed: list[str] = []
        handlers = {
            wire.GraphValue: lambda _, m: self._value(m.execution, m.number, (m.kind, m.data)),
            wire.GraphForget: lambda _, m: self.seen.append(m),
            wire.GraphLarge: lambda connection, m: self.seen.append(os.fstat(connection.take_fd()).st_size),
        }
        self.channel = Channel(self.reactor, mine, handlers, self._ended, self._value)

    def _value(self, execution: int, number: int, value: Any) -> None:
        self.seen.append(wire.GraphValue(execution, number, *value))

    def _ended(self, connection: Connection) -> None:
        self.closed.append(connection.close_reason)

    def close(self) -> None:
        self.channel.abandon()
        self.other.close()
        self.reactor.close()


@pytest.fixture
def end() -> Iterator[End]:
    made = End()
    yield made
    made.close()


def frames(messages: list[Any]) -> bytes:
    out = bytearray()
    for message in messages:
        append_frame(message, out)
    return bytes(out)


@effort(100)
@given(st.lists(st.one_of(values, values, forgets), max_size=6), st.lists(st.integers(0, 2000), max_size=8))
def test_any_cut_of_the_stream_gives_the_same_values(messages: list[Any], places: list[int]) -> None:
    end = End()
    try:
        stream = frames(messages)
        edges = sorted({0, len(stream), *(place % (len(stream) + 1) for place in places)})
        for start, stop in zip(edges, edges[1:], strict=False):
            end.other.send(stream[start:stop])
            end.channel.handle(select.POLLIN)
        assert end.seen == messages
        assert end.closed == []
    finally:
        end.close()


def test_what_does_not_fit_is_sent_later_in_order(end: End) -> None:
    end.channel.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    messages = [wire.GraphValue(n, 0, 1, b"x" * 1000) for n in range(100)]
    for message in messages:
        end.channel.post(message)
    assert end.channel.queued_bytes > 0
    expected, received = frames(messages), b""
    while len(received) < len(expected):
        received += end.other.recv(65536)
        end.channel.flush()
    assert received == expected
    assert end.channel.queued_bytes == 0


def test_descriptors_come_with_their_messages(end: End) -> None:
    fd = os.memfd_create("skate-test")
    os.ftruncate(fd, 12345)
    socket.send_fds(end.other, [frames([wire.GraphLarge(0, 1, 1, 10, 12345)])], [fd])
    os.close(fd)
    end.channel.handle(select.POLLIN)
    assert end.seen == [12345]


@pytest.mark.parametrize("garbage", [b"\5\0\0\0abcde", b"\xff\xff\xff\xff" * 4])
def test_garbage_closes(end: End, garbage: bytes) -> None:
    end.other.send(garbage)
    end.channel.handle(select.POLLIN)
    assert "garbage" in end.closed[0]


def test_the_end_is_told_once(end: End) -> None:
    end.other.shutdown(socket.SHUT_WR)
    end.channel.handle(select.POLLIN)
    end.channel.handle(select.POLLIN)
    assert end.closed == ["the peer closed the connection"]
    end.channel.post(wire.GraphValue(0, 0, 0, b""))  # nobody is there: no error
