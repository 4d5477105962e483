"""HTTP: what handlers get, how their values answer, errors, several applications on one port."""

from __future__ import annotations

import asyncio
import http.client
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse

from skate import serve

from . import processes
from .conftest import Web


@serve.deployment
class Values:
    """Returns what the path names."""

    def __init__(self) -> None:
        import numpy as np

        self.values: dict[str, Any] = {
            "text": "zwölf", "bytes": b"\x00\x01", "none": None, "dict": {"a": [1, 2]}, "list": [1], "number": 3,
            "true": True, "tuple": (1, "b"), "array": np.arange(3), "set": {5},
        }  # fmt: skip

    async def __call__(self, request: Request) -> Any:
        name = request.url.path.rpartition("/")[2]
        if name == "response":
            return PlainTextResponse("made", status_code=201, headers={"x-own": "1"})
        if name == "stream":
            return StreamingResponse(iter(["a", "b"]), media_type="text/event-stream")
        if name == "generator":
            return (f"{number} " for number in range(3))
        if name == "raise":
            raise KeyError("the user's")
        if name == "unknown":
            return object()
        if name == "echo":
            return {
                "method": request.method, "query": dict(request.query_params), "body": (await request.body()).decode(),
                "header": request.headers.get("x-mine"),
            }  # fmt: skip
        return self.values[name]


def test_values_and_their_content_types(web: Web) -> None:
    serve.run(Values.bind())
    found = {
        name: web(f"/{name}") for name in ("text", "bytes", "none", "dict", "list", "number", "true", "tuple")
    }
    assert {one.status for one in found.values()} == {200}
    assert found["text"].text == "zwölf"
    assert found["text"].headers["content-type"] == "text/plain; charset=utf-8"
    assert found["bytes"].body == b"\x00\x01"
    assert found["bytes"].headers["content-type"] == "text/plain"
    assert found["none"].body == b""
    assert found["dict"].text == '{"a":[1,2]}'
    assert found["dict"].headers["content-type"] == "application/json"
    assert [found[name].json() for name in ("list", "number", "true", "tuple")] == [[1], 3, True, [1, "b"]]
    assert web("/array").json() == [0, 1, 2]
    assert web("/set").json() == [5]


@serve.deployment
class Takes:
    async def __call__(self) -> str:
        return "nothing"


@serve.deployment
def takes_anything(*args: Any) -> int:
    return len(args)


def test_handlers_without_a_parameter_get_no_request(web: Web) -> None:
    serve.run(Takes.bind())
    assert (web().status, web().text) == (200, "nothing")
    serve.run(takes_anything.bind(), name="anything", route_prefix="/anything")
    assert web("/anything").json() == 1


def test_responses_streams_and_generators(web: Web) -> None:
    serve.run(Values.bind())
    made = web("/response")
    assert (made.status, made.text, made.headers["x-own"]) == (201, "made", "1")
    assert "x-request-id" in made.headers
    streamed = web("/stream")
    assert streamed.text == "ab"
    assert streamed.headers["content-type"].startswith("text/event-stream")
    assert web("/generator").text == "0 1 2 "


def test_requests_arrive_as_they_were_sent(web: Web) -> None:
    serve.run(Values.bind())
    found = web("/echo?a=1&b=c", b"some bytes", "PUT", x_mine="2").json()
    assert found == {"method": "PUT", "query": {"a": "1", "b": "c"}, "body": "some bytes", "header": "2"}
    large = bytes(3_000_000).replace(b"\0", b"x")
    assert web("/echo", large).json()["body"] == large.decode()
    assert web("/text", method="HEAD").body == b""


def test_errors_are_500_and_name_the_request(web: Web) -> None:
    serve.run(Values.bind())
    found = web("/raise", x_request_id="mine")
    assert (found.status, found.text, found.headers["x-request-id"]) == (500, "Internal Server Error", "mine")
    assert web("/unknown").status == 500
    assert web("/text").status == 200


def test_errors_of_other_processes_show_clients_no_traceback(web: Web) -> None:
    """The entrance asks a deployment, and that one a third, which is not there."""

    @serve.deployment
    class Middle:
        async def __call__(self) -> Any:
            return await serve.get_deployment_handle("Missing", "default", _check_exists=False).remote()

    @serve.deployment
    class Front:
        def __init__(self, middle: Any) -> None:
            self.middle = middle

        async def __call__(self, request: Any) -> Any:
            return await self.middle.remote()

    serve.run(Front.bind(Middle.bind()))
    answer = web("/")
    assert answer.status == 503
    assert answer.text.startswith("Deployment(name='Missing', app='default') is unavailable because")
    assert "Traceback" not in answer.text


def test_own_routes(web: Web) -> None:
    assert web("/nothing").status == 404
    assert web("/-/healthz").text == "success"
    assert web("/-/routes").json() == {}
    serve.run(Values.bind(), name="values", route_prefix="/v")
    assert web("/-/routes").json() == {"/v": "values"}
    assert web("/-/healthz").text == "success"
    missing = web("/vv/text")
    assert (missing.status, missing.text.partition(".")[0]) == (404, "Path '/vv/text' not found")
    assert web("/v/text").status == 200


@serve.deployment
def name_of(request: Request) -> str:
    """A plain function: runs in a thread."""
    return f"{request.scope['root_path']} {request.url.path} {serve.get_replica_context().app_name}"


def test_several_applications_on_one_port(web: Web) -> None:
    serve.run(name_of.bind(), name="root")
    serve.run(name_of.bind(), name="a", route_prefix="/a")
    serve.run(name_of.bind(), name="ab", route_prefix="/a/b")
    # One connection: it is passed on between the applications' processes.
    connection = http.client.HTTPConnection(web.host, web.port, timeout=60)
    found = []
    for path in ["/", "/a", "/a/b/c", "/ab", "/a/x", "/a/b"] * 3:
        connection.request("GET", path)
        found.append(connection.getresponse().read().decode().split(" "))
    connection.close()
    assert [one[2] for one in found] == ["root", "a", "ab", "root", "a", "ab"] * 3
    assert found[2][:2] == ["/a/b", "/a/b/c"]
    serve.delete("a")
    assert web("/a").text.split(" ")[2] == "root"


@serve.deployment
class Measures:
    """Answers with its application and the size of the body, as a stream if it is asked to."""

    async def __call__(self, request: Request) -> Any:
        name, size = serve.get_replica_context().app_name, len(await request.body())
        if request.url.path.endswith("/raise"):
            raise KeyError("the user's")
        if request.url.path.endswith("/stream"):
            return StreamingResponse(f"{name} {size} {number};" for number in range(3))
        return f"{name} {size}"


def test_what_cannot_be_passed_on_is_relayed(web: Web) -> None:
    """Of a connection that has sent much, or half a line, the request goes to the other application by a call."""
    for name in ("a", "b"):
        serve.run(Measures.bind(), name=name, route_prefix=f"/{name}")
    large = bytes(1_000_000)
    for _ in range(4):
        for name in ("a", "b"):
            assert web(f"/{name}", large).text == f"{name} 1000000"
            assert web(f"/{name}/stream", large).text == "".join(f"{name} 1000000 {n};" for n in range(3))
            assert web(f"/{name}/raise", large).status == 500
            with socket.create_connection((web.host, web.port)) as client:
                client.sendall(b"GE")
                while counts("Measures", name)["ongoing"]:
                    pass
                client.sendall(f"T /{name} HTTP/1.0\r\n\r\n".encode())
                received = b""
                while part := client.recv(65536):
                    received += part
                assert received.endswith(f"{name} 0".encode())


def test_a_prefix_belongs_to_one_application(web: Web) -> None:
    serve.run(name_of.bind(), name="one", route_prefix="/x")
    with pytest.raises(
        serve.exceptions.RayServeException, match="Prefix /x is being used by application 'one'"
    ):
        serve.run(name_of.bind(), name="two", route_prefix="/x")
    for wrong in ("x", "/x/", "/{x}", "/-/x"):
        with pytest.raises(ValueError, match="route_prefix"):
            serve.run(name_of.bind(), route_prefix=wrong)


def test_no_http_without_a_prefix(web: Web) -> None:
    handle = serve.run(Inner.bind(), route_prefix=None)
    assert handle.double.remote(2).result() == 4
    assert web("/").status == 404


@serve.deployment
class Inner:
    def double(self, number: int) -> int:
        return 2 * number


@serve.deployment(max_ongoing_requests=1)
class Waits:
    """Waits until it is let go, and counts what became of its requests."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.entered = self.cancelled = 0

    async def __call__(self, request: Request) -> str:
        self.entered += 1
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return "done"


def counts(name: str = "Waits", app: str = "default") -> dict[str, Any]:
    """Return what runs in the only replica of a deployment."""
    (found,) = processes.counts(name, app)
    return found


def test_a_client_that_hangs_up_cancels_its_request(
    web: Web, wait_until: Callable[[Callable[[], object]], None]
) -> None:
    serve.run(Waits.bind())
    for _ in range(3):
        with socket.create_connection((web.host, web.port)) as client:
            client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            wait_until(lambda: counts()["ongoing"] == 1)
        wait_until(lambda: counts()["ongoing"] == 0)


def test_deadlines(web: Web, wait_until: Callable[[Callable[[], object]], None]) -> None:
    serve.run(Waits.bind())
    late = web("/", x_request_timeout_seconds="0.2", x_request_id="r1")
    assert (late.status, late.text) == (408, "Request r1 timed out after 0.2s.")
    wait_until(lambda: counts()["ongoing"] == 0)
    # One that waits for the only slot never runs.
    with socket.create_connection((web.host, web.port)) as client:
        client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        wait_until(lambda: counts()["ongoing"] == 1)
        assert web("/", x_request_timeout_seconds="0.2").status == 408
        assert counts()["ongoing"] == 1
    wait_until(lambda: counts()["ongoing"] == 0)


def test_a_full_queue_refuses(web: Web, wait_until: Callable[[Callable[[], object]], None]) -> None:
    refusing = Waits.options(
        max_queued_requests=1, backpressure_config={"status_code": 429, "retry_after_s": 1.5}
    )
    serve.run(refusing.bind())
    clients = []
    for _ in range(2):  # one runs, one waits
        client = socket.create_connection((web.host, web.port))
        client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        clients.append(client)
        wait_until(lambda: counts()["ongoing"] == 1)
    wait_until(lambda: web("/", x_request_timeout_seconds="0.1").status == 429)
    refused = web("/")
    assert refused.headers["retry-after"] == "2"
    assert "num_queued_requests=1, max_queued_requests=1" in refused.text
    for client in clients:
        client.close()
    wait_until(lambda: counts()["ongoing"] == 0)


def test_pipelined_chunked_and_broken_requests(web: Web) -> None:
    serve.run(Values.bind())
    with socket.create_connection((web.host, web.port)) as client:
        client.sendall(b"GET /number HTTP/1.1\r\nhost: x\r\n\r\n" * 3)
        received = b""
        while received.count(b"\r\n\r\n3") < 3:
            received += client.recv(65536)
    with socket.create_connection((web.host, web.port)) as client:
        client.sendall(b"POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
        client.sendall(b"2\r\nde\r\n0\r\n\r\n")
        received = b""
        while b'"body":"abcde"' not in received:
            received += client.recv(65536)
    with socket.create_connection((web.host, web.port)) as client:
        client.sendall(b"nonsense\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 400")
    with socket.create_connection((web.host, web.port)) as client:
        client.sendall(b"GE")
        client.sendall(b"T /number HTTP/1.0\r\n\r\n")
        received = b""
        while part := client.recv(65536):
            received += part
        assert received.endswith(b"\r\n\r\n3")


def test_the_library_for_websockets_is_not_loaded_before_the_first(web: Web) -> None:
    @serve.deployment
    class Modules:
        async def __call__(self, request: Any) -> list[str]:
            return [name for name in ("uvicorn", "websockets", "wsproto") if name in sys.modules]

    serve.run(Modules.bind())
    assert web().json() == ["uvicorn"]


ANNOTATED = """
import starlette
from skate import serve

@serve.deployment
def handler(request: starlette.requests.Request) -> None:
    pass

assert not hasattr(starlette, "nothing")
print(handler.func_or_class.__annotations__["request"].__module__)
"""


def test_requests_of_starlette_are_known_without_an_import() -> None:
    """Ray Serve imports them; programs written for it say `import starlette` alone."""
    done = subprocess.run([sys.executable, "-c", ANNOTATED], check=True, capture_output=True, text=True)
    assert done.stdout == "starlette.requests\n"
