"""A deployment that takes time, and requests that come at a rate, whatever becomes of them."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from skate import serve
from skate.serve import context

from .conftest import Web


def remaining_s() -> float:
    """Return how much time the request that runs here has left; 0: it has no deadline."""
    deadline = context.request.get().deadline
    return deadline - time.monotonic() if deadline else 0.0


@serve.deployment(max_ongoing_requests=2)
class Slow:
    """Takes 50 ms, and counts what began, and what began late."""

    def __init__(self) -> None:
        self.began = self.late = 0

    async def __call__(self, *_: Any) -> str:
        self.began += 1
        self.late += remaining_s() < 0
        await asyncio.sleep(0.05)
        return "done"

    def counts(self) -> tuple[int, int]:
        return self.began, self.late


async def answer(web: Web, timeout_s: float) -> tuple[int, dict[str, str], str]:
    reader, writer = await asyncio.open_connection(web.host, web.port)
    try:
        head = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-request-timeout-seconds: %g\r\n\r\n"
        writer.write(head % timeout_s)
        head, _, body = (await reader.read()).decode().partition("\r\n\r\n")  # type: ignore[assignment]
        first, *lines = str(head).split("\r\n")
        return int(first.split(" ")[1]), dict(line.lower().split(": ", 1) for line in lines), str(body)
    finally:
        writer.close()


async def open_loop(web: Web, number: int, rate: float) -> list[tuple[int, dict[str, str], str]]:
    """Send requests at a rate, whatever becomes of them."""
    loop = asyncio.get_running_loop()
    start, tasks = loop.time(), []
    for index in range(number):
        await asyncio.sleep(max(0.0, start + index / rate - loop.time()))
        tasks.append(asyncio.ensure_future(answer(web, 0.2)))
    return await asyncio.gather(*tasks)
