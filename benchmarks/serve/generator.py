"""An HTTP/1.1 load generator: one thread, one `epoll`, no framework, so that it takes little of the machine.

    python -m benchmarks.serve.generator --port 8000 --connections 8 --seconds 3 [--rate 100] [--count TEXT]

Closed loop: each connection sends a request, waits for the whole answer, and sends the next. Open loop
(`--rate`): requests are due at fixed times; a late one is charged from when it was due, so that a server that
stalls is charged for all that it kept waiting. SIGTERM ends a run early. It prints one JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import select
import signal
import socket
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

GRID = (*range(1, 100), 99.5, 99.9, 99.99, 100)
"""Percentiles that are reported."""
RECEIVE_SIZE = 1 << 18
CONNECT_TIMEOUT_S = 5.0
PATIENCE_S = 10.0
"""How long answers of an open loop are waited for after its end."""
HEAD_END = b"\r\n\r\n"
LAST_CHUNK = b"\r\n0\r\n\r\n"


@dataclass(frozen=True)
class Answer:
    """A complete answer: its status, whether the server closes the connection after it."""

    status: int
    closes: bool


def parse(data: bytes) -> Answer | None:
    """The answer in these bytes; None: it is not complete. One request is under way, so one answer comes."""
    end = data.find(HEAD_END)
    if end < 0:
        return None
    head = data[:end].lower()
    at = head.find(b"content-length:")
    if at >= 0:
        length = int(head[at + 15 :].split(b"\r\n", 1)[0])
        if len(data) < end + 4 + length:
            return None
    elif b"transfer-encoding: chunked" in head:
        if not data.endswith(LAST_CHUNK):
            return None
    else:
        raise ValueError(f"an answer without a length: {head[:200]!r}")
    return Answer(int(head[9:12]), b"connection: close" in head)


def percentiles(values: list[float]) -> list[tuple[float, float]]:
    """(Percentile, value) for each of the grid; nothing of nothing."""
    ordered = sorted(values)
    last = len(ordered) - 1
    return [(p, ordered[min(last, int(p / 100 * len(ordered)))]) for p in GRID] if ordered else []


@dataclass
class Found:
    """What came of the requests."""

    latencies_ms: list[float] = field(default_factory=list)
    due: list[float] = field(default_factory=list)
    """When each of them began, by `time.monotonic`."""
    statuses: Counter[int] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    closed: int = 0
    """Connections that the server closed, idle or not."""
    counted: int = 0
    """Occurrences of the text in answers."""


@dataclass
class _Connection:
    socket: socket.socket
    due: float = 0.0
    """When its request was due; 0: it has none under way."""
    buffer: bytes = b""


class Generator:
    """Sends one request again and again.

    Args:
        port: on the loopback interface.
        request: head and body.
        connections: how many, each with one request under way at most.
        rate: requests a second of an open loop; 0: a closed loop.
        count: a text whose occurrences in answers are counted.
    """

    def __init__(
        self, port: int, request: bytes, connections: int, rate: float = 0.0, count: bytes = b""
    ) -> None:
        self._port = port
        self._request = request
        self._rate = rate
        self._count = count
        self._poll = select.epoll()
        self._connections: dict[int, _Connection] = {}
        self._idle: deque[_Connection] = deque()
        self.late: deque[float] = deque()
        """When requests of an open loop were due that no connection is free for."""
        self._is_over = False
        self.found = Found()
        for _ in range(connections):
            self._idle.append(self._connect())

    def stop(self) -> None:
        """Begin no more requests."""
        self._is_over = True

    def close(self) -> None:
        """Close its connections."""
        for one in self._connections.values():
            one.socket.close()
        self._poll.close()

    def run(self, seconds: float) -> float:
        """Send for so long; return how long it took until the last request was begun or answered."""
        began = time.monotonic()
        end = began + seconds
        if not self._rate:
            for _ in range(len(self._idle)):
                self._send(self._idle.popleft(), time.monotonic())
        sent = 0
        while not self._is_over and (now := time.monotonic()) < end:
            wait = end - now
            if self._rate:
                while (due := began + sent / self._rate) <= now:
                    sent += 1
                    if self._idle:
                        self._send(self._idle.popleft(), due)
                    else:
                        self.late.append(due)
                wait = min(wait, due - now)
            self._answers(wait)
        took = time.monotonic() - began
        self._is_over = True
        if self._rate:
            self._wait_for_answers()
        return took

    def _wait_for_answers(self) -> None:
        """Charge requests that are not answered in time with the time that they have waited."""
        end = time.monotonic() + PATIENCE_S
        while self.late and self._idle:
            self._send(self._idle.popleft(), self.late.popleft())
        while any(one.due for one in self._connections.values()) and (now := time.monotonic()) < end:
            self._answers(end - now)
        now = time.monotonic()
        for due in [*(one.due for one in self._connections.values() if one.due), *self.late]:
            self.found.errors["no answer"] += 1
            self._note(due, now)

    def _answers(self, wait_s: float) -> None:
        for descriptor, _ in self._poll.poll(wait_s):
            one = self._connections.get(descriptor)
            if one is not None:  # else it was lost while another one's answer was read
                self._receive(one)

    def _connect(self) -> _Connection:
        made = socket.create_connection(("127.0.0.1", self._port), CONNECT_TIMEOUT_S)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.setblocking(False)
        one = _Connection(made)
        self._connections[made.fileno()] = one
        self._poll.register(made, select.EPOLLIN)
        return one

    def _send(self, one: _Connection, due: float) -> None:
        one.due, one.buffer = due, b""
        try:
            one.socket.send(self._request)
        except OSError as error:
            self._lost(one, type(error).__name__)

    def _receive(self, one: _Connection) -> None:
        try:
            data = one.socket.recv(RECEIVE_SIZE)
        except BlockingIOError:
            return
        except OSError as error:
            self._lost(one, type(error).__name__)
            return
        if not data:
            self._lost(one, "closed before the answer")
            return
        one.buffer = one.buffer + data if one.buffer else data
        answer = parse(one.buffer)
        if answer is None:
            return
        now = time.monotonic()
        self._note(one.due, now)
        self.found.statuses[answer.status] += 1
        if self._count:
            self.found.counted += one.buffer.count(self._count)
        one.due = 0.0
        if answer.closes:
            self._lost(one, "")
        else:
            self._next(one, now)

    def _next(self, one: _Connection, now: float) -> None:
        if self.late:
            self._send(one, self.late.popleft())
        elif self._rate or self._is_over:
            self._idle.append(one)
        else:
            self._send(one, now)

    def _note(self, due: float, now: float) -> None:
        self.found.latencies_ms.append(1000 * (now - due))
        self.found.due.append(due)

    def _lost(self, one: _Connection, reason: str) -> None:
        """A connection is gone: note it, and go on with a new one."""
        self.found.closed += 1
        if one.due:
            self.found.errors[reason] += 1
        with contextlib.suppress(ValueError):
            self._idle.remove(one)
        del self._connections[one.socket.fileno()]
        self._poll.unregister(one.socket)
        one.socket.close()
        try:
            new = self._connect()
        except OSError as error:
            self.found.errors[type(error).__name__] += 1
            return
        self._next(new, time.monotonic())


def request_of(path: str, body: bytes, method: str = "POST") -> bytes:
    """Head and body of a request."""
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def main() -> None:
    """Run once and print what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", default="/")
    parser.add_argument("--body", default="{}")
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--rate", type=float, default=0.0, help="requests a second; 0: a closed loop")
    parser.add_argument("--count", default="", help="a text that is counted in answers")
    parser.add_argument("--timeline", action="store_true", help="print every request, too")
    options = parser.parse_args()
    request = request_of(options.path, options.body.encode())
    generator = Generator(options.port, request, options.connections, options.rate, options.count.encode())
    signal.signal(signal.SIGTERM, lambda *_: generator.stop())
    seconds = generator.run(options.seconds)
    found = generator.found
    shown: dict[str, Any] = {
        "requests": sum(found.statuses.values()),
        "seconds": seconds,
        "failed": sum(found.errors.values()) + sum(n for it, n in found.statuses.items() if it != 200),
        "closed": found.closed,
        "counted": found.counted,
        "percentiles": percentiles(found.latencies_ms),
        "problems": {**found.errors, **{f"status {it}": n for it, n in found.statuses.items() if it != 200}},
    }
    if options.timeline:
        shown["timeline"] = list(zip(found.due, found.latencies_ms, strict=True))
    print(json.dumps(shown))


if __name__ == "__main__":
    main()
