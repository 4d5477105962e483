"""``DeploymentHandle.broadcast``: every replica, beside full queues; errors, deaths, cancelling."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

import skate
from skate import serve
from skate.serve.exceptions import (
    DeploymentUnavailableError,
    ReplicaUnavailableError,
    RequestCancelledError,
)

from .conftest import Web
from .processes import counts, pid_of, replicas

Wait = Callable[[Callable[[], object]], None]


@serve.deployment(num_replicas=2, max_ongoing_requests=2)
class Cache:
    """Each replica has values of its own."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.go = asyncio.Event()

    def set(self, name: str, value: Any = 1) -> str:
        self.values[name] = value
        return serve.get_replica_context().replica_tag

    def get(self, name: str) -> Any:
        return self.values[name]

    def fail_on(self, rank: int) -> str:
        if serve.get_replica_context().rank.rank == rank:
            raise KeyError("this one")
        return "fine"

    async def hold(self) -> str:
        await self.go.wait()
        return "held"

    async def let_go(self) -> None:
        self.go.set()


@serve.deployment
class Caller:
    """Broadcasts from a replica."""

    def __init__(self, cache: Any) -> None:
        self.cache = cache

    async def __call__(self) -> list[Any]:
        return await self.cache.broadcast("set", "x", value=self.cache.get.remote("y")).results_async()


def test_every_replica_is_called_once(web: Web) -> None:
    handle = serve.run(Cache.options(num_replicas=3).bind(), route_prefix=None)
    response = handle.broadcast("set", "a", value=5)
    assert sorted(response.results()) == sorted(replicas("Cache"))
    assert sorted(response.results(timeout_s=60)) == sorted(replicas("Cache"))
    assert handle.broadcast("get", "a").results() == [5, 5, 5]
    assert {handle.get.remote("a").result() for _ in range(20)} == {5}


def test_it_is_called_from_a_replica_with_the_result_of_another_call(web: Web) -> None:
    handle = serve.run(Caller.bind(Cache.bind()), route_prefix=None)
    cache = serve.get_deployment_handle("Cache", "default")
    assert len(cache.broadcast("set", "y", 7).results()) == 2
    assert sorted(handle.remote().result()) == sorted(replicas("Cache"))
    assert cache.broadcast("get", "x").results() == [7, 7]


def test_errors_are_raised_or_returned(web: Web) -> None:
    handle = serve.run(Cache.bind(), route_prefix=None)
    with pytest.raises(KeyError, match="this one"):
        handle.broadcast("fail_on", 0).results()
    found = handle.broadcast("fail_on", 1).results(return_exceptions=True)
    assert sorted(type(one).__name__ if isinstance(one, KeyError) else one for one in found) == [
        "RayTaskError(KeyError)",
        "fine",
    ]
    with pytest.raises(ValueError, match="timeout_s"):
        handle.broadcast("fail_on", 5).results(timeout_s=-1)


def test_no_queue_limits_it_and_it_leaves_no_credits_behind(web: Web, wait_until: Wait) -> None:
    one = Cache.options(num_replicas=1, max_ongoing_requests=2, max_queued_requests=1)
    handle = serve.run(one.bind(), route_prefix=None)
    held = handle.hold.remote()
    wait_until(lambda: counts("Cache")[0]["ongoing"] == 1)
    for number in range(20):
        assert handle.broadcast("get" if number else "set", "a").results() != []
    waiting = [handle.broadcast("hold") for _ in range(4)]
    wait_until(lambda: counts("Cache")[0]["ongoing"] == 5)  # two run, three wait for a slot in the replica
    skate.get(
        next(iter(replicas("Cache").values())).__ray_call__.remote(lambda self: self._code.servable.go.set())
    )
    assert [one.results() for one in waiting] == [["held"]] * 4
    assert held.result() == "held"
    (replica,) = replicas("Cache").values()

    def credits_of_broadcasts(replica: Any) -> list[int]:
        lender = replica._slots.lender
        return [lender.holds(one) for one in lender.routers() if one.endswith("/broadcast")]

    assert skate.get(replica.__ray_call__.remote(credits_of_broadcasts)) == [0]


def test_a_replica_that_dies_is_named(web: Web, wait_until: Wait) -> None:
    handle = serve.run(Cache.bind(), route_prefix=None)
    pids = _pids()
    response = handle.broadcast("hold")
    wait_until(lambda: [one["ongoing"] for one in counts("Cache")] == [1, 1])
    os.kill(pids[0], signal.SIGKILL)
    wait_until(lambda: pids[0] not in _pids() and len(replicas("Cache")) == 2)
    handle.broadcast("let_go").results(return_exceptions=True)
    found = response.results(return_exceptions=True)
    assert sorted(type(one) for one in found if one != "held") == [ReplicaUnavailableError]
    assert len(found) == 2


def _pids() -> list[int]:
    try:
        return [pid_of(one) for one in replicas("Cache").values()]
    except skate.exceptions.RayActorError:
        return []


def test_it_is_cancelled_everywhere(web: Web, wait_until: Wait) -> None:
    handle = serve.run(Cache.bind(), route_prefix=None)
    response = handle.broadcast("hold")
    wait_until(lambda: [one["ongoing"] for one in counts("Cache")] == [1, 1])
    response.cancel()
    with pytest.raises(RequestCancelledError):
        response.results()
    wait_until(lambda: [one["ongoing"] for one in counts("Cache")] == [0, 0])


def test_without_replicas_it_is_refused(web: Web) -> None:
    handle = serve.run(Cache.bind(), route_prefix=None)
    serve.delete("default")
    with pytest.raises(DeploymentUnavailableError):
        handle.broadcast("get", "a").results()


def test_a_local_application_has_one_replica() -> None:
    handle = serve.run(Cache.bind(), name="local", _local_testing_mode=True)
    assert len(handle.broadcast("set", "a", 2).results()) == 1
    assert handle.broadcast("get", "a").results() == [2]
    with pytest.raises(KeyError):
        handle.broadcast("get", "b").results()
    (error,) = handle.broadcast("get", "b").results(return_exceptions=True)
    assert isinstance(error, KeyError)
    serve.delete("local")
