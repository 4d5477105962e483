"""Deadlines: inherited by all calls, refusal before they would pass, and no beginning after them."""

from __future__ import annotations

import asyncio
import math
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from skate import serve
from skate.serve import context
from skate.serve.exceptions import BackPressureError, WaitTooLongError
from skate.serve.handle import DeploymentHandle

from .conftest import Web
from .overload import Slow, open_loop, remaining_s
from .test_http import Waits, counts


@serve.deployment
class Leaf:
    def plain(self) -> float:
        return remaining_s()

    async def __call__(self, *_: Any) -> list[float]:
        return [remaining_s()]

    async def items(self) -> AsyncIterator[float]:
        for _ in range(2):
            yield remaining_s()


@serve.deployment
class Middle:
    def __init__(self, leaf: DeploymentHandle) -> None:
        self.leaf = leaf

    def plain(self) -> list[float]:
        return [remaining_s(), self.leaf.plain.remote().result()]

    async def items(self) -> AsyncIterator[float]:
        yield remaining_s()
        async for one in self.leaf.options(stream=True).items.remote():
            yield one


@serve.deployment
class Top:
    def __init__(self, middle: DeploymentHandle, leaf: DeploymentHandle) -> None:
        self.middle, self.leaf = middle, leaf

    async def __call__(self, request: Any) -> dict[str, list[float]]:
        own = remaining_s()
        streamed = [one async for one in self.middle.options(stream=True).items.remote()]
        joined = await self.leaf.remote(self.leaf.plain.remote())
        return {
            "plain": [own, *(await self.middle.plain.remote())],
            "stream": [own, *streamed],
            "joined": [own, *joined],
        }


def test_calls_inherit_the_time_that_remains(web: Web) -> None:
    leaf = Leaf.bind()
    serve.run(Top.bind(Middle.bind(leaf), leaf))
    for found in web("/", x_request_timeout_seconds="30").json().values():
        assert found[0] < 30
        assert found == sorted(found, reverse=True)
        assert found[-1] > 0
    assert {one for found in web("/").json().values() for one in found} == {0.0}


def test_relayed_requests_inherit_it_too(web: Web) -> None:
    leaf = Leaf.bind()
    serve.run(Top.bind(Middle.bind(leaf), leaf), name="a", route_prefix="/a")
    serve.run(Leaf.bind(), name="b", route_prefix="/b")
    for _ in range(4):
        for path in ("/a", "/b"):  # a body of this size is not passed on with its connection
            answer = web(path, bytes(1_000_000), x_request_timeout_seconds="30").json()
            lists = answer.values() if path == "/a" else [answer]
            assert all(0 < one < 30 for found in lists for one in found)


@pytest.mark.parametrize("replicas", [1, 2])
def test_three_times_the_capacity(web: Web, replicas: int) -> None:
    """Requests are answered, or refused at once with the time to come back; none begins after its deadline."""
    handle = serve.run(Slow.options(num_replicas=replicas).bind())
    answers = asyncio.run(open_loop(web, 240 * replicas, 120 * replicas))
    statuses = Counter(status for status, _, _ in answers)
    assert set(statuses) <= {200, 408, 503}
    assert statuses[200] > 0
    assert statuses[503] > 0
    for status, headers, body in answers:
        if status == 503:
            assert int(headers["retry-after"]) >= 1
            assert "Send it again after the wait" in body
    found = {handle.counts.remote().result() for _ in range(20)}
    assert {late for _, late in found} == {0}
    # What was refused never ran.
    assert sum(began for began, _ in found) <= statuses[200] + statuses[408]


def test_handles_refuse_too(web: Web, wait_until: Callable[[Callable[[], object]], None]) -> None:
    @serve.deployment
    class Caller:
        """Has one request run and 19 wait; one more has no time for that."""

        def __init__(self, slow: DeploymentHandle) -> None:
            self.slow = slow

        async def __call__(self, request: Any) -> str:
            for _ in range(4):
                await self.slow.remote()
            running = [self.slow.remote() for _ in range(20)]
            context.request.get().deadline = time.monotonic() + 0.08
            try:
                await self.slow.remote()
            except WaitTooLongError as error:
                assert isinstance(error, BackPressureError)
                return f"{error.status_code} {math.ceil(error.retry_after_s or 0)} {error}"
            finally:
                for one in running:
                    one.cancel()
            return "answered"

    serve.run(Caller.bind(Slow.options(max_ongoing_requests=1).bind()))
    status, after, text = web("/").text.split(" ", 2)
    assert (status, int(after) >= 1) == ("503", True)
    assert "behind 19 others of Deployment(name='Slow', app='default')" in text


def test_a_full_queue_says_when_to_come_back(
    web: Web, wait_until: Callable[[Callable[[], object]], None]
) -> None:
    serve.run(Waits.options(max_queued_requests=1).bind())
    assert web("/", x_request_timeout_seconds="0.2").status == 408  # from which a service time is known
    wait_until(lambda: counts()["ongoing"] == 0)
    clients = []
    for _ in range(2):  # one runs, one waits
        client = socket.create_connection((web.host, web.port))
        client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        clients.append(client)
        wait_until(lambda: counts()["ongoing"] == 1)
    wait_until(lambda: web("/", x_request_timeout_seconds="0.1").status == 503)
    refused = web("/")
    assert refused.status == 503
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.text == (
        "Request dropped due to backpressure (num_queued_requests=1, max_queued_requests=1)."
    )
    for client in clients:
        client.close()
    wait_until(lambda: counts()["ongoing"] == 0)
