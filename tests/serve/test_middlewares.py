"""Middlewares around the port: each sees every request and every answer, once, in the process that answers."""

from __future__ import annotations

import asyncio
import http.client
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import websockets.sync.client
from fastapi import FastAPI, WebSocket
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse

import skate
from skate import serve
from skate.serve._client.client import controller
from skate.serve._controller.port import Port
from skate.serve._http.middlewares import layered
from skate.serve._instance import announce, http_address
from skate.serve._messages import Routes
from skate.serve._targets import HTTPTarget, Middlewares
from skate.serve.config import ValidationError

from .conftest import Answer, Web, session
from .processes import counts, kill_controller, pid_of

KEY = "key-of-the-port"
PAGE = "http://page.example"

WaitUntil = Callable[[Callable[[], object]], None]


class Tag:
    """Adds its name to a header of each answer, and the process that it is in to another."""

    def __init__(self, app: Any, name: str) -> None:
        self.app = app
        self.name = name.encode()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def tagged(message: Any) -> None:
            if message["type"] in ("http.response.start", "websocket.accept"):
                headers = dict(message.get("headers", ()))
                before = headers.get(b"x-tags", b"")
                headers[b"x-tags"] = before + b" " + self.name if before else self.name
                headers[b"x-pid"] = b"%d" % os.getpid()
                message = {**message, "headers": [*headers.items()]}
            await send(message)

        await self.app(scope, receive, tagged)


class Base(BaseHTTPMiddleware):
    """Runs what is behind it in a task of its own, as many middlewares do."""

    async def dispatch(self, request: Request, call_next: Any) -> Any:
        if request.url.path.endswith("/raise"):
            raise ValueError("the middleware's")
        answer = await call_next(request)
        answer.headers["x-base"] = request.url.path
        return answer


def closing(app: Any) -> Any:
    """Refuse a path, before routes and keys are looked at."""

    async def closed(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/closed":
            await PlainTextResponse("closed", 418)(scope, receive, send)
        else:
            await app(scope, receive, send)

    return closed


LAYERS = [
    Middleware(Tag, "inner"),
    Middleware(Base),
    closing,
    Middleware(CORSMiddleware, allow_origins=[PAGE], allow_headers=["authorization"]),
    Middleware(Tag, name="outer"),
]


@pytest.fixture(scope="module")
def layers() -> Iterator[Web]:
    """A session whose port has all of them, and an API key."""
    with session(middlewares=LAYERS, api_keys=[KEY]) as address:
        yield Web(address)


@pytest.fixture
def web(layers: Web) -> Iterator[Callable[..., Answer]]:
    """Requests with the key, and no application is left afterwards."""
    yield lambda path="/", *args, **headers: layers(path, *args, **{"x-api-key": KEY, **headers})
    for name in serve.status().applications:
        serve.delete(name)


@serve.deployment
class Model:
    """Answers in each of the ways."""

    def __init__(self) -> None:
        self.cancelled = 0

    async def __call__(self, request: Request) -> Any:
        kind = request.query_params.get("kind")
        if kind == "pid":
            return str(os.getpid())
        if kind == "response":
            return PlainTextResponse("made", 201)
        if kind == "stream":
            return self.items()
        if kind == "body":
            return (await request.body()).decode()
        if kind == "error":
            raise KeyError("the user's")
        if kind == "count":
            return str(self.cancelled)
        return await self.hold()

    async def items(self) -> AsyncIterator[str]:
        for number in range(3):
            yield f"{number} "

    async def hold(self) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


def is_tagged(found: Answer) -> bool:
    return found.headers["x-tags"] == "inner outer" and "x-base" in found.headers


def test_every_answer_of_an_application(web: Callable[..., Answer]) -> None:
    serve.run(Model.bind())
    found = web("/?kind=pid")
    assert (found.status, found.headers["x-pid"], is_tagged(found)) == (200, found.text, True)
    assert "x-request-id" in found.headers
    assert "content-length" in found.headers
    for kind, status, text in (
        ("response", 201, "made"),
        ("stream", 200, "0 1 2 "),
        ("error", 500, "Internal Server Error"),
    ):
        found = web(f"/?kind={kind}")
        assert (found.status, found.text, is_tagged(found)) == (status, text, True)
    found = web("/?kind=body", b"x" * 300_000)
    assert (len(found.body), is_tagged(found)) == (300_000, True)
    found = web("/?kind=pid", None, "HEAD")
    assert (found.status, found.body, is_tagged(found)) == (200, b"", True)
    found = web("/?kind=wait", x_request_timeout_seconds="0.2")
    assert (found.status, is_tagged(found)) == (408, True)


def test_every_answer_of_serves_own(web: Callable[..., Answer], layers: Web) -> None:
    serve.run(Model.bind(), route_prefix="/model")
    for path in ("/-/healthz", "/-/routes", "/-/metrics"):
        found = web(path)
        assert (found.status, is_tagged(found)) == (200, True)
    found = web("/nowhere")
    assert (found.status, is_tagged(found)) == (404, True)
    found = layers("/model")
    assert (found.status, found.headers["www-authenticate"], is_tagged(found)) == (
        401,
        'Bearer realm="skate.serve"',
        True,
    )


def test_a_middleware_answers_before_routes_and_keys(web: Callable[..., Answer], layers: Web) -> None:
    found = layers("/closed")
    assert (found.status, found.text, found.headers["x-tags"]) == (418, "closed", "outer")
    preflight = {"origin": PAGE, "access-control-request-method": "GET"}
    found = layers("/", None, "OPTIONS", **preflight, access_control_request_headers="authorization")
    assert (found.status, found.headers["access-control-allow-origin"]) == (200, PAGE)
    assert layers("/", origin=PAGE).headers["access-control-allow-origin"] == PAGE
    assert layers("/", origin=PAGE).status == 401


def test_a_middleware_that_fails(web: Callable[..., Answer]) -> None:
    serve.run(Model.bind())
    found = web("/raise")
    assert (found.status, found.text) == (500, "Internal Server Error")
    assert web("/?kind=pid").status == 200


def test_a_client_that_hangs_up_cancels_behind_them(
    web: Callable[..., Answer], layers: Web, wait_until: WaitUntil
) -> None:
    serve.run(Model.bind())
    connection = http.client.HTTPConnection(layers.host, layers.port)
    connection.request("GET", "/?kind=wait", headers={"x-api-key": KEY})
    wait_until(lambda: counts("Model")[0]["ongoing"] == 1)
    connection.close()
    wait_until(lambda: web("/?kind=count").text == "1")


def test_a_body_that_was_not_sent_is_not_awaited(web: Callable[..., Answer], layers: Web) -> None:
    head = f"POST /nowhere HTTP/1.1\r\nhost: x\r\nx-api-key: {KEY}\r\nexpect: 100-continue\r\ncontent-length: 9\r\n\r\n"
    with socket.create_connection((layers.host, layers.port), 60) as client:
        client.sendall(head.encode())
        answer = b"".join(iter(lambda: client.recv(65536), b""))  # until the end of the connection
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b"connection: close" in answer.lower()


def test_a_request_that_another_replica_runs(web: Callable[..., Answer], wait_until: WaitUntil) -> None:
    handle = serve.run(Model.options(num_replicas=2, max_ongoing_requests=1).bind())
    held = handle.hold.remote()
    answers = []

    def is_relayed() -> bool:
        answers.append(web("/?kind=pid"))
        return answers[-1].text != answers[-1].headers["x-pid"]

    wait_until(is_relayed)
    assert all(is_tagged(one) for one in answers)
    held.cancel()


def test_a_connection_that_changes_its_process(web: Callable[..., Answer], layers: Web) -> None:
    serve.run(Model.bind(), name="a", route_prefix="/a")
    serve.run(Model.bind(), name="b", route_prefix="/b")
    connection = http.client.HTTPConnection(layers.host, layers.port, timeout=60)
    pids = []
    for path in ("/a", "/b", "/a"):
        connection.request("GET", f"{path}?kind=pid", headers={"x-api-key": KEY})
        answer = connection.getresponse()
        pids.append(answer.read().decode())
        assert (answer.headers["x-pid"], answer.headers["x-tags"]) == (pids[-1], "inner outer")
    connection.close()
    assert pids[0] == pids[2] != pids[1]


def test_websockets_pass_them(web: Callable[..., Answer], layers: Web) -> None:
    app = FastAPI()

    @serve.deployment
    @serve.ingress(app)
    class Echo:
        @app.websocket("/")
        async def echo(self, socket: WebSocket) -> None:
            await socket.accept()
            await socket.send_text(await socket.receive_text())

        @app.get("/plain")
        async def plain(self) -> str:
            return "plain"

    serve.run(Echo.bind())
    found = web("/plain")
    assert (found.json(), is_tagged(found)) == ("plain", True)
    address = layers.address.replace("http", "ws")
    with websockets.sync.client.connect(address, additional_headers={"x-api-key": KEY}) as client:
        client.send("over it")
        assert client.recv() == "over it"
        assert client.response is not None
        assert client.response.headers["x-tags"] == "inner outer"


def test_without_an_application_and_after_the_controllers_death(web: Callable[..., Answer]) -> None:
    found = web("/")
    assert (found.status, found.headers["x-pid"], is_tagged(found)) == (
        404,
        str(pid_of(controller())),
        True,
    )
    kill_controller()
    assert serve.status().applications == {}  # the next one has the port again
    found = web("/")
    assert (found.status, found.headers["x-pid"], is_tagged(found)) == (
        404,
        str(pid_of(controller())),
        True,
    )
    serve.run(Model.bind())
    assert is_tagged(web("/?kind=pid"))
    serve.run(Model.options(ray_actor_options={"num_cpus": 0.1}).bind())
    assert is_tagged(web("/?kind=pid"))


# ---------------------------------------------------------------------- options


def test_without_any_nothing_is_around_the_port() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None: ...

    assert layered(app, None) is app


def broken(app: Any) -> Any:
    raise KeyError("no such setting")


def test_one_that_cannot_be_made_is_refused_at_the_start() -> None:
    skate.shutdown()
    skate.init(num_cpus=1, object_store_memory=128 << 20)
    with pytest.raises(RuntimeError, match="a middleware of http_options cannot be made: KeyError: 'no such"):
        serve.start(http_options={"port": 0, "middlewares": [broken]})
    assert http_address() is None
    serve.shutdown()
    skate.shutdown()


def test_a_controller_that_cannot_make_them_any_more_answers_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its next life may find a module gone that the first had; the replicas have the port open."""

    async def answer() -> None:
        client: Any = SimpleNamespace(loop=asyncio.get_running_loop())
        port = Port(str(tmp_path), client, lambda _: None)
        await port.reopen(HTTPTarget(port=0, middlewares=Middlewares(b"no pickle", ())), [])
        port.answer(Routes(1), has_doors=False, is_awaited=False)
        port.close()

    asyncio.run(answer())
    assert "the controller cannot answer HTTP until a replica does" in caplog.text


@pytest.mark.parametrize("given", ["text", ["module:function"], [None], [3], CORSMiddleware, {"a": closing}])
def test_what_is_no_list_of_middlewares_is_refused(given: Any) -> None:
    with pytest.raises(ValidationError, match="middlewares takes a list of starlette's Middleware objects"):
        serve.HTTPOptions(middlewares=given)


def test_the_root_url_is_the_one_that_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    skate.shutdown()
    skate.init(num_cpus=1, object_store_memory=128 << 20)
    serve.start(http_options={"port": 0, "root_url": "https://models.example/"})
    announce({"app": "/app"}, sys.stdout)
    assert "at https://models.example/app\n" in capsys.readouterr().out
    serve.shutdown()
    skate.shutdown()
    with pytest.raises(ValidationError, match="root_url takes a URL"):
        serve.HTTPOptions(root_url=3)  # type: ignore[arg-type]
