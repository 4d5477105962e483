"""What the soak test of serve deploys: an application that stays, and one that is updated again and again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.protobuf.wrappers_pb2 import StringValue
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from skate import serve

PARTS = 10
"""Of each stream."""
FOREVER_S = 3600.0
SERVICE = "soak.Words"
TEXT = (StringValue.SerializeToString, StringValue.FromString)


def add_to_server(servicer: Any, server: Any) -> None:
    """Register the service of gRPC, as generated code would; protobuf brings its messages along."""
    text = (StringValue.FromString, StringValue.SerializeToString)
    methods = {
        "Upper": grpc.unary_unary_rpc_method_handler(servicer.Upper, *text),
        "Letters": grpc.unary_stream_rpc_method_handler(servicer.Letters, *text),
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, methods)])


@serve.deployment(max_ongoing_requests=50)
class Words:
    """Is called by handles, from replicas and from the driver."""

    async def __call__(self, text: str) -> str:
        return text.upper()

    async def parts(self, text: str) -> AsyncIterator[str]:
        for number in range(PARTS):
            yield f"{text}{number}\n"

    async def never(self) -> None:
        await asyncio.sleep(FOREVER_S)

    @serve.batch(max_batch_size=8, batch_wait_timeout_s=0.005)
    async def lengths(self, texts: list[str]) -> list[int]:
        return [len(text) for text in texts]


@serve.deployment(max_ongoing_requests=50, num_replicas=2)
class Front:
    """Each method is a kind of request: `/KIND`."""

    def __init__(self, words: Any) -> None:
        self.words = words

    async def __call__(self, request: Request) -> Any:
        kind = request.url.path.strip("/")
        return await getattr(self, f"answer_{kind}")(request)

    async def answer_echo(self, request: Request) -> bytes:
        return await request.body()

    async def answer_call(self, request: Request) -> str:
        return str(await self.words.remote((await request.body()).decode()))

    async def answer_stream(self, request: Request) -> AsyncIterator[str]:
        return self._parts((await request.body()).decode())

    async def _parts(self, text: str) -> AsyncIterator[str]:
        async for part in self.words.options(stream=True).parts.remote(text):
            yield part

    async def answer_batch(self, request: Request) -> int:
        return int(await self.words.lengths.remote((await request.body()).decode()))

    async def answer_fail(self, request: Request) -> None:
        raise ValueError("this one fails")

    async def answer_never(self, request: Request) -> None:
        """Wait, with all that it calls, for its deadline or for its client to go."""
        await self.words.never.remote()

    async def Upper(self, text: Any) -> Any:
        return StringValue(value=await self.words.remote(text.value))

    async def Letters(self, text: Any) -> AsyncIterator[Any]:
        for letter in text.value:
            yield StringValue(value=letter)


def steady() -> Any:
    return Front.bind(Words.bind())


def updated(version: int) -> Any:
    """Return an ASGI application with a WebSocket, and what it calls; another version replaces all."""

    async def call(request: Request) -> PlainTextResponse:
        words = serve.get_replica_context().servable_object.words
        return PlainTextResponse(await words.remote((await request.body()).decode()))

    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            while True:
                await websocket.send_text((await websocket.receive_text()).upper())
        except WebSocketDisconnect:
            pass

    app = Starlette(routes=[Route("/call", call, methods=["POST"]), WebSocketRoute("/socket", socket)])

    @serve.deployment(max_ongoing_requests=50, num_replicas=2)
    @serve.ingress(app)
    class Entrance:
        def __init__(self, version: int, words: Any) -> None:
            self.version, self.words = version, words

    return Entrance.bind(version, Words.options(user_config=None).bind())
