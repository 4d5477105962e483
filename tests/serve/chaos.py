"""Clients of all kinds, and random events while they send: each answer must be whole, and that of its request.

All follows the program's steps, not the clock: an event is over when each client has had some answers more.
"""

from __future__ import annotations

import itertools
import random
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

from skate import serve

#: Answers of ``long`` requests: more than the buffers of a connection hold.
LONG = 2_000_000
#: A client that gets nothing for this time has been forgotten (seconds).
_FORGOTTEN_S = 60.0


@serve.deployment(max_ongoing_requests=3, health_check_period_s=0.2)
class Echo:
    """Answers with the request's token, its body, and so many bytes more."""

    def __init__(self, version: int, inner: Any = None) -> None:
        self.version, self.inner, self.config = version, inner, 0

    def reconfigure(self, config: int) -> None:
        self.config = config

    async def __call__(self, request: Any) -> Any:
        token = request.query_params["token"]
        body = await request.body()
        if self.inner is not None:
            assert await self.inner.call.remote(token) == token
        answer = filled(token, len(body), int(request.query_params.get("more", 0)))
        return pieces(answer) if "stream" in request.query_params else answer

    async def call(self, token: str) -> str:
        return token

    async def items(self, token: str) -> Any:
        for number in range(5):
            yield f"{token}/{number}"


async def pieces(answer: bytes) -> Any:
    for start in range(0, len(answer), 50_000):
        yield answer[start : start + 50_000]


def filled(token: str, taken: int, more: int) -> bytes:
    """Return the answer to a request: its token again and again, so that bytes of others stand out."""
    line = f"{token}:{taken}\n".encode()
    return line + (line * (more // len(line) + 1))[:more]


class Broken(Exception):
    """A request failed, or its connection was closed."""


class Wrong(Exception):
    """An answer is not that of its request."""


class Connection:
    """A connection of a client, which keeps what it has read beyond an answer.

    Args:
        address: of the port.
        tls: for HTTPS.
    """

    def __init__(self, address: tuple[str, int], tls: ssl.SSLContext | None = None) -> None:
        self._socket = socket.create_connection(address, timeout=_FORGOTTEN_S)
        if tls is not None:
            self._socket = tls.wrap_socket(self._socket, server_hostname=address[0])
        self._read = b""
        #: How many answers have come, and whether the server closes after the latest.
        self.answers = 0
        self.is_ending = False

    @property
    def is_stale(self) -> bool:
        """Whether it had answers, and nothing of another one has come."""
        return self.answers > 0 and not self._read

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def close(self) -> None:
        self._socket.close()

    def _more(self, size: int = 1 << 16) -> None:
        data = self._socket.recv(size)
        if not data:
            raise Broken(f"closed after {self._read[:200]!r}")
        self._read += data

    def line(self) -> bytes:
        while b"\r\n" not in self._read:
            self._more()
        line, _, self._read = self._read.partition(b"\r\n")
        return line

    def take(self, number: int, size: int = 1 << 16) -> bytes:
        while len(self._read) < number:
            self._more(size)
        found, self._read = self._read[:number], self._read[number:]
        return found

    def answer(self, size: int = 1 << 16) -> tuple[int, bytes]:
        """Return status and body.

        Args:
            size: of one read.
        """
        status = int(self.line().split(b" ")[1])
        headers = {}
        while line := self.line():
            name, _, value = line.partition(b": ")
            headers[name.lower()] = value
        if status == 100:
            return 100, b""
        self.is_ending = headers.get(b"connection") == b"close"
        if b"content-length" in headers:
            body = self.take(int(headers[b"content-length"]), size)
        else:
            body = b""
            while number := int(self.line(), 16):
                body += self.take(number, size)
                self.take(2)
            self.take(2)
        self.answers += 1
        return status, body

    def end(self) -> None:
        """See that the server closes it."""
        if self._read or self._socket.recv(1):
            raise Wrong("more came than was asked for")
        self._socket.close()


class Client(threading.Thread):
    """A client that goes on until it is stopped.

    Args:
        chaos: has all clients.
        kind: a method of this class.
        seed: of what it does.
    """

    def __init__(self, chaos: Chaos, kind: str, seed: int) -> None:
        super().__init__(name=f"{kind}-{seed}", daemon=True)
        self.chaos, self.kind = chaos, kind
        self.random = random.Random(seed)
        self.answers = self.failures = 0
        self.connection: Connection | None = None
        self._numbers = itertools.count(1)
        self._paths = ["/"]

    def run(self) -> None:
        step: Callable[[Any], None] = getattr(self, self.kind)
        while not self.chaos.stopped.is_set():
            one = self.connection
            try:
                if one is None:
                    one = self.connection = self.connect()
                step(one)
            except (OSError, Broken, Wrong, ValueError, IndexError) as error:
                if not self.is_stale(one, error):
                    self.failures += 1
                    self.chaos.failed(self, error)
                self.connection = None
            else:
                if self.chaos.tls and one is not None and one.is_ending:
                    self.connection = None
            if one is not None and self.connection is not one:
                one.close()
        if self.connection is not None:
            self.connection.close()

    def is_stale(self, one: Connection | None, error: Exception) -> bool:
        """Tell whether a connection of TLS closed while it was idle, as its replica ended: a request may be on its
        way just then."""
        is_secure = self.chaos.tls is not None and one is not None
        return is_secure and isinstance(error, OSError | Broken) and one.is_stale

    def connect(self) -> Connection | None:
        return Connection(self.chaos.address, self.chaos.tls)

    def head(self, method: str, *headers: str, version: str = "1.1", **query: object) -> tuple[str, bytes]:
        token = f"{self.name}-{next(self._numbers)}"
        text = "&".join([f"token={token}", *(f"{key}={value}" for key, value in query.items())])
        path = self.random.choice(self._paths)
        lines = [f"{method} {path}?{text} HTTP/{version}", "host: x", *headers, "", ""]
        return token, "\r\n".join(lines).encode()

    def check(self, token: str, taken: int = 0, more: int = 0, size: int = 1 << 16) -> None:
        assert self.connection is not None
        status, body = self.connection.answer(size)
        self.answers += 1
        self.chaos.statuses[status] += 1
        if status == 200 and body != filled(token, taken, more):
            wanted = filled(token, taken, more)
            raise Wrong(f"{len(body)} bytes, {body[:80]!r}, for {len(wanted)}, {wanted[:80]!r}")
        if status != 200 and not self.chaos.may_fail(self._paths, status):
            raise Broken(f"status {status}: {body[:200]!r}")

    # ------------------------------------------------------------------ kinds

    def get(self, connection: Connection) -> None:
        token, head = self.head("GET")
        connection.send(head)
        self.check(token)

    def across(self, connection: Connection) -> None:
        """Two applications by one connection."""
        self._paths = ["/", "/other"]
        body = bytes(self.random.randrange(50_000))
        token, head = self.head("POST", f"content-length: {len(body)}")
        connection.send(head + body)
        self.check(token, len(body))

    def post(self, connection: Connection) -> None:
        body = bytes(self.random.choice([0, 1, 1000, 100_000, 500_000]))
        token, head = self.head("POST", f"content-length: {len(body)}")
        connection.send(head + body)
        self.check(token, len(body))

    def split(self, connection: Connection) -> None:
        """The request comes in pieces."""
        token, head = self.head("POST", "content-length: 10")
        data = head + bytes(10)
        while data:
            number = self.random.randrange(1, 60)
            connection.send(data[:number])
            data = data[number:]
        self.check(token, 10)

    def chunked(self, connection: Connection) -> None:
        token, head = self.head("POST", "transfer-encoding: chunked")
        connection.send(head)
        for _ in range(3):
            connection.send(b"400\r\n" + bytes(1024) + b"\r\n")
        connection.send(b"0\r\n\r\n")
        self.check(token, 3072)

    def asking(self, connection: Connection) -> None:
        """It sends a body when it was told to."""
        token, head = self.head("POST", "content-length: 1000", "expect: 100-continue")
        connection.send(head)
        status, body = connection.answer()
        if status != 100:
            raise Broken(f"{status} instead of 100: {body[:200]!r}")
        connection.send(bytes(1000))
        self.check(token, 1000)

    def pipelined(self, connection: Connection) -> None:
        heads = [self.head("GET") for _ in range(self.random.randrange(2, 6))]
        connection.send(b"".join(head for _, head in heads))
        for token, _ in heads:
            self.check(token)

    def slow(self, connection: Connection) -> None:
        """It takes a long answer in small pieces."""
        token, head = self.head("GET", more=LONG)
        connection.send(head)
        self.check(token, 0, LONG, 1 << 15)

    def stream(self, connection: Connection) -> None:
        token, head = self.head("GET", stream=1, more=300_000)
        connection.send(head)
        self.check(token, 0, 300_000)

    def anew(self, connection: Connection) -> None:
        """A connection for each request."""
        token, head = self.head("GET")
        connection.send(head)
        self.check(token)
        self.connection = None

    def closed(self, connection: Connection) -> None:
        """The server closes."""
        one = ("connection: close",) if self.random.randrange(2) else ()
        token, head = self.head("GET", *one, version="1.1" if one else "1.0")
        connection.send(head)
        self.check(token)
        connection.end()
        self.connection = None

    def handle(self, connection: Connection) -> None:
        """It calls from Python."""
        token = f"{self.name}-{next(self._numbers)}"
        try:
            if self.random.randrange(2):
                found: object = self.chaos.handle.call.remote(token).result(timeout_s=_FORGOTTEN_S)
                wanted: object = token
            else:
                found = [*self.chaos.handle.options(stream=True).items.remote(token)]
                wanted = [f"{token}/{number}" for number in range(5)]
        except Exception as error:
            raise Broken(repr(error)) from error
        if found != wanted:
            raise Wrong(f"{found!r} for {wanted!r}")
        self.answers += 1


KINDS = (
    "get", "across", "across", "post", "split", "chunked", "asking", "pipelined", "slow", "stream", "anew",
    "closed", "handle",
)  # fmt: skip
#: Those that a connection of TLS allows: one that ends after an answer leaves the requests behind it unanswered.
SECURE_KINDS = tuple(kind for kind in KINDS if kind != "pipelined")


class Chaos:
    """All clients.

    Args:
        address: of the port.
        handle: of the application at "/".
        seed: of all that is random.
        clients: to a class of clients the kinds, for some of which there are several.
        tls: for HTTPS.
    """

    def __init__(
        self,
        address: tuple[str, int],
        handle: Any,
        seed: int,
        clients: dict[type[Client], Sequence[str]],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.address, self.handle, self.tls = address, handle, tls
        #: Whether gRPC is answered, too.
        self.has_rpc = any(name.startswith("grpc://") for name in serve.status().proxies)
        self.stopped = threading.Event()
        self.statuses: Counter[int] = Counter()
        #: What went wrong.
        self.errors: list[str] = []
        #: The application at "/other" comes and goes.
        self.other_may_fail = False
        #: How many replicas were killed. A request may be in one that is just being killed, and the next one, too:
        #: its sockets are closed one after the other.
        self.kills = 0
        pairs = [(of, kind) for of, kinds in clients.items() for kind in kinds]
        self.clients = [of(self, kind, seed * 100 + index) for index, (of, kind) in enumerate(pairs)]

    def __enter__(self) -> Chaos:
        for one in self.clients:
            one.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stopped.set()
        for one in self.clients:
            one.join()

    def failed(self, client: Client, error: Exception) -> None:
        if isinstance(error, Wrong | ValueError) or client.failures > 2 * self.kills:
            self.errors.append(f"{client.name}, answer {client.answers}: {error!r}")

    def may_fail(self, paths: list[str], status: int) -> bool:
        return self.other_may_fail and "/other" in paths and status in (404, 503)

    def counts(self) -> list[int]:
        return [one.answers for one in self.clients]

    def have_gone_on(self, before: list[int], number: int) -> bool:
        """Tell whether each client has had so many answers since then, or something went wrong."""
        pairs = zip(self.clients, before, strict=True)
        return bool(self.errors) or all(one.answers >= then + number for one, then in pairs)
