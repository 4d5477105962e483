"""A thousand clients that hang up, each at a point of its own: everything is cancelled, nothing is left."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import struct
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import StreamingResponse

import skate
from skate import serve

from .conftest import Web
from .processes import replicas

Wait = Callable[[Callable[[], object]], None]

_CLIENTS, _FIRST = 1000, 200
#: So many have a connection at a time.
_AT_ONCE = 100


class Counted:
    """Counts the runs that began and those that were cancelled."""

    def __init__(self) -> None:
        self.begun = self.cancelled = 0

    def __enter__(self) -> None:
        self.begun += 1

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.cancelled += kind is asyncio.CancelledError or kind is GeneratorExit


@serve.deployment(max_ongoing_requests=5)
class Inner:
    """Has few slots: most calls wait for one, in their caller's process."""

    def __init__(self) -> None:
        self.runs = Counted()

    async def __call__(self, name: str) -> str:
        if name == "quick":
            return "done"
        with self.runs:
            await asyncio.Event().wait()
        raise AssertionError("nothing sets the event")


@serve.deployment(max_ongoing_requests=60)
class Front:
    """Calls the other one, or streams and does not end."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.runs = Counted()

    async def __call__(self, request: Request) -> Any:
        name = request.url.path.strip("/")
        if name == "stream":
            return StreamingResponse(self.items())
        if name == "quick":
            return await self.inner.remote(name)
        with self.runs:
            return await self.inner.remote(name)

    async def items(self) -> AsyncIterator[bytes]:
        with self.runs:
            for _ in range(5):
                yield b"item\n"
                await asyncio.sleep(0)
            await asyncio.Event().wait()


def state(replica: Any) -> dict[str, Any]:
    """Return what a replica has. Runs in it, on its loop."""
    servable = replica._code.servable
    ports = replica._client.ports()
    entrance = replica._entrance
    return {
        "ongoing": replica._slots.lender.ongoing,
        "queued": sum(port.router.queued for port in ports),
        "sent": sum(port.router.ongoing for port in ports),
        "calls": sum(len(port.calls()) for port in ports),
        "tasks": len(asyncio.all_tasks()),
        "threads": threading.active_count(),
        "connections": len(entrance.server.connections()) if entrance is not None else 0,
        "descriptors": len(os.listdir("/proc/self/fd")),
        "uncancelled": servable.runs.begun - servable.runs.cancelled,
    }


def look() -> dict[str, dict[str, Any]]:
    """Return the state of both replicas."""
    found = {}
    for name in ("Front", "Inner"):
        (replica,) = replicas(name).values()
        found[name] = skate.get(replica.__ray_call__.remote(state))
    return found


def begun(name: str) -> int:
    (replica,) = replicas(name).values()
    found: int = skate.get(replica.__ray_call__.remote(lambda self: self._code.servable.runs.begun))
    return found


async def client(web: Web, chance: random.Random) -> None:
    """Connect, send a part of a request or all of it, perhaps read a part of the answer, and hang up."""
    reader, writer = await asyncio.open_connection(web.host, web.port)
    try:
        path = chance.choice(["wait", "wait", "stream"])
        head = f"POST /{path} HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n".encode()
        request = head + b"x" * 1000
        is_whole = chance.random() < 0.6
        if not is_whole:
            request = request[: chance.randrange(len(request))]
        while request:
            size = chance.randrange(1, len(request) + 1)
            writer.write(request[:size])
            request = request[size:]
            await writer.drain()
            await asyncio.sleep(0)
        if is_whole and path == "stream" and chance.random() < 0.3:
            await reader.read(chance.randrange(1, 200))
        for _ in range(chance.randrange(50)):
            await asyncio.sleep(0)
        if chance.random() < 0.5:  # a reset instead of an orderly end
            raw = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except ConnectionError:
        pass
    finally:
        writer.transport.abort()


async def clients(web: Web, number: int, seed: int) -> None:
    chance = random.Random(seed)
    room = asyncio.Semaphore(_AT_ONCE)

    async def one(own_seed: int) -> None:
        async with room:
            await asyncio.wait_for(client(web, random.Random(own_seed)), 60)

    await asyncio.gather(*(one(chance.randrange(1 << 30)) for _ in range(number)))


@pytest.mark.time_limit(120)
def test_nothing_is_left_of_clients_that_hang_up(web: Web, wait_until: Wait) -> None:
    serve.run(Front.bind(Inner.bind()))
    # What is made once is there before: connections between the processes, and their timers.
    asyncio.run(clients(web, _FIRST, seed=1))
    idle = {"ongoing": 0, "queued": 0, "sent": 0, "calls": 0, "connections": 0, "uncancelled": 0}

    def is_idle() -> bool:
        return all(found.items() >= idle.items() for found in look().values())

    wait_until(is_idle)
    before = look()
    runs = begun("Front"), begun("Inner")
    asyncio.run(clients(web, _CLIENTS, seed=2))
    wait_until(lambda: is_idle() and look() == before)
    assert begun("Front") > runs[0] + 20 and begun("Inner") > runs[1] + 5
    assert [web("/quick").text for _ in range(100)] == ["done"] * 100
