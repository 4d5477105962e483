"""Limits of what a client sends and of the time it takes, over raw sockets; the replica keeps nothing of it."""

from __future__ import annotations

import asyncio
import os
import pickle
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import StreamingResponse

import skate
from skate import serve
from skate.serve._http import limits
from skate.serve._targets import HTTPTarget

from .conftest import Web, session
from .processes import replicas

Wait = Callable[[Callable[[], object]], None]

MAX_BODY, MAX_QUEUED = 3_000_000, 4_000_000
GET = b"GET %s HTTP/1.1\r\nhost: x\r\n\r\n"


@serve.deployment(max_ongoing_requests=2)
class Guarded:
    """Reads bodies, ignores them, or waits until it is let go; counts what became of its requests."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.counts = {"began": 0, "cancelled": 0, "read": 0}

    async def __call__(self, request: Request) -> Any:
        self.counts["began"] += 1
        name = request.url.path.rpartition("/")[2]
        try:
            if name == "ignore":
                return "ignored"
            if name == "wait":
                await self.go.wait()
            if name == "much":
                return StreamingResponse(bytes(1 << 16) for _ in range(1 << 10))
            size = len(await request.body())
        except BaseException:
            self.counts["cancelled"] += 1
            raise
        self.counts["read"] += 1
        return f"{name} {size}"


@serve.deployment
class Other:
    """Another application."""

    async def __call__(self, request: Request) -> str:
        return f"other {len(await request.body())}"


class Inside:
    """The only replica of ``Guarded``, from inside; its slots are not used."""

    def __init__(self) -> None:
        (self._actor,) = replicas("Guarded").values()

    @property
    def ongoing(self) -> int:
        found: int = skate.get(self._actor.counts.remote())["ongoing"]
        return found

    def held(self) -> dict[str, int]:
        """Return what the process holds for its clients."""
        found: dict[str, int] = skate.get(self._actor.__ray_call__.remote(_held))
        return found

    @property
    def counts(self) -> dict[str, int]:
        found: dict[str, int] = skate.get(
            self._actor.__ray_call__.remote(lambda replica: replica._code.servable.counts)
        )
        return found


def _held(replica: Any) -> dict[str, int]:
    server = replica._entrance.server
    return {
        "connections": len(server.connections()),
        "fds": len(os.listdir("/proc/self/fd")),
        "tasks": len(server.state.tasks),
        "bodies": replica._entrance._bodies.held,
        "ongoing": replica._slots.lender.ongoing,
    }


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    """A session with low limits."""
    with session(
        header_timeout_s=1, body_timeout_s=1, keep_alive_timeout_s=2,
        max_body_bytes=MAX_BODY, max_queued_body_bytes=MAX_QUEUED,
    ) as address:  # fmt: skip
        serve.run(Guarded.bind())
        yield Web(address)


@pytest.fixture
def inside(web: Web, wait_until: Wait) -> Iterator[Inside]:
    """The replica, which holds after a test no more than before it."""
    found = Inside()
    found.ongoing  # noqa: B018  # the first call in its group of methods makes that group's loop, with descriptors
    wait_until(lambda: found.held()["connections"] == 0)
    before = found.held()
    yield found
    wait_until(lambda: [name for name, now in found.held().items() if now > before[name]] == [])


def connected(web: Web, data: bytes = b"") -> socket.socket:
    """Return a connection over which some bytes were sent."""
    client = socket.create_connection((web.host, web.port), timeout=60)
    client.sendall(data)
    return client


def until_closed(client: socket.socket) -> bytes:
    """Return all that comes until the server closes."""
    received = b""
    with client:
        while part := client.recv(65536):
            received += part
    return received


def until(client: socket.socket, end: bytes, times: int = 1) -> bytes:
    """Return what comes until some bytes have come so many times."""
    received = b""
    while received.count(end) < times:
        part = client.recv(65536)
        assert part, f"closed after {received!r}"
        received += part
    return received


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def post(path: bytes, body: bytes, length: int | None = None) -> bytes:
    head = b"POST %s HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"
    return head % (path, len(body) if length is None else length) + body


# ---------------------------------------------------------------------- rules


def test_each_stage_has_its_time_limit() -> None:
    options = HTTPTarget(keep_alive_timeout_s=1, header_timeout_s=2, body_timeout_s=None)
    found = {stage: limits.time_limit(stage, options) for stage in limits.Stage}
    assert found.pop(limits.Stage.REFUSED) is not None
    assert found == {
        limits.Stage.IDLE: 1, limits.Stage.HEAD: 2, limits.Stage.BODY: None, limits.Stage.ANSWER: None
    }  # fmt: skip


def test_announced_sizes() -> None:
    headers = [(b"host", b"x"), (b"content-length", b"12")]
    assert limits.content_length(headers) == 12
    assert limits.content_length(headers[:1]) == 0
    assert limits.head_bytes(b"/abc", headers) == 4 + 5 + 4 + 16 + 4


def test_the_budget_of_bodies() -> None:
    budget = limits.BodyBudget(10)
    budget.take(6)
    with pytest.raises(
        limits.BodiesError, match="its body of 5 bytes has no room beside the 6 bytes"
    ) as caught:
        budget.take(5)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    assert (caught.value.status_code, budget.held) == (503, 6)
    budget.give(6)
    budget.take(10)


@pytest.mark.parametrize(
    "name", ["max_body_bytes", "max_queued_body_bytes", "header_timeout_s", "body_timeout_s"]
)
def test_wrong_limits(name: str) -> None:
    for wrong in (-1, "1"):
        with pytest.raises(ValueError, match=name):
            serve.HTTPOptions(**{name: wrong})


# ---------------------------------------------------------------------- bodies


def test_large_bodies_are_refused(web: Web, inside: Inside) -> None:
    began = inside.counts["began"]
    assert web("/read", bytes(MAX_BODY)).text == f"read {MAX_BODY}"
    refused = until_closed(connected(web, post(b"/read", b"", MAX_BODY + 1)))
    assert status_of(refused) == 413
    assert b"connection: close" in refused
    assert b"at most 3000000 bytes" in refused
    # The answer reaches a client that sends all of it, too.
    assert web("/read", bytes(2 * MAX_BODY)).status == 413
    assert inside.counts["began"] == began + 1


def test_large_chunked_bodies_are_refused_on_the_way(web: Web, inside: Inside) -> None:
    before = inside.counts
    client = connected(web, b"POST /read HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
    for _ in range(MAX_BODY // 100_000 + 1):
        client.sendall(b"186a0\r\n" + bytes(100_000) + b"\r\n")
    assert status_of(until_closed(client)) == 413
    assert inside.counts == {**before, "began": before["began"] + 1, "cancelled": before["cancelled"] + 1}


def test_chunked_uploads_in_any_pieces(web: Web, inside: Inside) -> None:
    request = b"POST /read HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    with connected(web) as client:
        for index in range(len(request)):
            client.sendall(request[index : index + 1])
        assert until(client, b"read 5").startswith(b"HTTP/1.1 200")
        client.sendall(request)
        assert until(client, b"read 5").startswith(b"HTTP/1.1 200")


def test_an_expecting_client_is_asked_for_its_body(web: Web, inside: Inside) -> None:
    head = b"POST %s HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: %d\r\n\r\n"
    with connected(web, head % (b"/read", 5)) as client:
        assert until(client, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"12345")
        assert until(client, b"read 5").startswith(b"HTTP/1.1 200")
    # Where the answer is known without the body, the client is not asked; what it sends next is ambiguous.
    for path, length, status in (
        (b"/read", MAX_BODY + 1, 413),
        (b"/ignore", 5, 200),
        (b"/-/healthz", 5, 200),
    ):
        answer = until_closed(connected(web, head % (path, length)))
        assert status_of(answer) == status
        assert b"connection: close" in answer


def test_bodies_that_wait_have_a_budget(web: Web, inside: Inside, wait_until: Wait) -> None:
    running = [connected(web, GET % b"/wait") for _ in range(2)]
    wait_until(lambda: inside.ongoing == 2)
    waiting = connected(web, post(b"/read", bytes(2_500_000)))
    wait_until(lambda: inside.held()["bodies"] == 2_500_000)
    refused = web("/read", bytes(2_500_000))
    assert refused.status == 503
    assert "2500000 bytes has no room beside the 2500000 bytes" in refused.text
    assert "max_queued_body_bytes=4000000" in refused.text
    for client in running:
        client.close()
    assert b"read 2500000" in until(waiting, b"read")
    waiting.close()


# ---------------------------------------------------------------------- heads


def test_long_heads_are_refused(web: Web, inside: Inside) -> None:
    fits = b"GET /read HTTP/1.1\r\nhost: x\r\nx-long: " + b"a" * 60_000 + b"\r\n\r\n"
    long = fits.replace(b"aaaa", b"aaaaa")
    with connected(web, fits * 3) as client:
        until(client, b"read 0", times=3)
    for sent in (long, fits + long, long[:-4], long[:50_000], b"GET /" + b"a" * 70_000):
        client = connected(web, sent)
        if sent == long[:50_000]:  # in small pieces
            for _ in range(40):
                client.sendall(b"b" * 1000)
        answer = until_closed(client)
        assert b"HTTP/1.1 431" in answer
        assert b"at most 65536 bytes" in answer
        assert (b"read 0" in answer) == (sent == fits + long)


def test_slow_heads_and_bodies_time_out(web: Web, inside: Inside) -> None:
    slow_head = connected(web, b"GET / HTTP/1.1\r\nhost: x\r\nx-a")
    slow_body = connected(web, post(b"/read", b"abc", 10))
    silent = connected(web)
    unread_body = connected(web, post(b"/ignore", b"abc", 10))
    answer = until_closed(slow_head)
    assert status_of(answer) == 408
    assert b"its headers were not complete after 1 s" in answer
    answer = until_closed(slow_body)
    assert status_of(answer) == 408
    assert b"its body brought nothing for 1 s" in answer
    assert until_closed(silent) == b""
    assert until_closed(unread_body).endswith(b"ignored")
    assert inside.ongoing == 0


def test_a_thousand_half_requests_leave_nothing(web: Web, inside: Inside, wait_until: Wait) -> None:
    before = inside.held()
    clients = [connected(web, b"GET / HTTP/1.1\r\nhost: x\r\nx-a: b") for _ in range(1000)]
    wait_until(lambda: inside.held()["connections"] > 0)
    assert web("/read", b"served meanwhile").text == "read 16"
    assert {status_of(until_closed(client)) for client in clients} == {408}
    wait_until(lambda: [name for name, now in inside.held().items() if now > before[name]] == [])


def test_a_client_that_does_not_read_is_cut_off(web: Web, inside: Inside, wait_until: Wait) -> None:
    clients = [connected(web, GET % b"/much") for _ in range(2)]
    wait_until(lambda: inside.ongoing == 2)
    wait_until(lambda: inside.ongoing == 0)
    for client in clients:
        client.close()


# ---------------------------------------------------------------------- several requests, and no requests


def test_pipelined_requests_are_answered_in_order(web: Web, inside: Inside, wait_until: Wait) -> None:
    requests = [post(b"/%d" % number, bytes(number)) for number in range(20)]
    with connected(web, b"".join(requests)) as client:
        answers = until(client, b"19 19")
    assert [answers.index(b"%d %d" % (n, n)) for n in range(20)] == sorted(
        answers.index(b"%d %d" % (n, n)) for n in range(20)
    )
    # What is wrong is answered in its turn, and is the last.
    for wrong, status in ((b"nonsense\r\n\r\n", 400), (post(b"/", b"", MAX_BODY + 1), 413)):
        answer = until_closed(connected(web, GET % b"/a" + GET % b"/b" + wrong + GET % b"/c"))
        assert [int(one[:3]) for one in answer.split(b"HTTP/1.1 ")[1:]] == [200, 200, status]
    # If the client has gone, all are cancelled.
    client = connected(web, GET % b"/wait" * 3)
    wait_until(lambda: inside.ongoing == 1)
    client.close()
    wait_until(lambda: inside.ongoing == 0)


def test_half_a_pipelined_request_stays_with_its_connection(web: Web, inside: Inside) -> None:
    """The first half is in this process's parser: the connection must not go to another process with the rest."""
    serve.run(Other.bind(), name="other", route_prefix="/other")
    for first, second in ((b"/a", b"/other"), (b"/other", b"/a")):
        whole = GET % second
        with connected(web, GET % first + whole[:9]) as client:
            received = until(client, b" 0")
            client.sendall(whole[9:])
            received += until(client, b" 0")
        assert received.count(b"HTTP/1.1 200") == 2
        assert (b"other 0" in received.partition(b"\r\n\r\n")[2]) and b"a 0" in received
    serve.delete("other")


def test_http_1_0_and_garbage(web: Web, inside: Inside) -> None:
    assert until_closed(connected(web, b"GET /old HTTP/1.0\r\n\r\n")).endswith(b"\r\n\r\nold 0")
    broken = (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # the first bytes of TLS
        b"\x00" * 100,
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nnonsense\r\n",
    )
    for sent in broken:
        answer = until_closed(connected(web, sent))
        assert status_of(answer) == 400, sent
        assert answer.count(b"HTTP/1.1") == 1
    # After an answer, too.
    with connected(web, GET % b"/a") as client:
        until(client, b"a 0")
        client.sendall(b"\x00\x01\x02")
        assert status_of(until_closed(client)) == 400
