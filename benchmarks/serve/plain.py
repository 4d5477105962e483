"""The same answers from uvicorn and Starlette, and a batcher as one writes it by hand: the floor.

python -m benchmarks.serve.plain --app echo --port 8000 [--workers 2]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
from collections import deque
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from benchmarks.serve.applications import BATCH, CHUNK, CHUNKS, SECONDS, WINDOW_S


async def echo(request: Request) -> Response:
    return JSONResponse(await request.json())


async def chunks(request: Request) -> Response:
    async def body() -> Any:
        for _ in range(CHUNKS):
            yield CHUNK

    return StreamingResponse(body())


class Batcher:
    """Runs items in batches. A batch closes when the model is free: full, or after the window."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._waiting: deque[tuple[Any, asyncio.Future[Any]]] = deque()
        self._arrived = asyncio.Event()
        self._full = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __call__(self, item: Any) -> Any:
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        result: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, result))
        self._arrived.set()
        if len(self._waiting) >= BATCH:
            self._full.set()
        return await result

    async def _run(self) -> None:
        while True:
            await self._arrived.wait()
            if len(self._waiting) < BATCH:
                self._full.clear()
                try:
                    await asyncio.wait_for(self._full.wait(), WINDOW_S)
                except asyncio.TimeoutError:
                    pass
            batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            if not self._waiting:
                self._arrived.clear()
            await asyncio.sleep(self._seconds)
            for item, result in batch:
                if not result.done():
                    result.set_result(item)


def _batched(seconds: float) -> Any:
    batcher: Batcher | None = None

    async def predict(request: Request) -> Response:
        nonlocal batcher
        batcher = batcher or Batcher(seconds)
        return JSONResponse(await batcher(await request.json()))

    return predict


ENDPOINTS: dict[str, Any] = {
    "echo": echo,
    "chunks": chunks,
    **{name: _batched(seconds) for name, seconds in SECONDS.items()},
}


def _serve(listener: socket.socket, name: str) -> None:
    app = Starlette(routes=[Route("/", ENDPOINTS[name], methods=["GET", "POST"])])
    config = uvicorn.Config(app, http="httptools", access_log=False, log_level="warning", lifespan="off")
    uvicorn.Server(config).run(sockets=[listener])


def main() -> None:
    """Answer on a port until SIGTERM; with several workers they share the listening socket."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--app", choices=sorted(ENDPOINTS), required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    # asyncio sets TCP_NODELAY only on connections of a socket that names its protocol.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", options.port))
    listener.listen(2048)
    children = []
    for _ in range(options.workers - 1):
        child = os.fork()
        if not child:
            _serve(listener, options.app)
            os._exit(0)
        children.append(child)
    _serve(listener, options.app)
    for child in children:
        os.kill(child, signal.SIGTERM)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
