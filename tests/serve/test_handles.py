"""Handles: calls, streams, cancelling, composition, errors."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import numpy as np
import pytest

import skate
from skate import serve
from skate.exceptions import GetTimeoutError, RayTaskError, TaskCancelledError
from skate.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    RayServeException,
    ReplicaUnavailableError,
    RequestCancelledError,
)
from skate.serve.handle import DeploymentHandle, DeploymentResponse

from .conftest import Web
from .test_http import counts

Wait = Callable[[Callable[[], object]], None]


@serve.deployment(max_ongoing_requests=10)
class Worker:
    def __init__(self, offset: int = 0) -> None:
        self.offset = offset
        self.cancelled: list[str] = []
        self.go = threading.Event()

    def __call__(self, number: int) -> int:
        return number + self.offset

    async def later(self, number: int) -> int:
        await asyncio.sleep(0)
        return number + self.offset

    async def fails(self, *_: Any) -> None:
        raise KeyError("the user's")

    def numbers(self, count: int) -> Iterator[int]:
        yield from range(count)

    async def numbers_then_error(self, count: int) -> AsyncIterator[int]:
        for number in range(count):
            yield number
        raise ValueError("after them")

    async def waits(self, name: str) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.append(name)
            raise

    def which(self) -> list[str]:
        return self.cancelled

    def blocks(self) -> int:
        self.go.wait()
        return 1

    def lets_go(self) -> None:
        self.go.set()

    def pid(self) -> int:
        return os.getpid()

    def lock(self) -> Any:
        return threading.Lock()

    def size(self, array: np.ndarray[Any, Any]) -> int:
        return int(array.nbytes)

    def make(self, size: int) -> np.ndarray[Any, Any]:
        return np.zeros(size, np.uint8)


#: Its handler may block for ever.
BLOCKED = Worker.options(max_ongoing_requests=1, graceful_shutdown_timeout_s=0.1)


def run(application: Any, **options: Any) -> DeploymentHandle:
    return serve.run(application, route_prefix=None, **options)


def test_calls_of_methods(web: Web) -> None:
    handle = run(Worker.bind(10))
    response = handle.remote(1)
    assert isinstance(response, DeploymentResponse)
    assert [response.result(), response.result(timeout_s=5)] == [11, 11]
    assert handle.later.remote(2).result() == 12
    assert handle.options(method_name="later").remote(number=3).result() == 13
    assert repr(handle) == "DeploymentHandle(deployment='Worker')"
    assert (handle.deployment_name, handle.app_name) == ("Worker", "default")
    assert sorted(one.result() for one in [handle.remote(n) for n in range(50)]) == [*range(10, 60)]


def test_errors_are_those_of_the_user(web: Web) -> None:
    handle = run(Worker.bind())
    with pytest.raises(KeyError, match="the user's") as caught:
        handle.fails.remote().result()
    assert isinstance(caught.value, RayTaskError)
    with pytest.raises(RayServeException, match="Tried to call a method 'nothing' that does not exist"):
        handle.nothing.remote().result()
    with pytest.raises(TypeError, match="no option 'wrong'"):
        handle.options(wrong=1)
    by_reference = handle.options(_by_reference=True)
    assert by_reference.remote(1).result() == handle.remote(1).result(), "it has no effect"
    with pytest.raises(NotImplementedError, match="choose_replica"):
        _ = handle.choose_replica


def test_results_that_cannot_be_sent_use_up_no_slot(web: Web) -> None:
    handle = run(Worker.options(max_ongoing_requests=2).bind())
    for _ in range(6):
        with pytest.raises(RayTaskError):
            handle.lock.remote().result(timeout_s=60)
    assert handle.remote(1).result(timeout_s=60) == 1


def test_in_coroutines(web: Web) -> None:
    handle = run(Worker.bind(1))

    async def main() -> list[int]:
        with pytest.raises(RuntimeError, match="Sync methods should not be called"):
            handle.remote(1).result()
        with pytest.raises(KeyError):
            await handle.fails.remote()
        found = await asyncio.gather(*(handle.remote(number) for number in range(20)))
        found += [number async for number in handle.options(stream=True).numbers.remote(3)]
        return found

    assert asyncio.run(main()) == [*range(1, 21), 0, 1, 2]


def test_streams(web: Web) -> None:
    handle = run(Worker.bind())
    streaming = handle.options(stream=True)
    assert [*streaming.numbers.remote(5)] == [0, 1, 2, 3, 4]
    items = streaming.numbers_then_error.remote(2)
    assert [next(items), next(items)] == [0, 1]
    with pytest.raises(ValueError, match="after them"):
        next(items)
    with pytest.raises(TypeError, match="call it by `handle.options\\(stream=True\\)`"):
        handle.numbers.remote(3).result()
    with pytest.raises(TypeError, match="it is no generator"):
        next(streaming.later.remote(3))
    with pytest.raises(TypeError):
        items.result()


def test_a_response_as_an_argument_is_its_result(web: Web) -> None:
    handle = run(Worker.bind(1))
    assert handle.remote(handle.remote(handle.remote(0))).result() == 3
    assert handle.later.remote(number=handle.remote(1)).result() == 3
    assert handle.size.remote(handle.make.remote(5_000_000)).result() == 5_000_000
    assert handle.remote(skate.put(5)).result() == 6
    with pytest.raises(KeyError, match="the user's"):
        handle.remote(handle.fails.remote()).result()
    with pytest.raises(RayServeException, match="not serializable"):
        handle.remote([handle.remote(1)]).result()


def test_refs_of_results(web: Web) -> None:
    handle = run(Worker.bind(1))
    assert skate.get(handle.remote(1)._to_object_ref_sync()) == 2

    async def main() -> Any:
        return await (await handle.remote(2)._to_object_ref())

    assert asyncio.run(main()) == 3


def test_cancelling(web: Web, wait_until: Wait) -> None:
    handle = run(Worker.bind())
    response = handle.waits.remote("a")
    wait_until(lambda: counts("Worker")["ongoing"] == 1)
    response.cancel()
    assert response.cancelled()
    with pytest.raises(RequestCancelledError) as caught:
        response.result()
    assert isinstance(caught.value, TaskCancelledError)
    assert handle.which.remote().result() == ["a"]
    done = handle.remote(1)
    assert done.result() == 1
    done.cancel()
    assert done.result() == 1

    async def main() -> None:
        task = asyncio.ensure_future(handle.waits.remote("b")._outcome())
        await asyncio.sleep(0)  # it awaits from here on
        while counts("Worker")["ongoing"] != 1:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    wait_until(lambda: handle.which.remote().result() == ["a", "b"])
    wait_until(lambda: counts("Worker")["ongoing"] == 0)


def test_one_that_waits_never_runs_when_it_is_cancelled(web: Web, wait_until: Wait) -> None:
    handle = run(Worker.options(max_ongoing_requests=1).bind())
    first = handle.waits.remote("first")
    wait_until(lambda: counts("Worker")["ongoing"] == 1)
    second = handle.waits.remote("second")
    second.cancel()
    with pytest.raises(RequestCancelledError):
        second.result()
    first.cancel()
    assert handle.which.remote().result() == ["first"]


def test_a_time_limit_of_result_leaves_the_request(web: Web, wait_until: Wait) -> None:
    handle = run(Worker.bind())
    response = handle.blocks.remote()
    with pytest.raises(GetTimeoutError) as caught:
        response.result(timeout_s=0.05)
    assert isinstance(caught.value, TimeoutError)
    handle.lets_go.remote().result()
    assert response.result() == 1


def test_a_full_queue_refuses(web: Web, wait_until: Wait) -> None:
    handle = run(BLOCKED.options(max_queued_requests=2).bind())
    first = handle.blocks.remote()
    wait_until(lambda: counts("Worker")["ongoing"] == 1)
    waiting = [handle.remote(number) for number in range(2)]
    with pytest.raises(BackPressureError, match="num_queued_requests=2, max_queued_requests=2"):
        handle.remote(3).result()
    for one in waiting:
        one.cancel()
    first.cancel()


def test_handles_travel(web: Web) -> None:
    handle = run(Worker.bind(1))
    assert pickle.loads(pickle.dumps(handle)) == handle

    @skate.remote
    def calls(handle: DeploymentHandle) -> int:
        return int(handle.remote(1).result())

    assert skate.get(calls.remote(handle)) == 2


@serve.deployment(max_ongoing_requests=50)
class Pipeline:
    def __init__(self, first: DeploymentHandle, others: dict[str, list[DeploymentHandle]]) -> None:
        self.first = first
        self.others = others["others"]

    async def __call__(self, number: int) -> list[int]:
        once = self.first.remote(number)
        return [await once, *[await one.remote(once) for one in self.others]]

    def plain(self, number: int) -> int:
        return int(self.first.remote(number).result())

    async def waits(self) -> None:
        self.mine = [self.first.waits.remote("a"), self.first.waits.remote("b")]
        await asyncio.gather(*(one._outcome() for one in self.mine))

    async def leaves_them(self) -> None:
        self.mine = [self.first.waits.remote(str(number)) for number in range(20)]
        await asyncio.Event().wait()

    async def which(self) -> list[str]:
        return list(await self.first.which.remote())


def test_composition(web: Web) -> None:
    shared = Worker.bind(1)
    handle = run(Pipeline.bind(shared, {"others": [Worker.bind(10), shared]}))
    assert handle.remote(0).result() == [1, 11, 2]
    assert handle.plain.remote(5).result() == 6
    assert sorted(serve.status().applications["default"].deployments) == ["Pipeline", "Worker", "Worker_1"]
    assert serve.get_deployment_handle("Worker_1", "default").remote(0).result() == 10
    assert serve.get_app_handle("default").remote(0).result() == [1, 11, 2]
    with pytest.raises(KeyError):
        serve.get_deployment_handle("Nothing", "default")
    with pytest.raises(RayServeException):
        serve.get_deployment_handle("Worker")
    with pytest.raises(RayServeException, match="'nothing' does not exist"):
        serve.get_app_handle("nothing")


@pytest.mark.parametrize("method", ["waits", "leaves_them"])
def test_a_cancelled_request_cancels_all_that_it_called(web: Web, wait_until: Wait, method: str) -> None:
    handle = run(Pipeline.bind(Worker.options(max_ongoing_requests=3).bind(), {"others": []}))
    response = getattr(handle, method).remote()
    wait_until(lambda: counts("Worker")["ongoing"] >= 2)
    response.cancel()
    with pytest.raises(RequestCancelledError):
        response.result()
    wait_until(lambda: counts("Worker")["ongoing"] == 0)
    cancelled = handle.which.remote().result()
    assert len(cancelled) == (2 if method == "waits" else 3), "those that waited never ran"


def test_a_dead_replica_fails_what_it_had_and_is_replaced(web: Web, wait_until: Wait) -> None:
    handle = run(Worker.bind())
    pid = handle.pid.remote().result()
    response = handle.waits.remote("a")
    wait_until(lambda: counts("Worker")["ongoing"] == 1)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(ReplicaUnavailableError, match="SIGKILL"):
        response.result()
    assert handle.pid.remote().result() != pid


def test_after_the_end(web: Web) -> None:
    handle = run(Worker.bind())
    assert handle.remote(1).result() == 1
    serve.delete("default")
    with pytest.raises(DeploymentUnavailableError, match="Deployment\\(name='Worker', app='default'\\)"):
        handle.remote(1).result()
    run(Worker.bind(5))
    assert handle.remote(1).result() == 6
