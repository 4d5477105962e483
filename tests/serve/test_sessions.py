"""Sessions: by handles, by HTTP, from several processes; replicas that are full, or die."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

import skate
from skate import serve
from skate.serve._router.sessions import home_of

from .conftest import Web
from .processes import pid_of, replicas

Wait = Callable[[Callable[[], object]], None]


@serve.deployment(num_replicas=3, max_ongoing_requests=2)
class Model:
    """Says which replica answers."""

    def __init__(self) -> None:
        self.go = asyncio.Event()

    async def __call__(self, request: Any = None) -> str:
        return serve.get_replica_context().replica_tag

    async def stream(self) -> Any:
        yield serve.get_replica_context().replica_tag

    async def hold(self) -> str:
        await self.go.wait()
        return serve.get_replica_context().replica_tag


@skate.remote(num_cpus=0)
def ask(handle: Any) -> set[str]:
    return {handle.remote().result() for _ in range(10)}


def test_a_session_has_one_replica_in_all_processes(web: Web, wait_until: Wait) -> None:
    """It is a preference: until the processes are connected, a credit of the replica may come too late."""
    handle = serve.run(Model.bind())
    sessions = [f"user {number}" for number in range(8)]
    homes = {one: home_of(one, replicas("Model")) for one in sessions}
    assert len({*homes.values()}) > 1
    for one in sessions:
        mine = handle.options(session_id=one)
        wait_until(lambda: {mine.remote().result() for _ in range(10)} == {homes[one]})  # noqa: B023
        assert {*mine.options(stream=True, method_name="stream").remote()} == {homes[one]}
        wait_until(lambda: {web("/", x_session_id=one).text for _ in range(10)} == {homes[one]})  # noqa: B023
    mine = handle.options(session_id="user 3")
    wait_until(lambda: skate.get(ask.remote(mine)) == {homes["user 3"]})


def test_a_full_replica_is_not_waited_for_long(web: Web, wait_until: Wait) -> None:
    handle = serve.run(Model.options(max_ongoing_requests=1).bind(), route_prefix=None)
    mine = handle.options(session_id="a")
    home = home_of("a", replicas("Model"))
    assert home is not None
    wait_until(lambda: mine.remote().result() == home)
    held = mine.hold.remote()  # with the credit that came with the result
    actor = replicas("Model")[home]
    wait_until(lambda: skate.get(actor.counts.remote())["ongoing"] == 1)
    assert mine.remote().result() != home
    skate.get(actor.__ray_call__.remote(lambda self: self._code.servable.go.set()))
    assert held.result() == home
    wait_until(lambda: mine.remote().result() == home)


def test_the_session_of_a_dead_replica_moves_and_stays(web: Web, wait_until: Wait) -> None:
    handle = serve.run(Model.options(idempotent=True).bind(), route_prefix=None)
    mine = handle.options(session_id="a")
    home = home_of("a", replicas("Model"))
    assert home is not None
    pid = pid_of(replicas("Model")[home])
    wait_until(lambda: mine.remote().result() == home)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: home not in replicas("Model") and len(replicas("Model")) == 3)
    new = home_of("a", replicas("Model"))
    wait_until(lambda: {mine.remote().result() for _ in range(10)} == {new})


def test_a_session_is_a_str() -> None:
    with pytest.raises(TypeError, match="session_id must be a str"):
        serve.get_deployment_handle("Model", "default", _check_exists=False).options(session_id=5)
