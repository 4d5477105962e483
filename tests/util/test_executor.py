"""Executor: what it has in common with ProcessPoolExecutor, on both; then what is its own."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import operator
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from typing import Any

import pytest

import skate
from skate.exceptions import RayTaskError
from skate.util import Executor

from .gate import Gate

pytestmark = pytest.mark.usefixtures("runtime")


class Plain(Exception):
    """Travels well."""


def square(x: int) -> int:
    return x * x


def fail(x: int) -> None:
    raise Plain(f"no {x}")


def pass_gate(gate: Any, x: int) -> int:
    skate.get(gate.wait.remote())
    return x


def spawning(max_workers: int) -> concurrent.futures.Executor:
    context = multiprocessing.get_context("spawn")
    return concurrent.futures.ProcessPoolExecutor(max_workers, mp_context=context)


@pytest.fixture(scope="module", params=[Executor, spawning], ids=["skate", "processes"])
def make(request: pytest.FixtureRequest) -> Callable[[int], concurrent.futures.Executor]:
    made: Callable[[int], concurrent.futures.Executor] = request.param
    return made


@pytest.fixture(scope="module")
def executor(make: Callable[[int], concurrent.futures.Executor], runtime: None) -> Iterator[Any]:
    with make(2) as made:
        yield made


class TestCommon:
    """Holds for ProcessPoolExecutor too."""

    def test_submit(self, executor: Any) -> None:
        future = executor.submit(pow, 2, exp=10)
        assert isinstance(future, Future)
        assert future.result(3600) == 1024
        assert future.done()
        assert not future.cancel()

    def test_errors_keep_their_type(self, executor: Any) -> None:
        future = executor.submit(fail, 3)
        with pytest.raises(Plain, match="no 3") as raised:
            future.result(3600)
        assert type(raised.value) is Plain
        assert "in fail" in str(raised.value.__cause__)

    @pytest.mark.parametrize("chunksize", [1, 7])
    def test_map(self, executor: Any, chunksize: int) -> None:
        assert list(executor.map(square, range(50), chunksize=chunksize)) == [x * x for x in range(50)]
        assert list(executor.map(pow, [2, 3, 4], [3, 2], chunksize=chunksize)) == [8, 9]
        assert list(executor.map(square, [], chunksize=chunksize)) == []

    def test_map_with_an_error(self, executor: Any) -> None:
        results = executor.map(operator.floordiv, [6, 6, 6], [3, 0, 1])
        assert next(results) == 2
        with pytest.raises(ZeroDivisionError):
            next(results)

    def test_map_refuses_at_once(self, executor: Any) -> None:
        with pytest.raises(ValueError):
            executor.map(square, [1], chunksize=0)

    def test_the_functions_of_the_library(self, executor: Any) -> None:
        futures = [executor.submit(square, i) for i in range(20)]
        done = concurrent.futures.as_completed(futures, timeout=3600)
        assert sorted(future.result() for future in done) == [x * x for x in range(20)]
        assert concurrent.futures.wait(futures).not_done == set()

    def test_callbacks(self, executor: Any) -> None:
        got: Future[int] = Future()
        executor.submit(square, 3).add_done_callback(lambda future: got.set_result(future.result()))
        assert got.result(3600) == 9

    def test_shutdown(self, make: Callable[[int], concurrent.futures.Executor]) -> None:
        executor = make(1)
        futures = [executor.submit(square, i) for i in range(20)]
        executor.shutdown()
        assert all(future.done() for future in futures)
        with pytest.raises(RuntimeError):
            executor.submit(square, 1)


def test_calls_that_wait_can_be_cancelled() -> None:
    gate = Gate.remote()
    with Executor(max_workers=1) as executor:
        running = executor.submit(pass_gate, gate, 1)
        waiting = executor.submit(square, 2)
        later = executor.submit(square, 3)
        assert running.running()
        assert not running.cancel()
        assert waiting.cancel()
        gate.open.remote()
        assert [running.result(), later.result()] == [1, 9]
    assert waiting.cancelled()


def test_shutdown_can_cancel() -> None:
    gate = Gate.remote()
    executor = Executor(max_workers=1)
    running = executor.submit(pass_gate, gate, 1)
    waiting = [executor.submit(square, i) for i in range(5)]
    executor.shutdown(wait=False, cancel_futures=True)
    for future in waiting:
        with pytest.raises(CancelledError):
            future.result()
    gate.open.remote()
    assert running.result() == 1
    executor.shutdown()


def test_a_map_that_is_left_cancels_the_rest() -> None:
    gate = Gate.remote()
    with Executor(max_workers=1) as executor:
        results = executor.map(pass_gate, [gate] * 100, range(100), timeout=0)
        with pytest.raises(concurrent.futures.TimeoutError):
            next(results)
        gate.open.remote()
    arrived = skate.get(gate.__ray_call__.remote(lambda gate: gate.arrived))
    assert arrived <= 1


def test_closures_and_refs() -> None:
    with Executor() as executor:
        factor = 3
        first = executor.submit(lambda x: x * factor, 2)
        first.result()
        factor = 5
        assert executor.submit(lambda x: x * factor, skate.put(2)).result() == 10


def test_an_argument_that_cannot_be_pickled() -> None:
    import threading

    with Executor(1) as executor:
        future = executor.submit(square, threading.Lock())
        with pytest.raises(TypeError, match="lock"):
            future.result(3600)
        assert executor.submit(square, 3).result() == 9


def test_options_of_the_tasks() -> None:
    with Executor(ray_remote_args={"name": "special"}) as executor:
        error = executor.submit(fail, 1).exception()
    assert error is not None
    assert isinstance(error.__cause__, RayTaskError)
    assert error.__cause__.function_name == "special"
    with pytest.raises(ValueError):
        Executor(0)
    with pytest.raises(ValueError):
        Executor(ray_remote_args={"no_such_option": 1})
    with pytest.raises(TypeError):
        Executor().map(square, [1], no_such_argument=1)
