"""Streams whose consumers are slow: what makes them waits, and is not kept in memory."""

from __future__ import annotations

import http.client
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from skate import serve

from .conftest import Web

Wait = Callable[[Callable[[], object]], None]
CHUNK, LARGE = b"x" * 256_000, b"x" * 8_000_000


@serve.deployment(max_ongoing_requests=2)
class Source:
    """Makes items as fast as they are taken."""

    def __init__(self, folder: str) -> None:
        #: Says how many were made, also to those who have no slot.
        self.file = os.open(f"{folder}/{os.getpid()}", os.O_CREAT | os.O_WRONLY)

    async def __call__(self, request: Any) -> Any:
        if request.url.path == "/pid":
            return os.getpid()
        if request.url.path == "/large":
            return self.items(16, LARGE)
        return self.items(2000, CHUNK)

    async def ping(self) -> None:
        return None

    async def items(self, count: int, item: Any) -> AsyncIterator[Any]:
        for number in range(1, count + 1):
            os.pwrite(self.file, b"%6d" % number, 0)
            yield item


def made(folder: Path) -> list[int]:
    """Return how many items each process has made."""
    return sorted(int(path.read_text() or 0) for path in folder.iterdir())


def test_a_stream_of_a_handle_waits_for_its_consumer(tmp_path: Path, wait_until: Wait) -> None:
    handle = serve.run(Source.bind(str(tmp_path)), route_prefix=None)
    stream = handle.options(stream=True).items.remote(5000, 0)
    assert next(stream) == 0
    wait_until(lambda: made(tmp_path)[0] >= 256)
    for _ in range(50):
        assert handle.ping.remote().result() is None
        assert made(tmp_path)[0] <= 258
    assert sum(1 for _ in stream) == 4999


@pytest.mark.parametrize(
    ("path", "least", "most", "bytes_sent"),
    [("/", 60, 300, 2000 * len(CHUNK)), ("/large", 1, 8, 16 * len(LARGE))],
    ids=["in parts", "in large parts"],
)
def test_an_answer_that_another_replica_makes_waits_for_its_client(
    web: Web, tmp_path: Path, wait_until: Wait, path: str, least: int, most: int, bytes_sent: int
) -> None:
    serve.run(Source.options(num_replicas=2, max_ongoing_requests=1).bind(str(tmp_path)))
    by_process: dict[bytes, http.client.HTTPConnection] = {}
    while True:  # until two connections are in one process, which answers one of them itself
        connection = http.client.HTTPConnection(*web.address.removeprefix("http://").split(":"))
        connection.request("GET", "/pid")
        process = connection.getresponse().read()
        if process in by_process:
            break
        by_process[process] = connection
    answers = []
    for one in (by_process[process], connection):
        one.request("GET", path)
        answers.append(one.getresponse())

    def is_still() -> bool:
        before = made(tmp_path)
        for _ in range(100):
            assert web("/-/healthz").status == 200
        return made(tmp_path) == before and before[0] >= 1 and before[1] > least

    wait_until(is_still)
    assert made(tmp_path)[1] < most
    assert [len(one.read()) for one in answers] == [bytes_sent] * 2
