"""Handles and responses."""

from __future__ import annotations

import asyncio
import pickle

import pytest
import ray
from ray import serve
from ray.exceptions import GetTimeoutError, RayTaskError
from ray.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    RayServeException,
    RequestCancelledError,
)
from ray.serve.handle import DeploymentHandle, DeploymentResponse, DeploymentResponseGenerator

from .helpers import deployment, differs, lines, note, opened, until


@deployment(max_ongoing_requests=20)
class Model:
    def __call__(self, value=0, *, plus=0):
        return value + plus

    async def double(self, value):
        return 2 * value

    def fails(self, value=0):
        raise KeyError("mine")

    def count(self, to):
        yield from range(to)

    async def count_async(self, to):
        for one in range(to):
            yield one

    def breaks(self):
        yield 1
        raise KeyError("mine")

    async def wait(self, folder):
        try:
            await opened(folder)
            return "done"
        except asyncio.CancelledError:
            note(folder, "cancelled")
            raise


@pytest.fixture(scope="module")
def handle(run_for_all):
    return run_for_all(Model.bind(), name="handles")


def test_remote_calls_call(handle):
    assert isinstance(handle, DeploymentHandle)
    response = handle.remote(1, plus=2)
    assert isinstance(response, DeploymentResponse)
    assert response.result() == 3


def test_methods(handle):
    assert handle.double.remote(4).result() == 8
    assert handle.options(method_name="double").remote(4).result() == 8


def test_options_return_a_copy(handle):
    handle.options(method_name="double")
    assert handle.remote(4).result() == 4


def test_unknown_options(handle):
    with pytest.raises(TypeError):
        handle.options(colour="red")


def test_names(handle):
    assert (handle.deployment_name, handle.app_name) == ("Model", "handles")
    assert repr(handle) == "DeploymentHandle(deployment='Model')"


def test_handles_can_be_pickled(handle):
    assert pickle.loads(pickle.dumps(handle)).double.remote(1).result() == 2


def test_handles_travel_into_tasks(handle):
    @ray.remote(num_cpus=0)
    def call(handle):
        return handle.double.remote(3).result()

    assert ray.get(call.remote(handle)) == 6


def test_handles_travel_into_actors(handle):
    @ray.remote(num_cpus=0)
    class Caller:
        async def call(self, handle):
            return await handle.double.remote(3)

    assert ray.get(Caller.remote().call.remote(handle)) == 6


def test_results_can_be_asked_for_again(handle):
    response = handle.remote(1)
    assert response.result() == response.result() == 1


def test_a_timeout(handle, tmp_path):
    response = handle.wait.remote(str(tmp_path))
    with pytest.raises(GetTimeoutError) as caught:
        response.result(timeout_s=0.1)
    assert isinstance(caught.value, TimeoutError)
    (tmp_path / "open").touch()
    assert response.result() == "done"


def test_responses_are_awaited(handle):
    async def main():
        return await handle.remote(5)

    assert asyncio.run(main()) == 5


def test_result_is_refused_in_a_loop(handle):
    async def main():
        handle.remote(5).result()

    with pytest.raises(RuntimeError, match="Sync methods should not be called"):
        asyncio.run(main())


def test_exceptions_of_handlers(handle):
    with pytest.raises(KeyError) as caught:
        handle.fails.remote().result()
    assert isinstance(caught.value, RayTaskError)
    assert caught.value.args or "mine" in str(caught.value)


def test_a_missing_method(handle):
    with pytest.raises(RayServeException):
        handle.missing.remote().result()


def test_a_response_as_an_argument_is_its_result(handle):
    assert handle.double.remote(handle.double.remote(1)).result() == 4
    assert handle.remote(1, plus=handle.double.remote(1)).result() == 3


def test_the_failure_of_an_argument_is_that_of_the_call(handle):
    with pytest.raises(KeyError):
        handle.double.remote(handle.fails.remote()).result()


@pytest.mark.parametrize("wrap", [lambda one: [one], lambda one: {"a": one}], ids=["list", "dict"])
def test_a_response_inside_of_an_argument_is_refused(handle, wrap):
    with pytest.raises(RayServeException, match="is not serializable"):
        handle.remote(wrap(handle.remote(1))).result()


def test_cancelling(handle, tmp_path):
    response = handle.wait.remote(str(tmp_path))
    until(lambda: lines(tmp_path) == ["started"])
    assert response.cancel() is None
    assert response.cancelled()
    with pytest.raises(RequestCancelledError) as caught:
        response.result()
    assert isinstance(caught.value, RayServeException)
    assert isinstance(caught.value, ray.exceptions.TaskCancelledError)
    until(lambda: lines(tmp_path) == ["started", "cancelled"])


def _cancel_the_task(handle, folder):
    """Cancel a task that awaits a response whose handler runs."""

    async def main():
        async def call():
            return await handle.wait.remote(str(folder))

        task = asyncio.ensure_future(call())
        await asyncio.to_thread(until, lambda: lines(folder))
        task.cancel()
        await task

    asyncio.run(main())


def test_a_cancelled_task_that_awaits_gets_the_error_of_asyncio(handle, tmp_path):
    with pytest.raises(asyncio.CancelledError):
        _cancel_the_task(handle, tmp_path)
    (tmp_path / "open").touch()


@differs(on="ray", reason="In a driver the request goes on. Here it is cancelled, as with cancel().")
def test_cancelling_the_task_that_awaits_cancels_the_request(handle, tmp_path):
    with pytest.raises(asyncio.CancelledError):
        _cancel_the_task(handle, tmp_path)
    try:
        until(lambda: lines(tmp_path) == ["started", "cancelled"], 10)
    finally:
        (tmp_path / "open").touch()


@pytest.mark.parametrize("method", ["count", "count_async"])
def test_streams(handle, method):
    response = handle.options(stream=True, method_name=method).remote(3)
    assert isinstance(response, DeploymentResponseGenerator)
    assert list(response) == [0, 1, 2]


def test_streams_are_iterated_asynchronously(handle):
    async def main():
        return [one async for one in handle.options(stream=True).count.remote(3)]

    assert asyncio.run(main()) == [0, 1, 2]


def test_streams_are_not_awaited(handle):
    async def main():
        await handle.options(stream=True).count.remote(3)

    with pytest.raises(TypeError):
        asyncio.run(main())


def test_an_exception_comes_after_the_items_before_it(handle):
    response = handle.options(stream=True).breaks.remote()
    assert next(response) == 1
    with pytest.raises(KeyError):
        next(response)


def test_a_generator_needs_stream(handle):
    with pytest.raises(TypeError):
        handle.count.remote(3).result()


def test_stream_needs_a_generator(handle):
    with pytest.raises(TypeError):
        list(handle.options(stream=True).double.remote(3))


def test_object_refs(handle):
    ref = handle.remote(7)._to_object_ref_sync()
    assert isinstance(ref, ray.ObjectRef)
    assert ray.get(ref) == 7


def test_calls_of_a_deleted_deployment(run):
    handle = run(deployment(name="gone")(Model.func_or_class).bind(), name="gone")
    assert handle.remote(1).result() == 1
    serve.delete("gone")

    def refused():
        try:
            handle.remote(1).result(timeout_s=20)
        except DeploymentUnavailableError:
            return True
        except RayServeException:
            return False

    until(refused)


def test_more_than_may_wait_are_refused(run, tmp_path):
    limited = Model.options(name="limited", max_ongoing_requests=1, max_queued_requests=1)
    handle = run(limited.bind(), name="limited")
    running = handle.wait.remote(str(tmp_path))
    until(lambda: lines(tmp_path))
    waiting = [handle.wait.remote(str(tmp_path)) for _ in range(4)]

    def refused():
        found = 0
        for one in waiting:
            try:
                one.result(timeout_s=0.2)
            except BackPressureError:
                found += 1
            except TimeoutError:
                pass
        return found == 3

    until(refused)
    (tmp_path / "open").touch()
    assert running.result() == "done"
