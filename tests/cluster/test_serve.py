"""Serve leaves nothing: no process, thread, descriptor, object or reference (see ``leaks``)."""

from __future__ import annotations

import asyncio
import socket
import urllib.request
from typing import Any

import pytest

from skate import serve
from skate.api import RayContext as Session


@serve.deployment(max_ongoing_requests=4)
class Model:
    async def __call__(self, request: Any) -> str:
        return "x"

    async def large(self) -> bytes:
        return bytes(1_000_000)

    async def numbers(self, count: int) -> Any:
        for number in range(count):
            yield number

    async def waits(self) -> None:
        await asyncio.Event().wait()

    async def fails(self) -> None:
        raise KeyError("x")


def test_nothing_is_left(session: Session) -> None:
    serve.start(http_options={"port": 0})
    handle = serve.run(Model.bind())
    (address,) = serve.status().proxies
    with urllib.request.urlopen(f"http://{address}/") as answer:
        assert answer.read() == b"x"
    assert len(handle.large.remote().result()) == 1_000_000
    assert [*handle.options(stream=True).numbers.remote(3)] == [0, 1, 2]
    with pytest.raises(KeyError):
        handle.fails.remote().result()
    unfinished = handle.options(stream=True).numbers.remote(1_000)
    assert next(unfinished) == 0
    unfinished.cancel()
    response = handle.waits.remote()
    response.cancel()
    with pytest.raises(serve.exceptions.RequestCancelledError):
        response.result()
    host, _, port = address.rpartition(":")
    idle = socket.create_connection((host, int(port)))
    serve.run(Model.options(ray_actor_options={"num_cpus": 0.5}).bind())
    serve.shutdown()
    idle.close()


def test_a_session_may_end_first(session: Session) -> None:
    handle = serve.run(Model.bind(), route_prefix=None)
    assert len(handle.large.remote().result()) == 1_000_000
    del handle
    serve.shutdown()
    serve.shutdown()
