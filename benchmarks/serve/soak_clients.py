"""The clients of the soak test: an open loop of all kinds of requests over kept and new connections.

    python -m benchmarks.serve.soak_clients --port 8000 --grpc-port 9000 --rate 100

It ends with its standard input, and then prints one JSON object: how many of each kind were answered, and
what went wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import websockets.asyncio.client
from google.protobuf.wrappers_pb2 import StringValue

from benchmarks.serve.soak_application import PARTS, SERVICE, TEXT

BODY = "the quick brown fox"
PATIENCE_S = 60.0
HANG_UP_S = 0.05
"""After so long a client leaves a request that takes for ever; the deadline of another such request."""
SCRAPE_EVERY = 1000
"""Requests between two looks at the metrics."""
KINDS = (
    *(["echo", "call", "batch"] * 6), *(["stream", "updated"] * 3), *(["upper"] * 2),
    "anew", "fail", "deadline", "hang_up", "socket", "letters",
)  # fmt: skip
FAILING = ("hang_up", "deadline") * 6
"""More of these in the warm-up: each process remembers its last 5,000 calls that failed."""


class Broken(Exception):
    """An answer was not what it should be."""


class Clients:
    """All clients.

    Args:
        port, grpc_port: on the loopback interface.
        rate: requests a second.
        warm_up_s: for so long more requests fail.
    """

    def __init__(self, port: int, grpc_port: int, rate: float, warm_up_s: float) -> None:
        self._port, self._rate, self._warm_up_s = port, rate, warm_up_s
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._channel = grpc.aio.insecure_channel(f"127.0.0.1:{grpc_port}")
        self._upper = self._channel.unary_unary(f"/{SERVICE}/Upper", *TEXT)
        self._letters = self._channel.unary_stream(f"/{SERVICE}/Letters", *TEXT)
        self.answers: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.stopped = asyncio.Event()

    async def run(self) -> None:
        """Send until it is stopped, then wait for what is under way."""
        loop = asyncio.get_running_loop()
        began, number = loop.time(), 0
        tasks: set[asyncio.Task[None]] = set()
        while not self.stopped.is_set():
            number += 1
            kinds = KINDS if loop.time() - began > self._warm_up_s else (*KINDS, *FAILING)
            kind = kinds[number % len(kinds)] if number % SCRAPE_EVERY else "metrics"
            task = loop.create_task(self._one(kind))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self.stopped.wait(), began + number / self._rate - loop.time())
        if tasks:
            await asyncio.wait(tasks)
        await self._channel.close()

    async def _one(self, kind: str) -> None:
        step: Callable[[], Awaitable[None]] = getattr(self, kind)
        try:
            await asyncio.wait_for(step(), PATIENCE_S)
        except Exception as error:
            self.failures[f"{kind}: {error!r}"[:200]] += 1
        else:
            self.answers[kind] += 1

    # ------------------------------------------------------------------ kinds

    async def echo(self) -> None:
        await self._ask("/echo", BODY)

    async def call(self) -> None:
        await self._ask("/call", BODY.upper())

    async def batch(self) -> None:
        await self._ask("/batch", str(len(BODY)))

    async def stream(self) -> None:
        await self._ask("/stream", "".join(f"{BODY}{number}\n" for number in range(PARTS)))

    async def updated(self) -> None:
        await self._ask("/updated/call", BODY.upper())

    async def fail(self) -> None:
        await self._ask("/fail", None, 500)

    async def deadline(self) -> None:
        """It passes, unless it is refused at once because others wait."""
        await self._ask("/never", None, 408, 503, headers=f"x-request-timeout-seconds: {HANG_UP_S}\r\n")

    async def metrics(self) -> None:
        await self._ask("/-/metrics", None)

    async def anew(self) -> None:
        """A connection of its own."""
        await self._ask("/echo", BODY, headers="connection: close\r\n")

    async def hang_up(self) -> None:
        """The client goes while its request runs."""
        _, writer = await self._connected()
        writer.write(_request("/never"))
        await asyncio.sleep(HANG_UP_S)
        writer.close()

    async def socket(self) -> None:
        address = f"ws://127.0.0.1:{self._port}/updated/socket"
        async with websockets.asyncio.client.connect(address, proxy=None) as client:
            await client.send(BODY)
            if await client.recv() != BODY.upper():
                raise Broken("another answer")

    async def upper(self) -> None:
        answer = await self._upper(StringValue(value=BODY), metadata=[("application", "steady")])
        if answer.value != BODY.upper():
            raise Broken("another answer")

    async def letters(self) -> None:
        answers = self._letters(StringValue(value=BODY), metadata=[("application", "steady")])
        if "".join([one.value async for one in answers]) != BODY:
            raise Broken("another answer")

    # ------------------------------------------------------------------ HTTP

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self._port)

    async def _ask(self, path: str, body: str | None, *statuses: int, headers: str = "") -> None:
        reader, writer = await self._connected()
        try:
            writer.write(_request(path, headers))
            found, closes, answer = await _answer(reader)
        except BaseException:
            writer.close()
            raise
        if closes:
            writer.close()
        else:
            self._idle.append((reader, writer))
        if found not in (statuses or (200,)) or (body is not None and answer != body.encode()):
            raise Broken(f"status {found}: {answer[:100]!r}")


def _request(path: str, headers: str = "") -> bytes:
    return f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(BODY)}\r\n{headers}\r\n{BODY}".encode()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bool, bytes]:
    """Return status, whether the server closes, and body."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
    headers = dict(line.split(b": ", 1) for line in head[1:] if line)
    if b"content-length" in headers:
        body = await reader.readexactly(int(headers[b"content-length"]))
    else:
        body = b""
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
    return int(head[0].split(b" ")[1]), headers.get(b"connection") == b"close", body


async def _run(options: Any) -> None:
    clients = Clients(options.port, options.grpc_port, options.rate, options.warm_up)
    asyncio.get_running_loop().add_reader(sys.stdin, clients.stopped.set)
    await clients.run()
    print(json.dumps({"answers": clients.answers, "failures": clients.failures}))


def main() -> None:
    """Run until the standard input ends."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--grpc-port", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True, help="requests a second")
    parser.add_argument("--warm-up", type=float, default=0.0, help="seconds with more requests that fail")
    asyncio.run(_run(parser.parse_args()))


if __name__ == "__main__":
    main()
