"""An application for clients that stay: WebSockets, server-sent events, gRPC; and these clients. See ``chaos``."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import grpc
import websockets.asyncio.client
from serve.grpc_service import Text, WordsStub
from starlette.applications import Starlette
from starlette.responses import StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocketDisconnect
from websockets.exceptions import InvalidStatus, WebSocketException

from skate import serve

from .chaos import _FORGOTTEN_S, Broken, Client, Connection, Wrong

#: Messages, or events, of each that stays.
COUNT = 10
#: What lies between two events (seconds), so that some are under way whenever something happens.
_EVENT_S = 0.005
APPLICATION = "live"
#: Of WebSockets: a replica may stand still for a while.
LIMITS: dict[str, Any] = {"open_timeout": None, "close_timeout": None, "ping_interval": None}


async def _socket(socket: Any) -> None:
    await socket.accept()
    try:
        while True:
            await socket.send_text(await socket.receive_text())
    except WebSocketDisconnect:
        pass


async def _events(request: Any) -> Any:
    return StreamingResponse(_pieces(request.query_params["token"]), media_type="text/event-stream")


async def _pieces(token: str) -> AsyncIterator[str]:
    for number in range(COUNT):
        yield event(token, number)
        await asyncio.sleep(_EVENT_S)


def event(token: str, number: int) -> str:
    return f"data: {token}/{number}\n\n"


@serve.deployment(max_ongoing_requests=20, num_replicas=2, health_check_period_s=0.2)
@serve.ingress(Starlette(routes=[Route("/events", _events), WebSocketRoute("/socket", _socket)]))
class Live:
    """Answers all of them with what they say."""

    def __init__(self, version: int) -> None:
        self.version = version

    async def Upper(self, text: Any) -> Any:
        return Text(text=text.text.upper())

    async def Split(self, text: Any) -> Any:
        for number in range(COUNT):
            yield Text(text=text.text, number=number)
            await asyncio.sleep(_EVENT_S)

    async def Echo(self, texts: Any) -> Any:
        async for text in texts:
            yield text


class LiveClient(Client):
    """A client of that application."""

    def __init__(self, chaos: Any, kind: str, seed: int) -> None:
        super().__init__(chaos, kind, seed)
        self._paths = ["/live"]

    def token(self) -> str:
        return f"{self.name}-{next(self._numbers)}"

    def events(self, connection: Connection) -> None:
        self._paths = ["/live/events"]
        token, head = self.head("GET")
        connection.send(head)
        status, body = connection.answer()
        wanted = "".join(event(token, number) for number in range(COUNT)).encode()
        if status != 200:
            raise Broken(f"status {status}: {body[:200]!r}")
        if body != wanted:
            raise Wrong(f"{body!r} for {wanted!r}")
        self.answers += 1


class SocketClient(LiveClient):
    """It speaks WebSocket. On a loop: with a thread that reads while another one writes, Python before 3.14 loses
    bytes of TLS."""

    def connect(self) -> Any:
        return None

    def socket(self, _: None) -> None:
        try:
            asyncio.run(asyncio.wait_for(self._talk(), _FORGOTTEN_S))
        except InvalidStatus as error:
            if (
                error.response.status_code != 403
            ):  # it waits for no slot, and where TLS is, for no other process
                raise Broken(repr(error)) from error
            self.chaos.statuses[403] += 1
        except (WebSocketException, EOFError, TimeoutError, asyncio.TimeoutError) as error:
            raise Broken(repr(error)) from error
        else:
            self.answers += 1

    async def _talk(self) -> None:
        host, port = self.chaos.address
        address = f"{'wss' if self.chaos.tls else 'ws'}://{host}:{port}/live/socket"
        token = self.token()
        async with websockets.asyncio.client.connect(
            address, ssl=self.chaos.tls, proxy=None, **LIMITS
        ) as client:
            for number in range(COUNT):
                await client.send(f"{token}/{number}")
                if (found := await client.recv()) != f"{token}/{number}":
                    raise Wrong(f"{found!r} for {token}/{number}")


class RPCClient(LiveClient):
    """It speaks gRPC, over a channel that it keeps."""

    def __init__(self, chaos: Any, kind: str, seed: int) -> None:
        super().__init__(chaos, kind, seed)
        self._metadata = [("application", APPLICATION)]
        self._stub: Any = None

    def run(self) -> None:
        (address,) = (one for one in serve.status().proxies if one.startswith("grpc://"))
        with grpc.insecure_channel(address.removeprefix("grpc://")) as channel:
            self._stub = WordsStub(channel)
            super().run()

    def connect(self) -> Any:
        return None

    def rpc(self, _: None) -> None:
        token = self.token()
        options = {"metadata": self._metadata, "timeout": _FORGOTTEN_S, "wait_for_ready": True}
        kind = self.random.choice(["Upper", "Split", "Echo"])
        try:
            if kind == "Upper":
                found: object = self._stub.Upper(Text(text=token), **options).text
                wanted: object = token.upper()
            else:
                sent = [Text(text=token, number=number) for number in range(COUNT)]
                answers = self._stub.Split(sent[0], **options) if kind == "Split" else self._stub.Echo(
                    iter(sent), **options
                )  # fmt: skip
                found = [(one.text, one.number) for one in answers]
                wanted = [(token, number) for number in range(COUNT)]
        except grpc.RpcError as error:
            raise Broken(f"{kind}: {error.code()} {error.details()}") from error
        if found != wanted:
            raise Wrong(f"{kind}: {found!r} for {wanted!r}")
        self.answers += 1


def any_version() -> Any:
    return Live.bind(random.random())
