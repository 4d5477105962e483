"""ASGI applications as entrances: FastAPI with methods of the class, Starlette, bare functions, WebSockets."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
import websockets.sync.client
from fastapi import APIRouter, Depends, FastAPI, HTTPException, WebSocket
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from skate import serve
from skate.serve.handle import DeploymentHandle

from .conftest import Web
from .overload import remaining_s


def fast() -> Any:
    """Return a deployment whose routes are methods of its class."""
    app = FastAPI()

    @app.get("/free")
    async def free() -> str:
        return "no self"

    @serve.deployment
    @serve.ingress(app)
    class Api:
        def __init__(self, factor: int, inner: DeploymentHandle | None = None) -> None:
            self.factor = factor
            self.inner = inner

        @app.get("/times/{number}")
        async def times(self, number: int, plus: int = 0) -> dict[str, int]:
            return {"result": self.factor * number + plus}

        @app.post("/plain", status_code=201)
        def plain(self, body: dict[str, int]) -> int:
            return self.factor * body["number"]

        @app.get("/missing")
        async def missing(self) -> None:
            raise HTTPException(404, "not here")

        @app.get("/error")
        async def error(self) -> None:
            raise KeyError("the user's")

        @app.get("/inner")
        async def of_inner(self) -> int:
            assert self.inner is not None
            return int(await self.inner.double.remote(self.factor))

        @app.websocket("/echo")
        async def echo(self, socket: WebSocket) -> None:
            await socket.accept()
            while (text := await socket.receive_text()) != "end":
                await socket.send_text(f"{self.factor} {text}")
            await socket.close()

        @app.websocket("/deadline")
        async def deadline(self, socket: WebSocket) -> None:
            await socket.accept()
            await socket.send_text(str(remaining_s()))
            await socket.close()

        def by_handle(self) -> int:
            return self.factor

    return Api


@serve.deployment
class Inner:
    def double(self, number: int) -> int:
        return 2 * number


def test_fastapi(web: Web) -> None:
    handle = serve.run(fast().bind(3, Inner.bind()), route_prefix="/api")
    assert web("/api/times/4?plus=1").json() == {"result": 13}
    assert "x-request-id" in web("/api/times/4").headers
    assert web("/api/free").json() == "no self"
    assert web("/api/times/x").status == 422
    made = web("/api/plain", b'{"number": 5}', content_type="application/json")
    assert (made.status, made.json()) == (201, 15)
    assert (web("/api/missing").status, web("/api/missing").json()) == (404, {"detail": "not here"})
    assert web("/api/nothing").json() == {"detail": "Not Found"}
    assert web("/api/error").status == 500
    assert web("/api/inner").json() == 6
    assert "/times/{number}" in web("/api/openapi.json").json()["paths"]
    assert web("/api/docs").status == 200
    assert handle.by_handle.remote().result() == 3


def test_websockets(web: Web) -> None:
    serve.run(fast().bind(2), route_prefix="/api")
    address = web.address.replace("http", "ws") + "/api/echo"
    with websockets.sync.client.connect(address) as client:
        for text in ("a", "b"):
            client.send(text)
            assert client.recv() == f"2 {text}"
        client.send("end")


def test_a_websocket_has_no_deadline(web: Web) -> None:
    """It lives on, and what it calls by handles would be refused one day."""
    serve.run(fast().bind(2), route_prefix="/api")
    address = web.address.replace("http", "ws") + "/api/deadline"
    headers = {"x-request-timeout-seconds": "60"}
    with websockets.sync.client.connect(address, additional_headers=headers) as client:
        assert client.recv() == "0.0"


def run_starlette(home: Any, lifespan: Any) -> None:
    def make() -> Starlette:
        return Starlette(routes=[Route("/home", home)], lifespan=lifespan)

    @serve.deployment
    @serve.ingress(make)
    class Web:
        pass

    serve.run(Web.bind())


def test_starlette_and_its_lifespan(web: Web) -> None:
    from contextlib import asynccontextmanager

    @asynccontextmanager
    async def lifespan(app: Any) -> Any:
        app.state.word = "ready"
        yield

    async def home(request: Any) -> PlainTextResponse:
        return PlainTextResponse(request.app.state.word)

    run_starlette(home, lifespan)
    assert web("/home").text == "ready"


def test_requests_have_the_state_of_the_lifespan(web: Web) -> None:
    """What the lifespan yields is there for all requests, and each has a copy."""
    from contextlib import asynccontextmanager

    @asynccontextmanager
    async def lifespan(app: Any) -> Any:
        yield {"word": "ready"}

    async def home(request: Any) -> PlainTextResponse:
        found = request.state.word
        request.state.word = "changed by a request"
        return PlainTextResponse(found)

    run_starlette(home, lifespan)
    assert [web("/home").text, web("/home").text] == ["ready", "ready"]


def test_any_asgi_application(web: Web) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise AssertionError("it knows no lifespan")
        body = json.dumps({"path": scope["path"], "root": scope["root_path"]}).encode()
        await send({"type": "http.response.start", "status": 202, "headers": []})
        await send({"type": "http.response.body", "body": body})
        await asyncio.sleep(0)

    @serve.deployment
    @serve.ingress(app)
    class Bare:
        pass

    serve.run(Bare.bind(), route_prefix="/bare")
    found = web("/bare/x")
    assert (found.status, found.json()) == (202, {"path": "/bare/x", "root": "/bare"})


def test_wrong_uses() -> None:
    with pytest.raises(ValueError, match="must be used with a class"):
        serve.ingress(FastAPI())(lambda: None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="__call__"):

        @serve.ingress(FastAPI())
        class Both:
            def __call__(self) -> None: ...


def test_routers_that_are_included(web: Web) -> None:
    app = FastAPI()
    router, inner = APIRouter(), APIRouter()

    @inner.get("/plain")
    async def plain() -> str:
        return "of no class"

    class Base:
        name = "base"

        @router.get("/name")
        def of_router(self) -> str:
            return self.name

    router.include_router(inner, prefix="/inner")
    app.include_router(router, prefix="/v1")

    @serve.deployment
    @serve.ingress(app)
    class Api(Base):
        name = "api"

    serve.run(Api.bind(), route_prefix="/api")
    assert [web(f"/api/v1/{one}").json() for one in ("name", "inner/plain")] == ["api", "of no class"]


def inner_handle() -> DeploymentHandle:
    return serve.get_deployment_handle("Inner", app_name="classless")


def test_an_application_without_a_class(web: Web) -> None:
    def build() -> FastAPI:
        app = FastAPI()

        @app.get("/double")
        async def double(number: int, handle: Any = Depends(inner_handle)) -> int:  # noqa: B008
            return int(await handle.double.remote(number))

        return app

    serve.run(serve.deployment(serve.ingress(build)()).bind(Inner.bind()), name="classless")
    assert web("/double?number=4").json() == 8
