"""Replicas that die with requests, or whose loop is blocked by user code."""

from __future__ import annotations

import asyncio
import http.client
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.serve.conftest import Web
from tests.serve.processes import counts, kill_controller, replicas

import skate
from skate import serve
from skate.serve.exceptions import ReplicaUnavailableError

Wait = Callable[[Callable[[], object]], None]


class Deadly:
    """Ends its process at the first request that says so."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def die_once(self, name: str) -> str:
        mark = self.folder / name
        if not mark.exists():
            mark.touch()
            os._exit(1)
        return f"{name} at last"

    async def __call__(self, request: Any) -> str:
        return self.die_once(request.url.path.strip("/"))


@pytest.fixture
def places(tmp_path: Path) -> Path:
    """A folder with a FIFO "go": a reader of it is blocked until the test writes."""
    os.mkfifo(tmp_path / "go")
    return tmp_path


@pytest.mark.parametrize("repeats", [True, False])
def test_only_what_is_idempotent_goes_to_another_replica(web: Web, places: Path, repeats: bool) -> None:
    one = serve.deployment(Deadly).options(idempotent=repeats)
    handle = serve.run(one.bind(str(places)), route_prefix=None)
    response = handle.die_once.remote("a")
    if repeats:
        assert response.result(timeout_s=60) == "a at last"
    else:
        with pytest.raises(ReplicaUnavailableError):
            response.result(timeout_s=60)
        assert handle.die_once.remote("a").result(timeout_s=60) == "a at last"


class Relaying:
    """One request at a time: others of the same connection's replica go to another replica."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.id = serve.get_replica_context().replica_tag

    def __call__(self, request: Any) -> str:
        name = request.url.path.strip("/")
        if name == "wait":
            (self.folder / "waits").touch()
            (self.folder / "go").read_bytes()
        elif name:
            mark = self.folder / name
            if not mark.exists():
                mark.touch()
                os._exit(1)
        return self.id


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [("GET", {}, 200), ("POST", {"Idempotency-Key": "7"}, 200), ("POST", {}, 502)],
)
def test_http_requests_that_may_be_repeated(
    web: Web,
    places: Path,
    wait_until: Callable[[Callable[[], object]], None],
    method: str,
    headers: dict[str, str],
    status: int,
) -> None:
    one = serve.deployment(Relaying).options(num_replicas=2, max_ongoing_requests=1)
    serve.run(one.bind(str(places)))
    # Two connections of the same replica: the first keeps it busy, the second's request goes to the other one.
    by_replica: dict[str, list[http.client.HTTPConnection]] = {}
    everyone = []
    while not any(len(found) == 2 for found in by_replica.values()):
        connection = http.client.HTTPConnection(web.host, web.port, timeout=60)
        everyone.append(connection)
        connection.request("GET", "/")
        by_replica.setdefault(connection.getresponse().read().decode(), []).append(connection)
    first, second = next(found for found in by_replica.values() if len(found) == 2)
    first.request("GET", "/wait")
    wait_until((places / "waits").exists)
    second.request(method, "/dies", headers=headers)
    answer = second.getresponse()
    assert answer.status == status
    answer.read()
    assert (places / "dies").exists()
    (places / "go").write_bytes(b"")
    assert first.getresponse().status == 200
    for connection in everyone:
        connection.close()


class Blocking:
    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.id = serve.get_replica_context().replica_tag

    async def block(self) -> str:
        (self.folder / "go").read_bytes()
        return self.id

    async def __call__(self) -> str:
        return self.id


def test_a_blocked_loop_is_named_and_avoided(
    web: Web, places: Path, wait_until: Callable[[Callable[[], object]], None]
) -> None:
    one = serve.deployment(Blocking).options(num_replicas=2)
    handle = serve.run(one.bind(str(places)), route_prefix=None)

    def message() -> str:
        return serve.status().applications["default"].deployments["Blocking"].message

    assert message() == ""
    stuck = handle.block.remote()
    wait_until(lambda: "test_failures.py" in message())
    assert "in block" in message() and "is blocked for" in message()
    answers = {handle.remote().result(timeout_s=60) for _ in range(20)}
    (places / "go").write_bytes(b"")
    assert stuck.result(timeout_s=60) not in answers
    wait_until(lambda: message() == "")


def test_a_blocked_replica_does_not_hold_up_a_new_controller(
    web: Web, places: Path, wait_until: Callable[[Callable[[], object]], None]
) -> None:
    handle = serve.run(serve.deployment(Blocking).bind(str(places)), route_prefix=None)
    stuck = handle.block.remote()
    wait_until(
        lambda: "is blocked for" in serve.status().applications["default"].deployments["Blocking"].message
    )
    kill_controller()
    assert serve.status().applications["default"].status == "RUNNING"
    (places / "go").write_bytes(b"")
    assert stuck.result(timeout_s=60)


@serve.deployment(max_ongoing_requests=4)
class Endless:
    """Runs until it is cancelled, and counts that."""

    def __init__(self) -> None:
        self.begun = self.cancelled = 0

    async def run(self) -> None:
        self.begun += 1
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    async def items(self) -> AsyncIterator[int]:
        yield 1
        await self.run()


@serve.deployment
class Between:
    """Calls it for others."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    async def run(self) -> None:
        await self.inner.run.remote()


@skate.remote(num_cpus=0)
class Caller:
    """A process that dies with its calls."""

    async def call(self, *handles: Any) -> None:
        inner, between = handles
        self.calls = [inner.run.remote(), between.run.remote()]
        self.stream = inner.options(stream=True).items.remote()
        assert await anext(self.stream) == 1

    def pid(self) -> int:
        return os.getpid()


def test_calls_of_a_process_that_died_are_cancelled(web: Web, wait_until: Wait) -> None:
    """Nobody waits for their results; calls that they have made are cancelled, too."""
    between = serve.run(Between.bind(Endless.bind()), route_prefix=None)
    inner = serve.get_deployment_handle("Endless", "default")
    caller = Caller.remote()
    skate.get(caller.call.remote(inner, between))
    (replica,) = replicas("Endless").values()

    def numbers() -> tuple[int, int]:
        return skate.get(  # type: ignore[no-any-return]
            replica.__ray_call__.remote(
                lambda self: (self._code.servable.begun, self._code.servable.cancelled)
            )
        )

    wait_until(lambda: numbers() == (3, 0))
    os.kill(skate.get(caller.pid.remote()), signal.SIGKILL)
    wait_until(lambda: numbers() == (3, 3))
    for name in ("Endless", "Between"):
        wait_until(lambda: [one["ongoing"] for one in counts(name)] == [0])  # noqa: B023
