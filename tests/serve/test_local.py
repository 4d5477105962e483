"""Applications in this process: ``_local_testing_mode``, and sessions of ``init(mode="inline")``."""

from __future__ import annotations

import asyncio
import copy
import os
import pickle
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import skate
from skate import serve
from skate.exceptions import GetTimeoutError, RayTaskError
from skate.serve.exceptions import (
    DeploymentUnavailableError,
    RayServeException,
    RequestCancelledError,
)

Run = Callable[..., Any]


@pytest.fixture(params=["local", "inline"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """``serve.run`` in each of the two ways."""
    serve.shutdown()
    skate.shutdown()
    if request.param == "inline":
        skate.init(mode="inline")
        yield serve.run
    else:
        yield lambda *args, **options: serve.run(*args, **options, _local_testing_mode=True)
        assert not skate.is_initialized()
    serve.shutdown()
    skate.shutdown()
    assert "skate-serve" not in [one.name for one in threading.enumerate()]


@serve.deployment(user_config={"offset": 10})
class Inner:
    def __init__(self, factor: int = 1) -> None:
        self.factor = factor
        self.offset = 0
        self.started: list[Any] = []
        self.cancelled = threading.Event()

    def reconfigure(self, config: Any) -> None:
        self.offset = config["offset"]

    def __call__(self, number: int) -> int:
        return self.factor * number + self.offset

    async def async_call(self, number: int) -> int:
        return self.factor * number

    def fails(self) -> None:
        raise KeyError("x")

    def where(self) -> tuple[str, str, int, Any]:
        found = serve.get_replica_context()
        return found.app_name, found.deployment, os.getpid(), found.servable_object is self

    async def waits(self) -> None:
        self.started.append(asyncio.current_task())
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    def letters(self, text: str) -> Iterator[str]:
        yield from text

    async def async_letters(self, text: str) -> Any:
        for one in text:
            yield one
        raise KeyError("the end")

    def endless(self) -> Iterator[int]:
        number = 0
        try:
            while True:
                yield number
                number += 1
        finally:
            self.cancelled.set()

    def is_cancelled(self) -> bool:
        return self.cancelled.wait(60)

    def has_started(self) -> int:
        return len(self.started)


@serve.deployment
class Outer:
    def __init__(self, inner: Any, more: Any) -> None:
        self.inner = inner
        self.more = more["handle"]

    def __call__(self, number: int) -> int:
        return int(self.inner.remote(number).result()) + 1

    async def both(self, number: int) -> list[int]:
        first = self.inner.async_call.remote(number)
        return list(await asyncio.gather(first, self.more.remote(first)))

    async def waits(self) -> None:
        await self.inner.waits.remote()

    async def spelled(self, text: str) -> list[str]:
        return [one async for one in self.inner.options(stream=True).letters.remote(text)]

    def named(self) -> Any:
        return serve.get_deployment_handle("Inner").remote(1).result()


def outer() -> Any:
    return Outer.bind(Inner.bind(2), {"handle": Inner.options(name="More").bind(3)})


def test_calls_and_composition(run: Run) -> None:
    handle = run(outer(), name="app")
    assert isinstance(handle, serve.handle.DeploymentHandle)
    assert (handle.deployment_name, handle.app_name) == ("Outer", "app")
    response = handle.remote(3)
    assert (response.result(), response.result()) == (17, 17)
    assert handle.both.remote(1).result() == [2, 16]
    assert handle.options(method_name="spelled").remote("ab").result() == ["a", "b"]
    assert handle.named.remote().result() == 12

    async def awaits() -> Any:
        return await asyncio.gather(handle.remote(1), handle.remote(handle.remote(1)))

    assert asyncio.run(awaits()) == [13, 37]


def test_a_function(run: Run) -> None:
    @serve.deployment
    def double(number: int) -> int:
        return 2 * number

    handle = run(double.bind())
    assert handle.remote(4).result() == 8


def test_exceptions_arrive_as_they_were_raised(run: Run) -> None:
    handle = run(Inner.bind())
    with pytest.raises(KeyError) as caught:
        handle.fails.remote().result()
    assert not isinstance(caught.value, RayTaskError)
    with pytest.raises(KeyError):
        handle.remote(handle.fails.remote()).result()
    with pytest.raises(RayServeException, match="'nothing' that does not exist"):
        handle.nothing.remote().result()
    with pytest.raises(TypeError, match="is a generator"):
        handle.letters.remote("a").result()
    with pytest.raises(RuntimeError, match="has no refs"):
        handle.remote(1)._to_object_ref_sync()

    @serve.deployment
    class Broken:
        def __init__(self) -> None:
            raise KeyError("no weights")

    with pytest.raises(KeyError, match="no weights"):
        run(Broken.bind(), name="broken")
    assert "broken" not in serve.status().applications


def test_the_context_is_there_inside_only(run: Run) -> None:
    handle = run(Inner.bind(), name="app")
    assert handle.where.remote().result() == ("app", "Inner", os.getpid(), True)
    with pytest.raises(RayServeException, match="may only be called from within"):
        serve.get_replica_context()


def test_streams(run: Run) -> None:
    handle = run(Inner.bind()).options(stream=True)
    assert [*handle.letters.remote("abc")] == ["a", "b", "c"]
    found = []
    with pytest.raises(KeyError, match="the end"):
        for one in handle.async_letters.remote("ab"):
            found.append(one)
    assert found == ["a", "b"]

    async def take() -> list[str]:
        return [one async for one in handle.letters.remote("xy")]

    assert asyncio.run(take()) == ["x", "y"]
    with pytest.raises(TypeError, match="no generator"):
        next(handle.remote(1))
    endless = handle.endless.remote()
    assert [next(endless), next(endless)] == [0, 1]
    endless.cancel()
    with pytest.raises(RequestCancelledError):
        while True:
            next(endless)
    assert serve.get_app_handle("default").is_cancelled.remote().result()


def test_cancel_reaches_what_was_called(run: Run, wait_until: Callable[[Callable[[], object]], None]) -> None:
    handle = run(outer())
    inner = serve.get_deployment_handle("Inner", "default")
    response = handle.waits.remote()
    wait_until(lambda: inner.has_started.remote().result())
    with pytest.raises(GetTimeoutError):
        response.result(timeout_s=0)
    response.cancel()
    with pytest.raises(RequestCancelledError):
        response.result()
    assert inner.is_cancelled.remote().result()


def test_batches_and_models(run: Run) -> None:
    @serve.deployment
    class Model:
        @serve.batch(max_batch_size=3, batch_wait_timeout_s=60)
        async def together(self, numbers: list[int]) -> list[Any]:
            return [(number, len(numbers)) for number in numbers]

        @serve.multiplexed(max_num_models_per_replica=1)
        async def load(self, model: str) -> str:
            return model.upper()

        async def model(self) -> str:
            return str(await self.load(serve.get_multiplexed_model_id()))

    handle = run(Model.bind())
    responses = [handle.together.remote(number) for number in range(3)]
    assert [one.result() for one in responses] == [(0, 3), (1, 3), (2, 3)]
    assert handle.options(multiplexed_model_id="a").model.remote().result() == "A"


def test_arguments_are_not_copied(run: Run) -> None:
    lock = threading.Lock()  # cannot be pickled

    @serve.deployment
    class Keeps:
        def __init__(self, what: Any) -> None:
            self.what = what

        def same(self, what: Any) -> bool:
            return what is self.what

    assert run(Keeps.bind(lock)).same.remote(lock).result() is True


def test_status_delete_and_handles_by_name(run: Run) -> None:
    ended = []

    @serve.deployment
    class Ends:
        def __del__(self) -> None:
            ended.append(1)

    run(Ends.bind(), name="ends")
    handle = run(outer(), name="app")
    status = serve.status().applications["app"]
    assert (status.status, sorted(status.deployments)) == ("RUNNING", ["Inner", "More", "Outer"])
    assert serve.get_app_handle("app") == handle
    assert serve.get_deployment_handle("More", "app").remote(1).result() == 13
    with pytest.raises(KeyError):
        serve.get_deployment_handle("Nothing", "app")
    # A handle may be copied and pickled; it is one of this process.
    assert (
        copy.deepcopy(handle).remote(1).result()
        == pickle.loads(pickle.dumps(handle)).remote(1).result()
        == 13
    )
    serve.delete("ends")
    assert ended == [1]
    serve.delete("app")
    assert serve.status().applications == {}
    with pytest.raises(DeploymentUnavailableError):
        handle.remote(1).result()
    with pytest.raises(RayServeException):
        serve.get_app_handle("app")


def test_an_older_handle_calls_its_own_application(run: Run) -> None:
    first, second = run(Inner.bind(2)), run(Inner.bind(3))
    assert (first.remote(1).result(), second.remote(1).result()) == (12, 13)
    assert serve.get_app_handle("default").remote(1).result() == 13


def test_several_at_once() -> None:
    targets = [serve.RunTarget(Inner.bind(number), str(number), None) for number in (1, 2)]
    handles = serve.run_many(targets, _local_testing_mode=True)
    assert [one.remote(1).result() for one in handles] == [11, 12]
    serve.shutdown()


def test_an_inline_session_has_no_http_and_takes_refs() -> None:
    skate.init(mode="inline")
    serve.start(http_options={"port": 1})
    handle = serve.run(Inner.bind())
    assert serve.status().proxies == {}
    assert handle.remote(skate.put(5)).result() == 15

    @skate.remote
    def task(called: Any) -> int:
        return int(called.remote(2).result())

    assert skate.get(task.remote(handle)) == 12
    skate.shutdown()
    assert serve.status().applications == {}
    serve.shutdown()


def test_fastapi_methods_are_called_by_handles(run: Run) -> None:
    fastapi = pytest.importorskip("fastapi")
    app = fastapi.FastAPI()

    @serve.deployment
    @serve.ingress(app)
    class Door:
        @app.get("/double")
        def double(self, number: int) -> int:
            return 2 * number

    assert run(Door.bind()).double.remote(4).result() == 8


def test_a_canary_cannot_be_had() -> None:
    """It would replace the present version."""
    handle = serve.run(Inner.bind(1), name="app", _local_testing_mode=True)
    with pytest.raises(ValueError, match="canary=5 of application 'app' cannot be had in local testing mode"):
        serve.run(Inner.bind(1), name="app", canary=5, _local_testing_mode=True)
    assert handle is not None and "app" in serve.status().applications
    serve.delete("app")
