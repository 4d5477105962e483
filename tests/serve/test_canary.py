"""Versions side by side and going back: canaries, promotion, bake time, earlier versions; under load."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.serve.conftest import Web
from tests.serve.load import Load

from skate import serve
from skate.serve._router.draw import is_drawn
from skate.serve.exceptions import RayServeException

WaitUntil = Callable[[Callable[[], object]], None]


@serve.deployment
class Words:
    """Says its version."""

    def __init__(self, version: str) -> None:
        self.version = version

    async def __call__(self) -> str:
        return self.version


@serve.deployment(num_replicas=2, max_ongoing_requests=20)
class Front:
    """Says its version and that of the deployment behind it."""

    def __init__(self, version: str, words: Any) -> None:
        self.version, self.words = version, words

    async def __call__(self, request: Any) -> str:
        return f"{self.version} {await self.words.remote()}"


def application(version: str) -> Any:
    return Front.bind(version, Words.bind(version))


def test_a_request_meets_one_version_everywhere(web: Web) -> None:
    handle = serve.run(application("v1"))
    serve.run(application("v2"), canary=30)
    states = serve.status().applications["default"].deployments
    assert states["Front#canary"].replica_states == {"RUNNING": 1}
    ids = [f"request-{number}" for number in range(100)]
    expected = {one: "v2 v2" if is_drawn(one, 30) else "v1 v1" for one in ids}
    assert 15 < sum(text == "v2 v2" for text in expected.values()) < 45
    assert {one: web("/", x_request_id=one).text for one in ids} == expected
    assert {handle.remote(None).result() for _ in range(100)} == {"v1 v1", "v2 v2"}


@serve.deployment(max_ongoing_requests=20)
class Stuck:
    """Blocks its loop until somebody writes to a FIFO, if it is the version that does."""

    def __init__(self, fifo: str) -> None:
        self.fifo = fifo

    async def __call__(self, request: Any) -> str:
        if self.fifo:
            Path(self.fifo).read_bytes()
        return "done"


def test_the_requests_and_troubles_of_a_canary_are_its_own(
    web: Web, wait_until: WaitUntil, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "go")
    serve.run(Stuck.bind(""))
    handle = serve.run(Stuck.bind(str(tmp_path / "go")), canary=100)

    def deployments() -> Any:
        return serve.status().applications["default"].deployments

    response = handle.remote(None)
    wait_until(lambda: "is blocked for" in deployments()["Stuck#canary"].message)
    (tmp_path / "go").write_bytes(b"")
    assert response.result(timeout_s=60) == "done"
    wait_until(lambda: not deployments()["Stuck#canary"].message)
    with ThreadPoolExecutor(1) as pool:  # by HTTP it is relayed, under its route
        answer = pool.submit(web, "/")
        wait_until(lambda: "is blocked for" in deployments()["Stuck#canary"].message)
        (tmp_path / "go").write_bytes(b"")
        assert answer.result().text == "done"
    series = 'request_counter_total{deployment="Stuck#canary",application="default",route="%s"} 1\n'
    text = web("/-/metrics").text
    assert series % "/" in text and series % "" in text


@pytest.mark.parametrize("end", [serve.promote, serve.rollback])
def test_no_request_is_lost_when_a_canary_ends(
    web: Web, wait_until: WaitUntil, end: Callable[[], None]
) -> None:
    serve.run(application("v1"))
    with Load(web.address, clients=4) as load:
        serve.run(application("v2"), canary=50)
        wait_until(lambda: load.bodies[b"v1 v1"] > 20 and load.bodies[b"v2 v2"] > 20)
        end()
        left = b"v2 v2" if end is serve.promote else b"v1 v1"
        before = load.bodies[left]
        wait_until(lambda: load.bodies[left] > before + 20)
    assert not load.errors and set(load.statuses) == {200} and not load.reconnects
    # While a promotion is under way, the two deployments of a request may be of different versions.
    states = serve.status().applications["default"].deployments
    wait_until(lambda: "Front#canary" not in serve.status().applications["default"].deployments)
    assert states["Front"].replica_states.get("RUNNING") == 2


def test_there_must_be_a_canary_or_an_earlier_version(web: Web) -> None:
    serve.run(application("v1"))
    for refused, text in (
        (serve.promote, "no canary to promote"),
        (serve.rollback, "no version to go back to"),
        (lambda: serve.rollback("nobody"), "'nobody' does not exist"),
        (
            lambda: serve.run(application("v1"), name="other"),
            "Prefix / is being used by application 'default'",
        ),
    ):
        with pytest.raises(RayServeException, match=text) as caught:
            refused()
        assert (
            type(caught.value) is RayServeException
        )  # and no error of a task, with the controller's traceback
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="0 to 100"):
        serve.run(application("v2"), canary=101)


def test_a_canary_that_does_not_start_says_why(web: Web) -> None:
    @serve.deployment(name="Words")
    class Broken:
        def __init__(self) -> None:
            raise LookupError("no such weights")

    serve.run(application("v1"))
    with pytest.raises(RuntimeError, match="no such weights"):
        serve.run(Front.bind("v2", Broken.bind()), canary=50)
    assert {web("/").text for _ in range(20)} == {"v1 v1"}
    assert serve.status().applications["default"].status == "RUNNING"


def test_the_version_before_comes_back_by_name(web: Web, wait_until: WaitUntil) -> None:
    one = Words.options(bake_time_s=0)
    handle = serve.run(one.bind("v1"), route_prefix=None)
    serve.run(one.bind("v2"), route_prefix=None)
    assert handle.remote().result() == "v2"
    serve.rollback()
    assert handle.remote().result() == "v1"


class Model:
    """The second version answers with errors, or turns unhealthy, once a file is there."""

    def __init__(self, version: str, folder: str, trouble: str) -> None:
        self.version, self.trouble = version, trouble
        self.mark = os.path.join(folder, "trouble")

    def is_troubled(self, kind: str) -> bool:
        return self.version == "v2" and self.trouble == kind and os.path.exists(self.mark)

    async def __call__(self, request: Any) -> str:
        if self.is_troubled("errors"):
            raise ValueError("this picture has no pixels")
        return self.version

    def check_health(self) -> None:
        if self.is_troubled("health"):
            raise RuntimeError("the GPU fell off the bus")


@pytest.mark.parametrize("trouble", ["errors", "health"])
def test_a_version_that_turns_out_bad_goes(
    web: Web, tmp_path: Path, wait_until: WaitUntil, trouble: str
) -> None:
    one = serve.deployment(Model).options(num_replicas=2, health_check_period_s=0.1, bake_time_s=120)
    serve.run(one.bind("v1", str(tmp_path), trouble))
    with Load(web.address, clients=4) as load:
        serve.run(one.bind("v2", str(tmp_path), trouble))
        wait_until(lambda: load.bodies[b"v2"] > 5)
        (tmp_path / "trouble").touch()
        wait_until(lambda: serve.status().applications["default"].message)
        before = load.bodies[b"v1"]
        wait_until(lambda: load.bodies[b"v1"] > before + 50)
        wait_until(
            lambda: (
                serve.status().applications["default"].deployments["Model"].replica_states == {"RUNNING": 2}
            )
        )
    message = serve.status().applications["default"].message
    assert not load.errors
    if trouble == "errors":
        assert set(load.statuses) == {200, 500}
        assert "this picture has no pixels" in message and "requests failed" in message
        assert f"{os.sep}skate{os.sep}serve{os.sep}" not in message, "it begins with the user's code"
    else:
        assert set(load.statuses) == {200}
        assert "the GPU fell off the bus" in message
    assert web("/").text == "v1"
