"""How WebSockets end: with a close code where their handler raises, with a status where there is no room."""

from __future__ import annotations

from typing import Any

import pytest
import websockets.sync.client
from fastapi import FastAPI, WebSocket
from websockets.exceptions import ConnectionClosedError, InvalidStatus

from skate import serve

from .conftest import Web


def failing() -> Any:
    app = FastAPI()

    @serve.deployment(max_ongoing_requests=1)
    @serve.ingress(app)
    class Failing:
        @app.websocket("/late")
        async def late(self, socket: WebSocket) -> None:
            await socket.accept()
            await socket.receive_text()
            raise ValueError("a mistake of the handler")

        @app.websocket("/early")
        async def early(self, socket: WebSocket) -> None:
            raise ValueError("a mistake before the handshake")

        @app.websocket("/closed")
        async def closed(self, socket: WebSocket) -> None:
            await socket.accept()
            await socket.close(4001, "enough")
            raise ValueError("a mistake after the end")

    return Failing.bind()


def address_of(web: Web, path: str) -> str:
    return web.address.replace("http", "ws") + path


def test_a_handler_that_raises(web: Web) -> None:
    """Its client is told that the server is to blame, rather than that the network broke."""
    serve.run(failing())
    with websockets.sync.client.connect(address_of(web, "/late")) as client:
        client.send("a")
        with pytest.raises(ConnectionClosedError) as caught:
            client.recv()
    assert caught.value.rcvd is not None and caught.value.rcvd.code == 1011
    with (
        pytest.raises(InvalidStatus) as refused,
        websockets.sync.client.connect(address_of(web, "/early")),
    ):
        pass
    assert refused.value.response.status_code == 500
    with websockets.sync.client.connect(address_of(web, "/closed")) as client:
        with pytest.raises(ConnectionClosedError) as ended:
            client.recv()
    assert ended.value.rcvd is not None and ended.value.rcvd.code == 4001


def test_without_a_free_slot_the_handshake_says_so(web: Web) -> None:
    """A client can tell it from a refusal that is for good, and when to come back."""
    serve.run(failing())
    with (
        websockets.sync.client.connect(address_of(web, "/late")),
        pytest.raises(InvalidStatus) as refused,
        websockets.sync.client.connect(address_of(web, "/late")),
    ):
        pass
    answer = refused.value.response
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert b"max_ongoing_requests" in answer.body
