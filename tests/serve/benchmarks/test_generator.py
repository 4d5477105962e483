"""The load generator against a server whose answers are scripted."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
from benchmarks.serve.generator import Answer, Generator, parse, percentiles, request_of

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
LAST = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\nabc\r\n0\r\n\r\n"
REQUEST = request_of("/", b"{}")


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (OK, Answer(200, False)),
        (BUSY, Answer(503, False)),
        (LAST, Answer(200, True)),
        (STREAM, Answer(200, False)),
        (OK[:-1], None),
        (OK[:20], None),
        (STREAM[:-5], None),
        (b"", None),
    ],
)
def test_answers_are_complete_or_not(data: bytes, found: Answer | None) -> None:
    assert parse(data) == found


def test_an_answer_without_a_length_is_refused() -> None:
    with pytest.raises(ValueError, match="without a length"):
        parse(b"HTTP/1.1 200 OK\r\n\r\n")


def test_percentiles_are_values_that_occurred() -> None:
    found = dict(percentiles([float(one) for one in range(1, 201)]))
    assert (found[1], found[50], found[99], found[100]) == (3.0, 101.0, 199.0, 200.0)
    assert percentiles([]) == []


class Scripted:
    """A server; `answers` says what the n-th request gets, b"" closes the connection instead."""

    def __init__(self, answers: Callable[[int], bytes]) -> None:
        self._answers = answers
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.requests = 0
        self._lock = threading.Lock()
        self._opened: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                one, _ = self._listener.accept()
            except OSError:
                return
            self._opened.append(one)
            thread = threading.Thread(target=self._serve, args=(one,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, one: socket.socket) -> None:
        with one, contextlib.suppress(ConnectionError):
            while len(one.recv(len(REQUEST), socket.MSG_WAITALL)) == len(REQUEST):
                with self._lock:
                    self.requests += 1
                    answer = self._answers(self.requests)
                one.sendall(answer)
                if not answer or answer is LAST:
                    return

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in self._opened:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()


@pytest.fixture
def scripted() -> Iterator[Callable[[Callable[[int], bytes]], Scripted]]:
    made: list[Scripted] = []

    def make(answers: Callable[[int], bytes]) -> Scripted:
        made.append(Scripted(answers))
        return made[-1]

    yield make
    for one in made:
        one.close()


def _until(server: Scripted, generator: Generator, requests: int) -> None:
    """Run until the server has had so many requests."""
    answer = server._answers

    def counted(number: int) -> bytes:
        if number == requests:
            generator.stop()
        return answer(number)

    server._answers = counted
    generator.run(60)
    generator.close()


def test_a_closed_loop_has_one_request_on_each_connection(scripted: Callable[..., Scripted]) -> None:
    server = scripted(lambda number: OK)
    generator = Generator(server.port, REQUEST, 3)
    _until(server, generator, 50)
    found = generator.found
    assert found.statuses.keys() == {200}
    # Those under way when it stopped are not counted.
    assert 50 - 3 <= found.statuses[200] <= server.requests
    assert len(found.latencies_ms) == len(found.due) == found.statuses[200]
    assert not found.errors
    assert not found.closed


def test_closed_connections_and_statuses_are_counted(scripted: Callable[..., Scripted]) -> None:
    server = scripted(lambda number: {2: b"", 4: LAST, 6: BUSY}.get(number, OK))
    generator = Generator(server.port, REQUEST, 1)
    _until(server, generator, 20)
    assert generator.found.errors == {"closed before the answer": 1}
    assert generator.found.closed == 2
    assert generator.found.statuses[503] == 1


def test_texts_are_counted_in_streams(scripted: Callable[..., Scripted]) -> None:
    server = scripted(lambda number: STREAM)
    generator = Generator(server.port, REQUEST, 1, count=b"abc")
    _until(server, generator, 5)
    assert generator.found.counted == 2 * generator.found.statuses[200]


def test_an_open_loop_charges_requests_with_the_time_they_were_late(
    scripted: Callable[..., Scripted], wait_until: Callable[..., Any]
) -> None:
    def answer(number: int) -> bytes:
        if number == 1:
            wait_until(lambda: len(generator.late) >= 20)
        return OK

    server = scripted(answer)
    generator = Generator(server.port, REQUEST, 1, rate=1000)
    _until(server, generator, 15)
    due, late_ms = generator.found.due[:15], generator.found.latencies_ms[:15]
    assert [round(1000 * (after - before), 3) for before, after in pairwise(due)] == [1.0] * 14
    # The first answer came when the 20th request after it was due, and all others later.
    assert all(ms >= 20 - place for place, ms in enumerate(late_ms))
