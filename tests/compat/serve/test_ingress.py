"""``serve.ingress``."""

from __future__ import annotations

import pytest
from fastapi import FastAPI, HTTPException
from ray import serve
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from .helpers import deployment, until

api = FastAPI()


@deployment()
@serve.ingress(api)
class Api:
    def __init__(self, factor):
        self.factor = factor

    @api.get("/times/{number}")
    async def times(self, number: int, plus: int = 0):
        return {"result": self.factor * number + plus}

    @api.post("/posted", status_code=201)
    def posted(self, body: dict[str, int]):
        return self.factor * body["number"]

    @api.get("/missing")
    async def missing(self):
        raise HTTPException(404, "not here")

    @api.get("/error")
    async def error(self):
        raise KeyError("mine")

    @api.get("/events")
    async def events(self):
        from starlette.responses import StreamingResponse

        return StreamingResponse((f"data: {n}\n\n" for n in range(3)), media_type="text/event-stream")

    def by_handle(self, number):
        return self.factor * number


@pytest.fixture(scope="module")
def application(web, run_for_all):
    handle = run_for_all(Api.bind(3), name="api", route_prefix="/api")
    until(lambda: web("/api/times/1").status == 200)
    return handle


def test_methods_are_routes(application, web):
    assert web("/api/times/4?plus=1").json() == {"result": 13}


def test_bodies_and_statuses(application, web):
    found = web("/api/posted", b'{"number": 2}', content_type="application/json")
    assert (found.status, found.json()) == (201, 6)


def test_validation(application, web):
    found = web("/api/times/x")
    assert found.status == 422
    assert found.json()["detail"][0]["loc"] == ["path", "number"]


def test_errors_of_fastapi(application, web):
    assert (web("/api/missing").status, web("/api/missing").json()) == (404, {"detail": "not here"})
    assert web("/api/nothing").json() == {"detail": "Not Found"}


def test_exceptions_are_500(application, web):
    assert web("/api/error").status == 500


def test_documents_are_under_the_prefix(application, web):
    assert web("/api/docs").status == 200
    assert "/times/{number}" in web("/api/openapi.json").json()["paths"]


def test_server_sent_events(application, web):
    found = web("/api/events")
    assert found.kind.startswith("text/event-stream")
    assert found.text == "data: 0\n\ndata: 1\n\ndata: 2\n\n"


def test_methods_are_called_by_handles(application):
    assert application.by_handle.remote(2).result() == 6


def test_an_application_of_starlette(run, web):
    async def where(request):
        return PlainTextResponse(request.scope["root_path"], headers={"x-bare": "1"})

    @deployment()
    @serve.ingress(Starlette(routes=[Route("/x", where)]))
    class Bare:
        pass

    run(Bare.bind(), name="bare", route_prefix="/bare")
    until(lambda: web("/bare/x").status == 200)
    assert (web("/bare/x").text, web("/bare/x").headers["x-bare"]) == ("/bare", "1")


def test_a_function_that_builds_the_application(run, web):
    def build():
        app = FastAPI()

        @app.get("/x")
        async def x():
            return "built"

        return app

    run(deployment(name="Built")(serve.ingress(build)(type("Built", (), {}))).bind(), "built", "/built")
    until(lambda: web("/built/x").status == 200)
    assert web("/built/x").json() == "built"


def test_a_class_that_is_called_is_refused():
    with pytest.raises(ValueError):

        @serve.ingress(FastAPI())
        class Called:
            def __call__(self):
                pass
