"""Calls of handles whose arguments are refs of results that are not there yet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import skate
from skate import serve
from skate.serve.exceptions import RequestCancelledError
from skate.serve.handle import DeploymentHandle

from .conftest import Web
from .processes import replicas

Wait = Callable[[Callable[[], object]], None]


@skate.remote
class Gate:
    """Has results once it is opened."""

    def __init__(self) -> None:
        self.is_open = asyncio.Event()

    async def result(self, value: Any) -> Any:
        await self.is_open.wait()
        if isinstance(value, Exception):
            raise value
        return value

    async def open(self) -> None:
        self.is_open.set()


@serve.deployment(max_ongoing_requests=1)
class Adds:
    def __init__(self, offset: int) -> None:
        self.offset = offset

    def __call__(self, *numbers: int) -> int:
        return sum(numbers) + self.offset

    def counts(self, last: int) -> Iterator[int]:
        yield from range(self.offset, last)


@serve.deployment
class Front:
    """Calls another deployment with a ref."""

    def __init__(self, inner: DeploymentHandle) -> None:
        self.inner = inner

    async def __call__(self, refs: list[Any]) -> int:
        return int(await self.inner.remote(refs[0]))


def run(offset: int) -> DeploymentHandle:
    return serve.run(Adds.bind(offset), route_prefix=None)


def test_an_update_loses_no_call_that_waits_for_a_ref(web: Web, wait_until: Wait) -> None:
    """The runtime would keep it here until the ref is ready; the replica, which knew nothing of it, would
    end as an idle one."""
    handle, gate = run(10), Gate.remote()
    assert handle.remote(1).result() == 11  # credits and tickets are here
    response = handle.remote(gate.result.remote(1), 2)
    stream = handle.options(method_name="counts", stream=True).remote(gate.result.remote(102))
    (before,) = replicas("Adds")
    run(100)
    wait_until(lambda: before not in replicas("Adds"))
    gate.open.remote()
    assert response.result() == 103
    assert list(stream) == [100, 101]


def test_a_call_that_waits_for_a_ref_holds_no_slot(web: Web) -> None:
    handle, gate = run(10), Gate.remote()
    responses = [handle.remote(gate.result.remote(number)) for number in range(40)]
    assert handle.remote(1).result() == 11
    gate.open.remote()
    assert [one.result() for one in responses] == [*range(10, 50)]


def test_a_call_that_waits_for_a_ref_is_cancelled_at_once(web: Web) -> None:
    handle, gate = run(10), Gate.remote()
    response = handle.remote(gate.result.remote(1))
    stream = handle.options(method_name="counts", stream=True).remote(gate.result.remote(1))
    for one in (response, stream):
        one.cancel()
    with pytest.raises(RequestCancelledError):
        response.result()
    with pytest.raises(RequestCancelledError):
        next(stream)
    gate.open.remote()
    assert handle.remote(1).result() == 11


def test_a_ref_of_an_error_fails_the_call(web: Web) -> None:
    handle, gate = run(10), Gate.remote()
    response = handle.remote(gate.result.remote(KeyError("the user's")))
    gate.open.remote()
    with pytest.raises(KeyError, match="the user's"):
        response.result()


def test_refs_of_others_are_waited_for_in_replicas(web: Web) -> None:
    """The replica that calls has borrowed them."""
    front = serve.run(Front.bind(Adds.bind(10)), route_prefix=None)
    gate = Gate.remote()
    response = front.remote([gate.result.remote(1)])
    ready = front.remote([skate.put(2)])
    assert ready.result() == 12
    gate.open.remote()
    assert response.result() == 11


def test_local_applications_wait_for_refs(web: Web) -> None:
    handle = serve.run(Adds.bind(10), name="local", _local_testing_mode=True)
    gate = Gate.remote()
    response, cancelled = handle.remote(gate.result.remote(1)), handle.remote(gate.result.remote(2))
    cancelled.cancel()
    with pytest.raises(RequestCancelledError):
        cancelled.result()
    gate.open.remote()
    assert response.result() == 11
    serve.delete("local")
