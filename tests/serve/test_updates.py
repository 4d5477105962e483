"""Updates, failures and restarts under load: no request is lost, no connection closed."""

from __future__ import annotations

import asyncio
import http.client
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

import skate
from skate import serve
from skate.serve._controller import store
from skate.serve._replica.replica import Replica
from skate.serve._targets import NAMESPACE
from skate.serve.schema import ApplicationStatus, DeploymentStatus

from .conftest import Web
from .load import Load
from .processes import controller, kill_controller, replicas

Wait = Callable[[Callable[[], object]], None]
pytestmark = pytest.mark.time_limit(120)


@serve.deployment(max_ongoing_requests=3, health_check_period_s=0.05)
class Version:
    """Answers with what it was made with."""

    def __init__(self, name: str, bad: bool = False) -> None:
        if bad:
            raise KeyError("the weights are missing")
        self.name = name
        self.config = ""
        self.healthy = True

    def reconfigure(self, config: str) -> None:
        self.config = config

    def check_health(self) -> None:
        if not self.healthy:
            raise RuntimeError("the model hangs")

    async def __call__(self, request: Any) -> str:
        await asyncio.sleep(0)
        return self.name + self.config

    def pid(self) -> int:
        return os.getpid()

    def fall_ill(self) -> None:
        self.healthy = False


@pytest.mark.parametrize("count", [1, 2])
def test_an_update_under_load_loses_nothing(web: Web, wait_until: Wait, count: int) -> None:
    version = Version.options(num_replicas=count)
    serve.run(version.bind("v0"))
    with Load(web.address) as load:
        for number in range(1, 4):
            wait_until(lambda: load.bodies[f"v{number - 1}".encode()] > 20)  # noqa: B023
            serve.run(version.bind(f"v{number}"))
        wait_until(lambda: load.bodies[b"v3"] > 20)
    assert load.errors == []
    assert load.reconnects == 0
    assert {*load.statuses} == {200}
    assert {*load.bodies} == {b"v0", b"v1", b"v2", b"v3"}


def test_a_version_that_does_not_start_changes_nothing(web: Web) -> None:
    version = Version.options(num_replicas=2, max_constructor_retry_count=2)
    serve.run(version.bind("good"))
    before = {*replicas("Version")}
    with Load(web.address) as load:
        with pytest.raises(
            RuntimeError, match=r"(?s)Deploying application default failed.*the weights are missing"
        ):
            serve.run(version.bind("new", bad=True))
    assert load.errors == []
    assert {*load.bodies} <= {b"good"}
    assert {*replicas("Version")} == before
    status = serve.status().applications["default"]
    assert status.status == ApplicationStatus.RUNNING
    assert "the weights are missing" in status.message
    serve.run(version.bind("good"))
    assert serve.status().applications["default"].message == ""
    assert {*replicas("Version")} == before


def test_a_first_version_that_does_not_start(web: Web) -> None:
    with pytest.raises(RuntimeError, match="the weights are missing"):
        serve.run(Version.options(max_constructor_retry_count=1).bind("x", bad=True))
    status = serve.status().applications["default"]
    assert status.status == "DEPLOY_FAILED"
    assert status.deployments["Version"].status == DeploymentStatus.DEPLOY_FAILED
    assert status.deployments["Version"].status_trigger == "REPLICA_STARTUP_FAILED"
    failed = web("/")
    assert failed.status == 503
    assert (
        failed.text == "Deployment(name='Version', app='default') is unavailable because it failed to deploy."
    )
    serve.run(Version.bind("well"))
    assert web("/").text == "well"


def test_what_did_not_change_is_not_restarted(web: Web) -> None:
    serve.run(Version.options(user_config="-a").bind("x"))
    before = {*replicas("Version")}
    assert web("/").text == "x-a"
    serve.run(Version.options(user_config="-a").bind("x"))
    assert {*replicas("Version")} == before
    serve.run(Version.options(user_config="-b", num_replicas=2).bind("x"))
    assert {*replicas("Version")} > before
    assert {web("/").text for _ in range(10)} == {"x-b"}
    serve.run(Version.options(user_config="-b").bind("x"))
    assert len(replicas("Version")) == 1


def test_an_update_of_what_fills_the_machine(web: Web, wait_until: Wait) -> None:
    """There is no room for a second replica: the old one ends first, and requests wait for the new one."""
    version = Version.options(ray_actor_options={"num_cpus": 2})
    serve.run(version.bind("v1"))
    assert web("/").text == "v1"
    serve.run(version.bind("v2"))
    assert web("/").text == "v2"


def test_an_application_goes_back_as_a_whole(web: Web) -> None:
    """One of its deployments does not start: the other keeps its version, too."""

    @serve.deployment
    class Front:
        def __init__(self, name: str, inner: Any) -> None:
            self.name, self.inner = name, inner

        async def __call__(self, request: Any) -> str:
            return self.name + await self.inner.remote(None)

    bad = Version.options(max_constructor_retry_count=1)
    serve.run(Front.bind("f1", bad.bind("v1")))
    with pytest.raises(RuntimeError, match="the weights are missing"):
        serve.run(Front.bind("f2", bad.bind("v2", bad=True)))
    with Load(web.address, clients=2) as load:
        while load.answers < 20:
            pass
        assert {*load.bodies} <= {b"f1v1", b"f2v1"}
    while web("/").text != "f1v1":
        pass


def test_a_killed_replica_fails_only_what_it_had(web: Web, wait_until: Wait) -> None:
    handle = serve.run(Version.options(num_replicas=2).bind("x"))
    before = {*replicas("Version")}
    with Load(web.address) as load:
        wait_until(lambda: load.answers > 50)
        os.kill(handle.pid.remote().result(), signal.SIGKILL)
        wait_until(lambda: len({*replicas("Version")}) == 2 and {*replicas("Version")} != before)
        seen = load.answers
        wait_until(lambda: load.answers > seen + 50)
    # A client has one request under way: each fails once at most.
    failed = len(load.errors) + sum(count for status, count in load.statuses.items() if status != 200)
    assert failed <= 8
    assert {*load.statuses} <= {200, 502}


def test_a_killed_controller_changes_nothing(web: Web, wait_until: Wait) -> None:
    handle = serve.run(Version.options(num_replicas=2).bind("v1"))
    before = {*replicas("Version")}
    with Load(web.address) as load:
        wait_until(lambda: load.answers > 20)
        kill_controller()
        assert handle.pid.remote().result() > 0
        wait_until(lambda: serve.status().applications["default"].status == "RUNNING")
        assert {*replicas("Version")} == before
        serve.run(Version.options(num_replicas=2).bind("v2"))
        wait_until(lambda: load.bodies[b"v2"] > 20)
    assert load.errors == []
    assert {*load.statuses} == {200}


def test_an_application_that_gets_a_route_answers_http_itself(web: Web, wait_until: Wait) -> None:
    """Its replicas started without taking connections; they go on, and begin to take some."""
    version = Version.options(num_replicas=2)
    serve.run(version.bind("x"), route_prefix=None)
    before = {*replicas("Version")}
    assert web("/").status == 404
    serve.run(version.bind("x"))
    assert {*replicas("Version")} == before
    with Load(web.address) as load:
        wait_until(lambda: facts_of_port() == (before, 0))
        wait_until(lambda: load.answers > 20)
        kill_controller()
        serve.run(version.bind("y"))
        wait_until(lambda: load.bodies[b"y"] > 20)
    assert load.errors == []
    assert {*load.statuses} == {200}
    assert load.reconnects == 0


def facts_of_port() -> tuple[set[str], int]:
    """Return the replicas that take connections, and how many the controller has still."""

    def facts(self: Any) -> tuple[set[str], int]:
        fronts = [*self._port._leaving, *([self._port._front] if self._port._front is not None else [])]
        return self._replicas.doors, sum(len(front.server.connections()) for front in fronts)

    found: tuple[set[str], int] = skate.get(controller().__ray_call__.remote(facts))
    return found


def test_a_controller_that_dies_before_it_has_noted_a_door(web: Web, wait_until: Wait) -> None:
    """The next one knows from the replica that it takes connections, and has no other door opened there."""
    version = Version.options(num_replicas=2)
    serve.run(version.bind("x"))
    (first, _) = before = [*replicas("Version")]

    def forget(_: Any) -> None:
        store.save_replica(store.ReplicaRow(first, "default", "Version", "", is_door=False, is_ready=True))

    with Load(web.address) as load:
        wait_until(lambda: load.answers > 20)
        skate.get(controller().__ray_call__.remote(forget))
        kill_controller()
        wait_until(lambda: facts_of_port() == ({*before}, 0))
        serve.run(version.bind("y"))
        wait_until(lambda: load.bodies[b"y"] > 20)
    assert load.errors == []
    assert load.reconnects == 0


def test_an_answer_that_a_client_takes_slowly_is_whole(web: Web) -> None:
    """Its replica has written it and has no request left; it must not leave before the client has it."""

    @serve.deployment
    class Long:
        def __init__(self, letter: str) -> None:
            self.answer = letter.encode() * 8_000_000

        def __call__(self, request: Any) -> bytes:
            return self.answer

    serve.run(Long.bind("a"))
    client = http.client.HTTPConnection(*web.address.removeprefix("http://").split(":"))
    client.request("GET", "/")
    answer = client.getresponse()
    (replica,) = replicas("Long").values()
    updating = threading.Thread(target=serve.run, args=(Long.bind("b"),))
    updating.start()
    while not skate.get(replica.counts.remote())["draining"]:
        pass
    assert answer.read() == b"a" * 8_000_000
    updating.join()
    client.request("GET", "/")
    assert client.getresponse().read() == b"b" * 8_000_000


def test_an_unhealthy_replica_is_replaced(web: Web, wait_until: Wait) -> None:
    handle = serve.run(Version.bind("x"))
    (before,) = replicas("Version")
    handle.fall_ill.remote().result()
    wait_until(lambda: len(replicas("Version")) == 1 and before not in replicas("Version"))
    assert web("/").text == "x"


def test_delete_finishes_what_is_under_way(web: Web, wait_until: Wait) -> None:
    @serve.deployment
    class Slow:
        def __init__(self) -> None:
            self.go = asyncio.Event()

        async def __call__(self) -> str:
            await self.go.wait()
            return "done"

        async def let_go(self) -> None:
            self.go.set()

    handle = serve.run(Slow.bind(), route_prefix=None)
    response = handle.remote()
    (replica,) = replicas("Slow").values()
    wait_until(lambda: skate.get(replica.counts.remote())["ongoing"] == 1)
    serve.delete("default", _blocking=False)
    wait_until(lambda: skate.get(replica.counts.remote())["draining"])
    skate.get(replica.__ray_call__.remote(lambda self: self._code.servable.go.set()))
    assert response.result() == "done"


def test_requests_wait_for_a_first_replica(web: Web) -> None:
    handle = serve.get_deployment_handle("Version", "default", _check_exists=False)
    with pytest.raises(serve.exceptions.DeploymentUnavailableError):
        handle.remote(None).result()
    serve.run(Version.bind("x"))
    assert handle.remote(None).result() == "x"


def test_an_update_that_leaves_deployments_out_loses_nothing(web: Web, wait_until: Wait) -> None:
    """Another model under another name, then another entrance: what is left out goes when nothing calls it."""

    @serve.deployment
    class Front:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        async def __call__(self, request: Any) -> str:
            return await self.inner.remote(None)

    serve.run(Front.bind(Version.options(name="A").bind("a")))
    with Load(web.address, clients=4) as load:
        wait_until(lambda: load.bodies[b"a"] > 20)
        serve.run(Front.bind(Version.options(name="B").bind("b")))
        wait_until(lambda: load.bodies[b"b"] > 20)
        serve.run(Front.options(name="Door").bind(Version.options(name="C").bind("c")))
        wait_until(lambda: load.bodies[b"c"] > 20)
    assert load.errors == []
    assert {*load.statuses} == {200}
    wait_until(lambda: {*serve.status().applications["default"].deployments} == {"Door", "C"})


def test_an_update_overtakes_a_replica_that_has_accepted_connections(web: Web, wait_until: Wait) -> None:
    """It was not ready yet, so it serves nobody: but for these connections."""

    class Late:
        def __init__(self) -> None:
            async def never(_: Any) -> None:
                await asyncio.Event().wait()

            Replica.ready = never  # type: ignore[method-assign]

        def __call__(self, request: Any) -> str:
            return "late"

    def update() -> None:
        with pytest.raises(RuntimeError, match="deployed again"):
            serve.run(serve.deployment(Late).options(name="Version").bind())

    serve.run(Version.bind("v1"))
    updating = threading.Thread(target=update)
    updating.start()
    names: list[str] = []

    def has_accepted() -> bool:
        """Connect once more; tell whether the new replica has some of the connections."""
        clients.append(http.client.HTTPConnection(web.host, web.port, timeout=60))
        clients[-1].connect()
        names[:] = [one for one in store_rows() if one not in replicas("Version")]
        if not names:
            return False
        late = skate.get_actor(f"SERVE_REPLICA::default#Version#{names[0]}", namespace=NAMESPACE)
        found: bool = skate.get(
            late.__ray_call__.remote(
                lambda self: bool(self._entrance and self._entrance.server.connections())
            )
        )
        return found

    clients: list[http.client.HTTPConnection] = []
    wait_until(has_accepted)
    serve.run(Version.bind("v2"))
    updating.join()
    for one in clients:
        one.request("GET", "/")
        assert one.getresponse().read() == b"v2"
        one.close()


def store_rows() -> list[str]:
    """Return the replicas that the controller has started."""
    found: list[str] = skate.get(controller().__ray_call__.remote(lambda self: [*self._replicas.actors]))
    return found
