"""Connections: every message arrives once and in order, or the connection says why it closed."""

from __future__ import annotations

import errno
import os
import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skate._base.clock import monotonic
from skate._transport import connection as module
from skate._transport.connection import CHUNK_BYTES, Connection, Listener
from skate._transport.dialing import dial, dial_now, listen
from skate._transport.reactor import Reactor
from skate._wire.codec import append_frame
from skate._wire.framing import MAX_FRAME
from skate._wire.handshake import BUSY, GARBLED, WRONG_PEER, Refused
from skate._wire.node import Exit, Extent, Free, SegmentMissed, Unpin

from ..effort import effort
from .threads import Background, Hung


class End:
    """One end of a connection: what it received, why it closed."""

    def __init__(self, reactor: Reactor, sock: socket.socket, *, receives_fds: bool = False) -> None:
        self.received: list[Any] = []
        self.reasons: list[str] = []
        self.on_message: Callable[[Any], None] = lambda message: None
        handlers = dict.fromkeys((Unpin, Free, Exit, Extent), self._handle)
        self.connection = Connection(reactor, sock, handlers, self._closed, receives_fds=receives_fds)

    def _handle(self, connection: Connection, message: Any) -> None:
        self.received.append(message)
        self.on_message(message)

    def _closed(self, connection: Connection) -> None:
        self.reasons.append(connection.close_reason)

    def send(self, *messages: Any) -> None:
        for message in messages:
            self.connection.send(message)


class Pair:
    """Two ends of a socket pair in one reactor, which the test turns by hand."""

    def __init__(self, *, receives_fds: bool = False, buffer: int | None = None) -> None:
        self.reactor = Reactor("test")
        self.bugs: list[BaseException] = []
        self.reactor.on_bug = self.bugs.append
        here, there = socket.socketpair()
        if buffer is not None:
            for sock in (here, there):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.here = End(self.reactor, here)
        self.there = End(self.reactor, there, receives_fds=receives_fds)

    def turn(self) -> None:
        self.reactor.turn(0)

    def until(self, condition: Callable[[], Any]) -> None:
        for _ in range(10_000):
            if condition():
                return
            self.turn()
        raise Hung("nothing more happens")

    def settle(self) -> None:
        """Go round until everything that was sent has arrived."""
        for _ in range(20):
            self.turn()

    def close(self) -> None:
        for end in (self.here, self.there):
            end.connection.abandon()
        self.reactor.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    pair.close()


@pytest.fixture
def narrow() -> Iterator[Pair]:
    """Its kernel takes a few kilobytes at once."""
    pair = Pair(receives_fds=True, buffer=4096)
    yield pair
    pair.close()


def frame(message: Any) -> bytes:
    out = bytearray()
    append_frame(message, out)
    return bytes(out)


def numbered(count: int, size: int = 1) -> list[Unpin]:
    return [Unpin(number.to_bytes(4, "big") * size) for number in range(count)]


# ---------------------------------------------------------------------- sending


def test_messages_arrive_in_order_both_ways(pair: Pair) -> None:
    pair.here.send(*numbered(3))
    pair.there.send(Exit(), Unpin(b"x"))
    pair.until(lambda: len(pair.there.received) == 3 and len(pair.here.received) == 2)
    assert pair.there.received == numbered(3)
    assert pair.here.received == [Exit(), Unpin(b"x")]


def test_nothing_is_sent_before_the_flush_and_then_all_at_once(pair: Pair) -> None:
    pair.here.send(*numbered(100))
    assert pair.reactor.dirty == [pair.here.connection]
    assert pair.here.connection.queued_bytes == sum(len(frame(message)) for message in numbered(100))
    pair.turn()
    assert pair.here.connection.queued_bytes == 0
    assert pair.reactor.dirty == []
    assert pair.there.connection.read()
    assert len(pair.there.received) == 100


def test_a_sender_may_flush_earlier(pair: Pair) -> None:
    pair.here.send(Exit())
    pair.here.connection.flush()
    pair.there.connection.read()
    assert pair.there.received == [Exit()]


def test_a_full_socket_never_blocks_and_the_rest_follows(narrow: Pair) -> None:
    messages = numbered(50, size=10_000)
    narrow.here.send(*messages)
    narrow.here.connection.flush()
    assert narrow.here.connection.queued_bytes > 0
    narrow.until(lambda: len(narrow.there.received) == 50)
    assert narrow.there.received == messages
    assert narrow.here.connection.queued_bytes == 0


def test_what_is_sent_meanwhile_comes_behind(narrow: Pair) -> None:
    narrow.here.send(*numbered(20, size=5000))
    narrow.here.connection.flush()
    narrow.here.send(Exit())
    narrow.here.connection.flush()
    narrow.until(lambda: len(narrow.there.received) == 21)
    assert narrow.there.received == [*numbered(20, size=5000), Exit()]


def test_both_may_send_more_than_the_kernel_takes(narrow: Pair) -> None:
    for end in (narrow.here, narrow.there):
        end.send(*numbered(30, size=5000))
    narrow.until(lambda: len(narrow.here.received) == len(narrow.there.received) == 30)
    assert narrow.here.received == narrow.there.received == numbered(30, size=5000)


@effort(25)
@given(st.lists(st.lists(st.binary(max_size=20_000), max_size=4), max_size=6))
def test_however_it_is_cut_it_arrives(bursts: list[list[bytes]]) -> None:
    pair = Pair(buffer=4096)
    try:
        for burst in bursts:
            pair.here.send(*map(Unpin, burst))
            pair.turn()
        sent = [Unpin(body) for burst in bursts for body in burst]
        pair.until(lambda: len(pair.there.received) == len(sent))
        assert pair.there.received == sent
    finally:
        pair.close()


def test_one_read_takes_one_chunk(pair: Pair) -> None:
    """So that one busy peer does not keep the others from being heard."""
    pair.here.send(*numbered(3, size=CHUNK_BYTES // 4))
    pair.here.connection.flush()
    pair.there.connection.read()
    assert len(pair.there.received) == 0
    pair.there.connection.read()
    assert len(pair.there.received) == 1


def test_last_words_can_be_waited_for(narrow: Pair) -> None:
    narrow.here.send(*numbered(50, size=10_000))
    sender = Background(lambda: narrow.here.connection.flush_all(monotonic() + 1e6))
    while len(narrow.there.received) < 50:
        narrow.there.connection.read()
    sender.result()
    assert narrow.here.connection.queued_bytes == 0


def test_last_words_that_nobody_reads_are_given_up_in_time(narrow: Pair) -> None:
    narrow.here.send(*numbered(50, size=10_000))
    narrow.here.connection.flush_all(monotonic() - 1)
    assert narrow.here.connection.queued_bytes > 0


def test_last_words_to_nobody(pair: Pair) -> None:
    pair.there.connection.abandon()
    pair.here.send(Exit())
    pair.here.connection.flush_all(monotonic() + 1e6)
    pair.here.connection.close("for another reason")
    pair.here.connection.flush_all(monotonic() + 1e6)


# ---------------------------------------------------------------------- descriptors


def descriptor(name: str) -> int:
    return os.memfd_create(name, os.MFD_CLOEXEC)


def same_file(one: int, other: int) -> bool:
    return os.path.samestat(os.fstat(one), os.fstat(other))


def with_fd(request: int) -> Extent:
    return Extent(request, 1, 1, 0, 1, False, True)


@pytest.mark.parametrize("load", [0, 5000], ids=["empty socket", "full socket"])
def test_descriptors_arrive_with_their_messages(narrow: Pair, load: int) -> None:
    sent = [descriptor(f"file {number}") for number in range(4)]
    taken: list[int] = []

    def take(message: Any) -> None:
        if isinstance(message, Extent):
            taken.append(narrow.there.connection.take_fd())

    narrow.there.on_message = take
    expected: list[Any] = []
    for number, fd in enumerate(sent):
        before = numbered(1 + number, size=load)
        narrow.here.send(*before)
        narrow.here.connection.send_with_fd(with_fd(number), fd)
        narrow.here.send(Exit())
        expected += [*before, with_fd(number), Exit()]
        if number == 1:
            narrow.here.connection.flush()
    narrow.until(lambda: len(narrow.there.received) == len(expected))
    assert narrow.there.received == expected
    assert all(same_file(one, other) for one, other in zip(sent, taken, strict=True))
    assert not os.get_inheritable(taken[0])
    for fd in [*sent, *taken]:
        os.close(fd)


def test_several_descriptors_in_one_turn(narrow: Pair) -> None:
    sent = [descriptor(f"file {number}") for number in range(20)]
    for number, fd in enumerate(sent):
        narrow.here.connection.send_with_fd(with_fd(number), fd)
    narrow.until(lambda: len(narrow.there.received) == 20)
    taken = [narrow.there.connection.take_fd() for _ in sent]
    assert all(same_file(one, other) for one, other in zip(sent, taken, strict=True))
    for fd in [*sent, *taken]:
        os.close(fd)


@contextmanager
def no_more_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_descriptor_that_cannot_be_received_is_an_error_of_its_message_alone(narrow: Pair) -> None:
    """Whatever is lost, each later descriptor arrives with the message it was sent with."""
    sent = [descriptor(f"file {number}") for number in range(3)]
    taken: list[int | None] = []

    def take(message: Any) -> None:
        if isinstance(message, Extent):
            try:
                taken.append(narrow.there.connection.take_fd())
            except OSError as error:
                assert error.errno == errno.EMFILE
                taken.append(None)

    narrow.there.on_message = take
    for number, fd in enumerate(sent):
        narrow.here.connection.send_with_fd(with_fd(number), fd)
        narrow.here.send(Exit())
        narrow.here.connection.flush()
        if number == 1:
            with no_more_descriptors():
                narrow.until(lambda: len(narrow.there.received) == 4)
        else:
            narrow.until(lambda number=number: len(narrow.there.received) == 2 * number + 2)  # type: ignore[misc]
    assert taken[1] is None
    assert same_file(sent[0], taken[0] or 0)
    assert same_file(sent[2], taken[2] or 0)
    for fd in [*sent, taken[0], taken[2]]:
        os.close(fd or -1)


def test_a_descriptor_that_cannot_be_sent_is_an_error_and_nothing_was_queued(pair: Pair) -> None:
    fd = descriptor("file")
    with no_more_descriptors(), pytest.raises(OSError, match="Too many open files"):
        pair.here.connection.send_with_fd(with_fd(1), fd)
    assert pair.here.connection.queued_bytes == 0
    pair.here.send(Exit())
    pair.until(lambda: pair.there.received)
    assert pair.there.received == [Exit()]
    os.close(fd)


@pytest.mark.parametrize("arrived", [True, False])
def test_descriptors_that_nobody_took_are_closed(narrow: Pair, arrived: bool) -> None:
    fd = descriptor("file")
    before = len(os.listdir("/proc/self/fd"))
    if not arrived:
        narrow.here.send(*numbered(20, size=5000))
    narrow.here.connection.send_with_fd(with_fd(1), fd)
    if arrived:
        narrow.until(lambda: narrow.there.received)
    else:
        narrow.here.connection.flush()
    narrow.here.connection.close("enough")
    narrow.there.connection.close("enough")
    assert len(os.listdir("/proc/self/fd")) == before - 2
    os.close(fd)


def test_a_descriptor_for_a_closed_connection_is_not_copied(pair: Pair) -> None:
    pair.here.connection.close("enough")
    fd = descriptor("file")
    before = len(os.listdir("/proc/self/fd"))
    pair.here.connection.send_with_fd(with_fd(1), fd)
    assert len(os.listdir("/proc/self/fd")) == before
    os.close(fd)


# ---------------------------------------------------------------------- garbage


@pytest.mark.parametrize(
    ("bytes_", "reason"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "the peer sent garbage: a frame of 542393671 bytes"[:22]),
        ((MAX_FRAME + 1).to_bytes(4, "little"), f"the peer sent garbage: a frame of {MAX_FRAME + 1} bytes"),
        (b"\0\0\0\0", "the peer sent garbage: "),
        (b"\x01\0\0\0\xc1", "the peer sent garbage: "),
        (b"\x03\0\0\0\x92\x00\x00", "the peer sent garbage: "),  # an unknown tag
        (b"\x03\0\0\0\x92\x38\x05", "the peer sent garbage: "),  # a field of a wrong type
        (frame(SegmentMissed(1)), "the peer sent SegmentMissed, which is not said here"),
    ],
)
def test_garbage_closes_and_says_so(pair: Pair, bytes_: bytes, reason: str) -> None:
    pair.here.connection.out += frame(Exit()) + bytes_
    pair.here.send(Exit())
    if len(bytes_) == 18:  # it announces half a gigabyte, which is waited for
        pair.settle()
        assert pair.there.reasons == []
        return
    pair.until(lambda: pair.there.reasons)
    assert pair.there.received == [Exit()]
    assert len(pair.there.reasons) == 1
    assert pair.there.reasons[0].startswith(reason)
    assert pair.there.connection.closed
    assert reason in repr(pair.there.connection)
    assert pair.bugs == []


def test_garbage_without_end_closes_too(pair: Pair) -> None:
    body = b"\x92\x3e" + b"\x91" * 20_000 + b"\xc0"
    pair.here.connection.out += len(body).to_bytes(4, "little") + body
    pair.here.send(Exit())
    pair.until(lambda: pair.there.reasons or pair.bugs)
    assert len(pair.there.reasons) == 1
    assert pair.bugs == []


@pytest.mark.parametrize("bug", [ZeroDivisionError("bug"), KeyError("missing"), KeyError()], ids=repr)
def test_a_bug_in_a_handler_loses_no_message_silently(pair: Pair, bug: Exception) -> None:
    """The rest of what came along is handled, or the connection is closed; the bug is reported."""

    def fail(message: Any) -> None:
        if message == Exit():
            raise bug

    pair.there.on_message = fail
    pair.here.send(Unpin(b"1"), Exit(), Unpin(b"2"))
    pair.settle()
    assert pair.bugs == [bug]
    assert pair.there.received == [Unpin(b"1"), Exit(), Unpin(b"2")] or pair.there.reasons


# ---------------------------------------------------------------------- the end


def test_the_last_words_are_heard_before_the_end(pair: Pair) -> None:
    pair.here.send(*numbered(5))
    pair.here.connection.flush()
    pair.here.connection.close("it left")
    assert pair.here.reasons == ["it left"]
    pair.until(lambda: pair.there.reasons)
    assert pair.there.received == numbered(5)
    assert pair.there.reasons == ["the peer closed the connection"]


def test_draining_hears_everything_at_once(pair: Pair) -> None:
    pair.here.send(*numbered(20, size=1000))  # more than one read takes, less than the socket does
    pair.here.connection.flush()
    pair.here.connection.close("it left")
    pair.there.connection.drain()
    assert pair.there.received == numbered(20, size=1000)
    assert pair.there.reasons == ["the peer closed the connection"]
    pair.there.connection.drain()


def test_draining_an_open_connection_leaves_it_open(pair: Pair) -> None:
    pair.here.send(Exit())
    pair.here.connection.flush()
    pair.there.connection.drain()
    assert pair.there.received == [Exit()]
    assert pair.there.reasons == []


def test_what_the_peer_said_last_is_heard_even_if_we_still_had_something_to_say(pair: Pair) -> None:
    """A worker replies and dies; its caller sends the next call before it looks."""
    pair.here.send(Unpin(b"reply"))
    pair.here.connection.flush()
    pair.here.connection.close("it died")
    pair.there.send(Unpin(b"next call"))
    pair.there.connection.flush()
    pair.settle()
    assert len(pair.there.reasons) == 1
    assert pair.there.received == [Unpin(b"reply")]


def test_closing_is_told_once_and_nothing_is_said_afterwards(pair: Pair) -> None:
    pair.here.connection.close("first")
    pair.here.connection.close("second")
    pair.here.send(Exit())
    pair.here.connection.flush()
    assert pair.here.connection.read() is False
    assert pair.here.reasons == ["first"]
    assert pair.here.connection.queued_bytes == 0
    pair.settle()
    assert pair.there.received == []


def test_a_handler_may_close_its_connection(pair: Pair) -> None:
    pair.there.on_message = lambda message: pair.there.connection.close("enough")
    pair.here.send(*numbered(3))
    pair.settle()
    assert pair.there.received == numbered(1)
    assert pair.there.reasons == ["enough"]
    assert pair.here.reasons == ["the peer closed the connection"]


def test_a_handler_may_answer(pair: Pair) -> None:
    pair.there.on_message = lambda message: pair.there.send(message)
    pair.here.send(*numbered(3))
    pair.until(lambda: len(pair.here.received) == 3)
    assert pair.here.received == numbered(3)


def test_a_half_frame_is_no_message(pair: Pair) -> None:
    pair.here.connection.out += frame(Unpin(b"never"))[:-1]
    pair.here.send  # noqa: B018  (nothing more is said)
    pair.reactor.dirty.append(pair.here.connection)
    pair.turn()
    pair.here.connection.close("it died")
    pair.until(lambda: pair.there.reasons)
    assert pair.there.received == []


def test_an_abandoned_connection_tells_nobody_here(pair: Pair) -> None:
    pair.here.connection.abandon()
    assert pair.here.reasons == []
    pair.until(lambda: pair.there.reasons)
    pair.here.connection.abandon()


# ---------------------------------------------------------------------- listeners


class _Backlog:
    """A listening socket with these connections, and this error, in its queue."""

    def __init__(self, waiting: list[socket.socket], error: OSError) -> None:
        self._waiting = waiting
        self._error = error
        self._fd = os.eventfd(1)

    def setblocking(self, flag: bool) -> None:
        assert not flag

    def fileno(self) -> int:
        return self._fd

    def accept(self) -> tuple[socket.socket, str]:
        if not self._waiting:
            raise self._error
        return self._waiting.pop(0), ""

    def close(self) -> None:
        os.close(self._fd)


@pytest.mark.parametrize("error", [BlockingIOError(), OSError(24, "Too many open files")], ids=repr)
def test_a_listener_takes_everybody_who_waits(error: OSError) -> None:
    reactor = Reactor("test")
    socks = [*socket.socketpair(), *socket.socketpair()]
    accepted: list[socket.socket] = []
    listener = Listener(reactor, _Backlog(list(socks), error), accepted.append)  # type: ignore[arg-type]
    reactor.turn(0)
    assert accepted == socks
    listener.close()
    reactor.turn(0)
    for sock in socks:
        sock.close()
    reactor.close()


def test_a_listener_without_descriptors_rests_and_takes_them_later(tmp_path: Path) -> None:
    """Its socket stays readable all the while: epoll must not tell of it again and again."""
    reactor = Reactor("test")
    accepted: list[socket.socket] = []
    short: list[OSError] = []
    listener = Listener(reactor, listen(str(tmp_path / "s")), accepted.append, short.append)
    clients = [dial(str(tmp_path / "s")) for _ in range(3)]
    with no_more_descriptors():
        assert reactor.turn(0)
        assert sum(reactor.turn(0) for _ in range(1000)) < 100  # the timers' own turns
        for _ in range(3):
            reactor.turn(None)  # until its timer, which looks, and finds none
            reactor.turn(0)
    assert accepted == []
    assert [error.errno for error in short] == [errno.EMFILE]
    while len(accepted) < 3:
        reactor.turn(None)
    with no_more_descriptors():
        clients.pop().close()
    listener.close()
    reactor.turn(0)
    for sock in [*clients, *accepted]:
        sock.close()
    reactor.close()


def test_a_listener_that_refuses_tells_whoever_waits_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MAX_ACCEPT_FAILURES", 2)
    reactor = Reactor("test")
    accepted: list[socket.socket] = []
    listener = Listener(reactor, listen(str(tmp_path / "s")), accepted.append, refuses=True)
    ends = [End(reactor, dial(str(tmp_path / "s"))) for _ in range(3)]
    with no_more_descriptors():
        while not all(end.reasons for end in ends):
            reactor.turn(None)
    for end in ends:
        assert end.connection.refused is not None
        assert end.connection.refused.code == BUSY
        assert "no file descriptors left" in end.connection.refused.what
        assert "RLIMIT_NOFILE" in end.reasons[0]
    late = End(reactor, dial(str(tmp_path / "s")))
    while not accepted:
        reactor.turn(None)
    late.connection.abandon()
    accepted[0].close()
    listener.close()
    reactor.close()


def test_dialling_names_the_limit_and_never_waits_for_a_full_queue(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with no_more_descriptors():
        for call in (dial, dial_now, listen):
            with pytest.raises(OSError, match=r"no file descriptors left.*RLIMIT_NOFILE.*ulimit -n"):
                call(path)
    with pytest.raises(FileNotFoundError):
        dial_now(path)
    sock = listen(path, backlog=0)
    waiting = [dial_now(path)]
    with pytest.raises(BlockingIOError):
        for _ in range(5):
            waiting.append(dial_now(path))
    sock.close()
    with pytest.raises(ConnectionRefusedError):
        dial_now(path)
    for one in waiting:
        one.close()


# ---------------------------------------------------------------------- refusals


def test_a_peer_that_is_refused_hears_why(pair: Pair) -> None:
    pair.here.send(Unpin(b"before"))
    pair.there.send(SegmentMissed(1))
    pair.until(lambda: pair.there.reasons and pair.here.reasons)
    assert pair.here.reasons == ["the peer sent SegmentMissed, which is not said here"]
    assert pair.there.received == [Unpin(b"before")]
    assert pair.there.connection.refused == Refused(WRONG_PEER, "sent SegmentMissed, which is not said here")
    assert pair.there.reasons == [
        "the peer refused this connection, because this process sent SegmentMissed, which is not said here"
    ]


def test_a_peer_that_sends_garbage_hears_so(pair: Pair) -> None:
    pair.there.connection.out += b"\x01\0\0\0\xc1"
    pair.there.send(Exit())
    pair.until(lambda: pair.there.reasons)
    assert pair.there.connection.refused is not None
    assert pair.there.connection.refused.code == GARBLED


def test_half_a_frame_and_the_end_are_no_message(pair: Pair) -> None:
    for cut in range(1, len(frame(Unpin(b"12345")))):
        one = Pair()
        one.here.connection.out += frame(Exit()) + frame(Unpin(b"12345"))[:cut]
        one.here.connection.flush()
        one.here.connection.close("it died")
        one.until(lambda one=one: one.there.reasons)  # type: ignore[misc]
        assert one.there.received == [Exit()]
        assert one.there.reasons == ["the peer closed the connection"]
        assert one.bugs == []
        one.close()
