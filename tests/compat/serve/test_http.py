"""Requests and answers."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import http.client
import signal
import uuid

import pytest

from .helpers import deployment, differs, lines, note, opened, until

ANSWERS = {
    "str": lambda: "ünï",
    "bytes": lambda: b"\x00\x01",
    "none": lambda: None,
    "int": lambda: 42,
    "bool": lambda: True,
    "list": lambda: [1, "a"],
    "tuple": lambda: (1, 2),
    "dict": lambda: {"a": 1, "b": [2]},
    "set": lambda: {3},
}


@dataclasses.dataclass
class Point:
    x: int
    y: int


@deployment()
class Echo:
    async def __call__(self, request):
        what = request.query_params.get("what")
        if what in ANSWERS:
            return ANSWERS[what]()
        if what == "array":
            import numpy as np

            return np.arange(3)
        if what == "point":
            return Point(1, 2)
        if what == "response":
            from starlette.responses import Response

            return Response(b"made", 418, {"x-mine": "1"}, "text/x-mine")
        if what == "stream":
            from starlette.responses import StreamingResponse

            return StreamingResponse(iter(["a", "b"]), media_type="text/plain")
        if what == "generator":
            return (part for part in ["a", "b"])
        if what == "error":
            raise KeyError("mine")
        return {
            "method": request.method,
            "path": request.url.path,
            "root": request.scope["root_path"],
            "query": dict(request.query_params),
            "body": (await request.body()).decode(),
            "mine": request.headers.get("x-mine"),
        }


@pytest.fixture(scope="module")
def echo(web, run_for_all):
    """The application under /echo."""
    run_for_all(Echo.bind(), name="echo", route_prefix="/echo")
    until(lambda: web("/echo").status == 200)

    def ask(what="", path="", **more):
        return web(f"/echo{path}" + (f"?what={what}" if what else ""), **more)

    return ask


def test_the_request_is_one_of_starlette(echo):
    found = echo(path="/a/b?n=1", body=b"text", method="PUT", x_mine="yes").json()
    assert found["method"] == "PUT"
    assert found["path"] == "/echo/a/b"
    assert found["root"] == "/echo"
    assert (found["query"], found["body"], found["mine"]) == ({"n": "1"}, "text", "yes")


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"])
def test_methods_are_not_restricted(echo, method):
    assert echo(method=method).status == 200


@pytest.mark.parametrize(
    ("what", "kind", "body"),
    [
        ("str", "text/plain; charset=utf-8", "ünï".encode()),
        ("bytes", "text/plain", b"\x00\x01"),
        ("none", "text/plain", b""),
        ("int", "application/json", b"42"),
        ("bool", "application/json", b"true"),
        ("list", "application/json", b'[1,"a"]'),
        ("tuple", "application/json", b"[1,2]"),
        ("dict", "application/json", b'{"a":1,"b":[2]}'),
        ("set", "application/json", b"[3]"),
        ("array", "application/json", b"[0,1,2]"),
        ("point", "application/json", b'{"x":1,"y":2}'),
    ],
)
def test_what_a_handler_returns_is_the_body(echo, what, kind, body):
    found = echo(what)
    assert (found.status, found.kind, found.body) == (200, kind, body)


def test_a_response_is_sent_as_it_is(echo):
    found = echo("response")
    assert (found.status, found.headers["x-mine"], found.text) == (418, "1", "made")
    assert found.kind.startswith("text/x-mine")


def test_a_streaming_response_streams(echo):
    found = echo("stream")
    assert (found.text, found.headers.get("content-length")) == ("ab", None)


@differs(on="ray", reason="The answer is empty. Here its items are sent as they come.")
def test_a_generator_streams(echo):
    assert echo("generator").text == "ab"


@differs(on="ray", reason="The answer comes in chunks, without its length.")
def test_plain_answers_have_a_length(echo):
    assert echo("int").headers["content-length"] == "2"


def test_an_exception_is_500_without_details(echo):
    found = echo("error")
    assert (found.status, found.text) == (500, "Internal Server Error")


def test_unknown_paths_are_404(echo, web):
    found = web("/nope")
    assert found.status == 404
    assert "/nope" in found.text


def test_health(web, echo):
    found = web("/-/healthz")
    assert (found.status, found.text) == (200, "success")


def test_routes(web, echo):
    assert web("/-/routes").json()["/echo"] == "echo"


def test_the_longest_prefix_wins(run, web):
    @deployment()
    class Name:
        def __init__(self, name):
            self.name = name

        def __call__(self, request):
            return self.name

    run(Name.bind("short"), name="short", route_prefix="/p")
    run(Name.bind("long"), name="long", route_prefix="/p/q")
    until(lambda: web("/p/q").text == "long")
    assert [web(path).text for path in ("/p", "/p/x", "/p/q/r", "/p/qq")] == [
        "short",
        "short",
        "long",
        "short",
    ]


def test_a_request_id_is_taken_over(echo):
    assert echo("int", x_request_id="mine-1").headers["x-request-id"] == "mine-1"


def test_a_request_id_is_made(echo):
    assert uuid.UUID(echo("int").headers["x-request-id"]).version == 4


def test_a_function_answers(run, web):
    @deployment()
    def hello(request):
        return f"hello {request.query_params['name']}"

    run(hello.bind(), name="function", route_prefix="/function")
    until(lambda: web("/function?name=a").status == 200)
    assert web("/function?name=you").text == "hello you"


def test_a_client_that_goes_cancels_its_request(run, web, tmp_path):
    import asyncio

    @deployment()
    class Slow:
        async def __call__(self, request):
            try:
                await opened(str(tmp_path))
            except asyncio.CancelledError:
                note(str(tmp_path), "cancelled")
                raise

    run(Slow.bind(), name="slow", route_prefix="/slow")
    until(lambda: web("/-/routes").json().get("/slow") == "slow")
    connection = web.connect()
    connection.request("GET", "/slow")
    until(lambda: lines(tmp_path) == ["started"])
    connection.close()
    until(lambda: lines(tmp_path) == ["started", "cancelled"])


def _full(run, web, tmp_path, **options):
    """Ask until one is refused: one runs, one waits at most."""

    @deployment(max_ongoing_requests=1, max_queued_requests=1, **options)
    class Full:
        async def __call__(self, request):
            await opened(str(tmp_path))
            return "done"

    run(Full.bind(), name="full", route_prefix="/full")
    until(lambda: web("/-/routes").json().get("/full") == "full")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        first = pool.submit(web, "/full")
        until(lambda: lines(tmp_path))
        others = [pool.submit(web, "/full") for _ in range(7)]
        until(lambda: sum(one.done() for one in others) >= 6)
        (tmp_path / "open").touch()
        assert first.result().status == 200
        answers = [one.result() for one in others]
    return next(one for one in answers if one.status != 200)


def test_a_full_queue_is_503(run, web, tmp_path):
    found = _full(run, web, tmp_path)
    assert found.status == 503
    assert found.text == "Request dropped due to backpressure (num_queued_requests=1, max_queued_requests=1)."


def test_a_full_queue_may_be_429(run, web, tmp_path):
    found = _full(run, web, tmp_path, backpressure_config={"status_code": 429, "retry_after_s": 1.5})
    assert (found.status, found.headers["retry-after"]) == (429, "2")


def test_a_request_that_takes_too_long_is_408(run, web, tmp_path):
    @deployment()
    class Slow:
        async def __call__(self, request):
            await opened(str(tmp_path))

    run(Slow.bind(), name="late", route_prefix="/late")
    until(lambda: web("/-/routes").json().get("/late") == "late")
    found = web("/late", x_request_timeout_seconds="0.5")
    assert found.status == 408
    assert "timed out" in found.text


def test_a_killed_replica_is_replaced(run, web):
    import os

    @deployment(num_replicas=2)
    class Pid:
        async def __call__(self, request):
            return os.getpid()

    run(Pid.bind(), name="pids", route_prefix="/pids")
    until(lambda: web("/pids").status == 200)
    pids = set()
    until(lambda: pids.add(web("/pids").json()) or len(pids) == 2)
    os.kill(min(pids), signal.SIGKILL)

    def replaced():
        try:
            found = web("/pids")
        except (OSError, http.client.HTTPException):
            return False  # what the killed one had accepted is lost
        return found.status == 200 and found.json() not in pids

    until(replaced, 60)
