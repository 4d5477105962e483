"""WebSockets that wait for a slot, or run in another process than the one that accepted them."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import websockets.exceptions
import websockets.sync.client
from fastapi import FastAPI, WebSocket

import skate
from skate import serve

from .conftest import Web
from .processes import counts, pid_of, replicas

Wait = Callable[[Callable[[], object]], None]
Client = websockets.sync.client.ClientConnection


def sockets(folder: Path | None = None, **options: Any) -> Any:
    """Return a deployment that takes one WebSocket at a time and echoes, from the process that it names."""
    app = FastAPI()

    @serve.deployment(max_ongoing_requests=1, **options)
    @serve.ingress(app)
    class Sockets:
        @app.websocket("/echo")
        async def echo(self, socket: WebSocket) -> None:
            await socket.accept(subprotocol=(socket.scope["subprotocols"] or [None])[0])
            await socket.send_text(str(os.getpid()))
            while (message := await socket.receive())["type"] != "websocket.disconnect":
                if message.get("text") == "close":
                    await socket.close(4321, "as you wish")
                    return
                if message.get("text") == "raise":
                    raise KeyError("the user's")
                if message.get("text") == "close and raise":
                    await socket.close(4322)
                    raise KeyError("after the end")
                await socket.send({**message, "type": "websocket.send"})
            assert folder is not None
            (folder / f"{message['code']}").touch()

        @app.websocket("/early")
        async def early(self, socket: WebSocket) -> None:
            raise KeyError("before the handshake was answered")

        @app.websocket("/denied")
        async def denied(self, socket: WebSocket) -> None:
            await socket.close()

        @app.get("/pid")
        async def pid(self) -> int:
            return os.getpid()

    return Sockets.bind()


def connect(web: Web, path: str = "/echo", **options: Any) -> Client:
    return websockets.sync.client.connect(web.address.replace("http", "ws") + path, **options)


@pytest.fixture
def elsewhere(web: Web, tmp_path: Path) -> Web:
    """No replica runs until there is a request: the controller accepts, and passes the messages on."""
    scaling = {"min_replicas": 0, "max_replicas": 1}
    serve.run(sockets(tmp_path, autoscaling_config=scaling))
    assert replicas("Sockets") == {}
    return web


def test_the_first_request_is_a_websocket(elsewhere: Web, tmp_path: Path, wait_until: Wait) -> None:
    with connect(elsewhere, subprotocols=["other", "first"]) as client:
        assert client.subprotocol == "other"
        (replica,) = replicas("Sockets").values()
        assert int(client.recv()) == pid_of(replica)
        for message in ("text", b"bytes", "", "x" * 500_000):
            client.send(message)
            assert client.recv() == message
        for number in range(500):
            client.send(str(number))
        assert [client.recv() for _ in range(500)] == [str(number) for number in range(500)]
        assert counts("Sockets")[0]["ongoing"] == 1
        client.close(4000)
    wait_until((tmp_path / "4000").exists)
    wait_until(lambda: counts("Sockets")[0]["ongoing"] == 0)


@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_how_it_ends(request: pytest.FixtureRequest, web: Web, tmp_path: Path, where: str) -> None:
    if where == "here":
        serve.run(sockets(tmp_path))
    else:
        request.getfixturevalue("elsewhere")
    for message, code, reason in (
        ("close", 4321, "as you wish"),
        ("close and raise", 4322, ""),
        ("raise", 1011, "Internal Server Error"),
    ):
        with connect(web) as client:
            client.recv()
            client.send(message)
            with pytest.raises(websockets.exceptions.ConnectionClosed):
                client.recv()
            assert (client.close_code, client.close_reason) == (code, reason)
    for path, status in (("/denied", 403), ("/early", 500)):
        with pytest.raises(websockets.exceptions.InvalidStatus) as info:
            connect(web, path)
        assert info.value.response.status_code == status
    assert web("/pid").status == 200


def test_a_replica_that_dies_elsewhere(elsewhere: Web) -> None:
    with connect(elsewhere) as client:
        os.kill(int(client.recv()), signal.SIGKILL)
        with pytest.raises(websockets.exceptions.ConnectionClosed):
            client.recv()
        assert client.close_code == 1012
    with connect(elsewhere) as client:
        client.send("again")
        assert [client.recv(), client.recv()][1] == "again"


def queued() -> int:
    (replica,) = replicas("Sockets").values()
    return int(
        skate.get(
            replica.__ray_call__.remote(lambda self: sum(p.router.queued for p in self._client.ports()))
        )
    )


def test_a_websocket_waits_for_a_slot(web: Web, tmp_path: Path, wait_until: Wait) -> None:
    serve.run(sockets(tmp_path))
    first = connect(web)
    with ThreadPoolExecutor() as threads:
        second = threads.submit(connect, web)
        wait_until(lambda: queued() == 1)
        assert web("/-/healthz").status == 200
        assert not second.done()
        first.close()
        with second.result() as client:
            client.send("here")
            assert [client.recv(), client.recv()][1] == "here"
            third = threads.submit(web, "/pid")
            wait_until(lambda: queued() == 1)
        assert third.result().status == 200


def test_a_client_that_goes_while_it_waits(web: Web, tmp_path: Path, wait_until: Wait) -> None:
    serve.run(sockets(tmp_path))
    with connect(web):
        impatient = socket.create_connection((web.host, web.port))
        impatient.sendall(
            b"GET /echo HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        wait_until(lambda: queued() == 1)
        impatient.close()
        wait_until(lambda: queued() == 0)
    assert web("/pid").status == 200


def test_a_full_queue_refuses_websockets(web: Web, tmp_path: Path, wait_until: Wait) -> None:
    serve.run(sockets(tmp_path, max_queued_requests=1))
    with ThreadPoolExecutor() as threads:
        with connect(web):
            waiting = threads.submit(connect, web)
            wait_until(lambda: queued() == 1)
            with pytest.raises(websockets.exceptions.InvalidStatus) as info:
                connect(web)
        waiting.result().close()
    assert info.value.response.status_code == 503
    assert "max_queued_requests=1" in info.value.response.body.decode()


def test_websockets_are_counted_and_logged(web: Web, tmp_path: Path, wait_until: Wait) -> None:
    serve.run(sockets(tmp_path), route_prefix="/ws", logging_config={"logs_dir": str(tmp_path)})
    for message in ("close", "raise"):
        with connect(web, "/ws/echo") as client:
            client.recv()
            client.send(message)
            with pytest.raises(websockets.exceptions.ConnectionClosed):
                client.recv()

    def requests(kind: str, code: int) -> bool:
        page = web("/-/metrics").body.decode()
        lines = [line for line in page.splitlines() if line.startswith(f"ray_serve_num_http_{kind}")]
        return any('method="WEBSOCKET"' in one and f'_code="{code}"' in one for one in lines)

    wait_until(lambda: requests("requests", 4321) and requests("error_requests", 1011))

    def logged(code: int) -> bool:
        lines = "".join(path.read_text() for path in tmp_path.glob("*.access.log"))
        return f"WEBSOCKET /ws/echo {code} " in lines

    wait_until(lambda: logged(4321) and logged(1011))
