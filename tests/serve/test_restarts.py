"""The controller's process dies in the middle of something: the next one goes on, and loses no request."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import skate
from skate import serve
from skate.serve._client.client import controller

from .conftest import Web
from .load import Load
from .processes import kill_controller, pid_of, replicas

Wait = Callable[[Callable[[], object]], None]
pytestmark = pytest.mark.time_limit(120)


class Lock:
    """A file that others wait for until it is free."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._file = path.open("w")
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def free(self) -> None:
        self._file.close()


def until_free(path: str) -> None:
    with Path(path).open() as file:
        fcntl.flock(file, fcntl.LOCK_SH)


@serve.deployment(max_ongoing_requests=20)
class Inner:
    """Its constructor waits for a lock, if it has one; so does a request that names one."""

    def __init__(self, name: str, wait_for: str = "") -> None:
        self.name = name
        if wait_for:
            until_free(wait_for)

    async def __call__(self, wait_for: str = "") -> str:
        if wait_for:
            await asyncio.to_thread(until_free, wait_for)
        return self.name


@serve.deployment(max_ongoing_requests=20)
class Front:
    """Asks another deployment."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    async def __call__(self, request: Any) -> str:
        return await self.inner.remote(request.query_params.get("wait_for", ""))


@contextlib.contextmanager
def running(target: Any) -> Iterator[None]:
    """Run an application meanwhile; it answers at the end of the block."""
    thread = threading.Thread(target=serve.run, args=(target,))
    thread.start()
    yield
    thread.join()


def states(name: str) -> dict[str, int]:
    found = serve.status().applications["default"].deployments.get(name)
    return {} if found is None else found.replica_states


def is_back() -> bool:
    """Tell whether a controller answers."""
    try:
        return bool(skate.get(controller().status.remote()))
    except skate.exceptions.RayError:
        return False


def test_an_update_that_leaves_a_deployment_out(web: Web, wait_until: Wait, tmp_path: Path) -> None:
    """What is left out goes on until nothing calls it, also for a controller that did not see the update
    begin."""
    lock = Lock(tmp_path / "lock")
    serve.run(Front.bind(Inner.options(name="A").bind("a")))
    with Load(web.address, clients=4) as load:
        wait_until(lambda: load.bodies[b"a"] > 20)
        with running(Front.bind(Inner.options(name="B").bind("b", lock.path))):
            wait_until(lambda: states("B") == {"STARTING": 1})
            kill_controller()
            wait_until(is_back)
            assert states("A") == {"RUNNING": 1}
            before = load.bodies[b"a"]
            wait_until(lambda: load.bodies[b"a"] > before + 20)
            lock.free()
        wait_until(lambda: load.bodies[b"b"] > 20)
    assert load.errors == []
    assert {*load.statuses} == {200}
    assert load.reconnects == 0
    wait_until(lambda: {*serve.status().applications["default"].deployments} == {"Front", "B"})


@pytest.mark.parametrize("count", [1, 2])
def test_an_update_of_all_replicas(web: Web, wait_until: Wait, tmp_path: Path, count: int) -> None:
    """The first replica of the new version is about to be ready: the next controller begins by ending old
    ones, before their callers have found it."""
    version = Inner.options(num_replicas=count)
    serve.run(Front.bind(version.bind("v0")))
    with Load(web.address, clients=4) as load:
        for number in range(1, 3):
            wait_until(lambda: load.bodies[f"v{number - 1}".encode()] > 20)  # noqa: B023
            lock = Lock(tmp_path / f"lock{number}")
            with running(Front.bind(version.bind(f"v{number}", lock.path))):
                wait_until(lambda: states("Inner").get("STARTING"))
                kill_controller()
                lock.free()
        wait_until(lambda: load.bodies[b"v2"] > 20)
    assert load.errors == []
    assert {*load.statuses} == {200}
    assert load.reconnects == 0


def test_an_application_that_is_deleted(web: Web, wait_until: Wait, tmp_path: Path) -> None:
    """Its requests are finished first, also where the controller dies meanwhile."""
    lock = Lock(tmp_path / "lock")
    handle = serve.run(Inner.bind("a"), route_prefix=None)
    response = handle.remote(lock.path)
    (replica,) = replicas("Inner").values()
    wait_until(lambda: skate.get(replica.counts.remote())["ongoing"] == 1)
    serve.delete("default", _blocking=False)
    wait_until(lambda: skate.get(replica.counts.remote())["draining"])
    kill_controller()
    wait_until(is_back)
    assert serve.status().applications["default"].status == "DELETING"
    lock.free()
    assert response.result() == "a"
    wait_until(lambda: not serve.status().applications)


def test_a_replica_that_waits_for_resources_does_not_hold_up_the_next_controller(
    web: Web, wait_until: Wait
) -> None:
    greedy = Inner.options(num_replicas=2, ray_actor_options={"num_cpus": 2})
    target = serve.RunTarget(greedy.bind("a"), route_prefix=None)
    serve.run_many([target], wait_for_applications_running=False)
    wait_until(lambda: states("Inner") == {"RUNNING": 1, "STARTING": 1})
    kill_controller()
    wait_until(is_back)
    wait_until(lambda: states("Inner") == {"RUNNING": 1, "STARTING": 1})
    handle = serve.run(Inner.bind("b"), route_prefix=None)
    assert handle.remote().result() == "b"


def test_the_last_that_has_the_port_is_about_to_end(web: Web, wait_until: Wait, tmp_path: Path) -> None:
    """It drains. The next controller gets the listening socket from it, and takes its connections."""
    lock = Lock(tmp_path / "lock")
    serve.run(Front.bind(Inner.bind("a")))
    (replica,) = replicas("Front").values()
    answers = []
    client = threading.Thread(target=lambda: answers.append(web(f"/?wait_for={lock.path}")))
    client.start()
    wait_until(lambda: skate.get(replica.counts.remote())["ongoing"] == 1)
    serve.delete("default", _blocking=False)
    wait_until(lambda: skate.get(replica.counts.remote())["draining"])
    kill_controller()
    wait_until(is_back)
    lock.free()
    client.join()
    assert [one.text for one in answers] == ["a"]
    wait_until(lambda: not serve.status().applications)
    serve.run(Front.bind(Inner.bind("b")))
    assert web("/").text == "b"


def _questions(self: Any) -> int:
    """In a replica: return how many calls of ``until_ended`` run."""
    found = 0
    for task in asyncio.all_tasks(self._loop):
        step: Any = task.get_coro()
        while step is not None:
            found += getattr(step, "__name__", "") == "until_ended"
            step = getattr(step, "cr_await", None)
    return found


def test_replicas_keep_nothing_of_controllers_that_have_died(web: Web, wait_until: Wait) -> None:
    """Each of them asked a question that is answered never."""
    serve.run(Inner.bind("one"), route_prefix=None)
    (replica,) = replicas("Inner").values()

    def questions() -> int:
        return int(skate.get(replica.__ray_call__.remote(_questions)))

    wait_until(lambda: questions() == 1)
    for _ in range(3):
        before = pid_of(controller())
        kill_controller()
        wait_until(lambda before=before: pid_of(controller()) != before and len(replicas("Inner")) == 1)  # type: ignore[misc]
        wait_until(lambda: questions() == 1)
