"""Pool: what it has in common with multiprocessing.Pool, on both; then what is its own."""

from __future__ import annotations

import functools
import gc
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing import TimeoutError
from typing import Any

import pytest

import skate
from skate.exceptions import ActorDiedError
from skate.util.multiprocessing import JoinableQueue, Pool
from skate.util.multiprocessing import TimeoutError as PoolTimeoutError
from skate.util.multiprocessing.pool import AsyncResult, IMapIterator

from .gate import Gate

pytestmark = pytest.mark.usefixtures("runtime")

NAME = "pool-test"
state: dict[str, Any] = {}


class Odd(Exception):
    """Has a constructor that pickle does not know how to call."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} and {second}")


class Plain(Exception):
    """Travels well."""


def square(x: int) -> int:
    return x * x


def add(x: int, y: int = 0, *, z: int = 0) -> int:
    return x + y + z


def fail_at(bad: int, x: int) -> int:
    if x == bad:
        raise Plain(f"no {x}")
    return x


def fail_oddly(x: int) -> None:
    raise Odd(x, x)


def stop(x: int) -> None:
    raise StopIteration


def set_state(value: Any) -> None:
    state["value"] = value


def get_state(_: Any = None) -> Any:
    return state.get("value")


def pid(_: Any = None) -> int:
    return os.getpid()


def pass_gate(gate: Any, x: int) -> int:
    skate.get(gate.wait.remote())
    return x


def make_lock(x: int) -> Any:
    return threading.Lock()


def leave(x: int) -> int:
    if x < 0:
        sys.exit(3)
    return x


Maker = Callable[..., Any]
MAKERS: dict[str, Maker] = {
    "skate": Pool,
    "multiprocessing": multiprocessing.get_context("spawn").Pool,
}


@pytest.fixture(scope="module", params=["skate", "multiprocessing"])
def make(request: pytest.FixtureRequest) -> Maker:
    """Makes a pool of either kind."""
    return MAKERS[request.param]


@pytest.fixture(scope="module")
def pool(make: Maker, runtime: None) -> Iterator[Any]:
    """One pool of each kind, for tests that leave it as it was."""
    made = make(2)
    yield made
    made.close()
    made.join()


@pytest.fixture
def mine() -> Iterator[Pool]:
    """A pool of ours."""
    with Pool(2) as made:
        yield made


class TestCommon:
    """Holds for multiprocessing.Pool too."""

    @pytest.mark.parametrize("chunksize", [None, 1, 7, 1000])
    @pytest.mark.parametrize("make_items", [range, lambda n: list(range(n)), lambda n: iter(range(n))])
    def test_map(self, pool: Any, make_items: Callable[[int], Any], chunksize: int | None) -> None:
        for count in (0, 1, 100):
            assert pool.map(square, make_items(count), chunksize) == [x * x for x in range(count)]

    def test_map_of_what_is_no_list(self, pool: Any) -> None:
        assert pool.map(str.upper, "abc") == ["A", "B", "C"]
        assert sorted(pool.map(square, {1, 2, 3})) == [1, 4, 9]
        assert sorted(pool.map(square, {1: "a", 2: "b"})) == [1, 4]

    @pytest.mark.parametrize("chunksize", [None, 1, 7])
    def test_starmap(self, pool: Any, chunksize: int | None) -> None:
        assert pool.starmap(add, [(i, 1) for i in range(50)], chunksize) == list(range(1, 51))

    def test_apply(self, pool: Any) -> None:
        assert pool.apply(add, (1, 2), {"z": 3}) == 6
        assert pool.apply(get_state) is None

    def test_async(self, pool: Any) -> None:
        results = [
            pool.apply_async(add, (1, 2), {"z": 3}),
            pool.map_async(square, range(5)),
            pool.starmap_async(add, [(1, 2), (3, 4)], 1),
        ]
        assert [result.get(60) for result in results] == [6, [0, 1, 4, 9, 16], [3, 7]]
        assert all(result.ready() and result.successful() for result in results)

    def test_many_async(self, pool: Any) -> None:
        results = [pool.apply_async(square, (i,)) for i in range(500)]
        assert [result.get() for result in results] == [i * i for i in range(500)]

    @pytest.mark.parametrize("chunksize", [1, 7])
    def test_imap(self, pool: Any, chunksize: int) -> None:
        assert list(pool.imap(square, range(200), chunksize)) == [x * x for x in range(200)]
        assert sorted(pool.imap_unordered(square, range(200), chunksize)) == [x * x for x in range(200)]

    def test_nothing_to_do(self, pool: Any) -> None:
        assert list(pool.imap(square, [])) == []
        assert pool.starmap(add, []) == []
        empty = pool.map_async(square, [])
        assert empty.ready()
        assert empty.get() == []

    def test_errors_keep_their_type_and_have_the_remote_traceback(self, pool: Any) -> None:
        for call in (
            lambda: pool.apply(fail_at, (1, 1)),
            lambda: pool.map(functools.partial(fail_at, 1), range(10)),
            lambda: pool.starmap(fail_at, [(0, 1), (1, 1)]),
        ):
            with pytest.raises(Plain, match="no 1") as raised:
                call()
            assert type(raised.value) is Plain
            assert "fail_at" in str(raised.value.__cause__)

    def test_async_errors(self, pool: Any) -> None:
        result = pool.apply_async(fail_at, (1, 1))
        result.wait(3600)
        assert result.ready()
        assert not result.successful()
        with pytest.raises(Plain):
            result.get()

    def test_imap_goes_on_after_an_error(self, pool: Any) -> None:
        results = pool.imap(functools.partial(fail_at, 2), range(5))
        assert [next(results), next(results)] == [0, 1]
        with pytest.raises(Plain, match="no 2"):
            next(results)
        assert list(results) == [3, 4]

    def test_what_the_iterable_raises(self, pool: Any) -> None:
        def items() -> Iterator[int]:
            yield 1
            raise KeyError("broken")

        with pytest.raises(KeyError, match="broken"):
            pool.map(square, items())
        results = pool.imap(square, items())
        assert next(results) == 1
        with pytest.raises(KeyError, match="broken"):
            next(results)

    def test_a_result_that_cannot_be_pickled(self, pool: Any) -> None:
        with pytest.raises(Exception, match="lock"):
            pool.apply(make_lock, (1,))
        assert pool.apply(square, (3,)) == 9

    def test_an_argument_that_cannot_be_pickled(self, pool: Any) -> None:
        result = pool.map_async(square, [threading.Lock()])
        with pytest.raises(TypeError, match="lock"):
            result.get(60)
        assert pool.map(square, [3]) == [9]

    def test_callbacks(self, pool: Any) -> None:
        got: list[Any] = []
        result = pool.apply_async(add, (1, 2), callback=got.append, error_callback=pytest.fail)
        assert result.get(60) == 3
        assert got == [3]
        pool.map_async(square, range(3), callback=got.append).wait(3600)
        pool.starmap_async(add, [(1, 2)], callback=got.append).wait(3600)
        assert got == [3, [0, 1, 4], [3]]

    def test_error_callbacks(self, pool: Any) -> None:
        got: list[Any] = []
        result = pool.map_async(
            functools.partial(fail_at, 1), range(9), 1, callback=pytest.fail, error_callback=got.append
        )
        result.wait(3600)
        assert [str(error) for error in got] == ["no 1"]
        assert not result.successful()

    def test_a_callback_can_submit(self, pool: Any) -> None:
        more: list[Any] = []
        pool.apply_async(square, (2,), callback=lambda x: more.append(pool.apply_async(square, (x,)))).wait(
            60
        )
        assert more[0].get(60) == 16

    def test_not_ready_yet(self, pool: Any) -> None:
        result = pool.apply_async(time.sleep, (0.2,))
        with pytest.raises(ValueError, match="not ready"):
            result.successful()
        with pytest.raises(TimeoutError):
            result.get(0)
        result.wait(0)
        assert result.get(60) is None

    def test_imap_timeout(self, pool: Any) -> None:
        results = pool.imap(time.sleep, [0.2])
        with pytest.raises(TimeoutError):
            results.next(timeout=0)
        assert results.next(60) is None
        with pytest.raises(StopIteration):
            results.next()

    def test_several_threads(self, pool: Any) -> None:
        got: dict[int, list[int]] = {}

        def work(which: int) -> None:
            got[which] = pool.map(square, range(which, which + 50), 1)

        threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert got == {which: [x * x for x in range(which, which + 50)] for which in range(6)}

    def test_initializer(self, make: Maker) -> None:
        with make(2, set_state, ("given",)) as pool:
            assert pool.map(get_state, range(10), 1) == ["given"] * 10

    def test_maxtasksperchild(self, make: Maker) -> None:
        with make(1, maxtasksperchild=2) as pool:
            pids = pool.map(pid, range(6), 1)
        assert [pids.count(one) for one in dict.fromkeys(pids)] == [2, 2, 2]

    def test_close_and_join(self, make: Maker) -> None:
        pool = make(2)
        with pytest.raises(ValueError):
            pool.join()
        result = pool.map_async(square, range(100), 1)
        unused = pool.imap(square, range(100))
        pool.close()
        for call in (pool.map, pool.imap, pool.imap_unordered, pool.map_async, pool.starmap):
            with pytest.raises(ValueError):
                call(square, [1])
        with pytest.raises(ValueError):
            pool.apply(square, (1,))
        pool.join()
        assert result.ready()
        assert result.get() == list(unused) == [x * x for x in range(100)]

    def test_terminate(self, make: Maker) -> None:
        pool = make(2)
        assert pool.map(square, [1]) == [1]
        pool.terminate()
        pool.join()
        with pytest.raises(ValueError):
            pool.map(square, [1])

    def test_the_block_ends_it(self, make: Maker) -> None:
        with make(1) as pool:
            assert pool.apply(square, (2,)) == 4
        with pytest.raises(ValueError):
            pool.apply(square, (2,))

    def test_bad_arguments(self, make: Maker, pool: Any) -> None:
        with pytest.raises(ValueError):
            make(0)
        with pytest.raises(TypeError):
            make(1, initializer=5)
        with pytest.raises(ValueError):
            make(1, maxtasksperchild=0)
        with pytest.raises(ValueError):
            pool.imap(square, [1], 0)
        with pytest.raises(TypeError):
            pool.map(square, 5)

    def test_it_cannot_be_pickled(self, pool: Any) -> None:
        with pytest.raises(NotImplementedError):
            pool.__reduce__()


def test_closures(mine: Pool) -> None:
    factor = 3
    assert mine.map(lambda x: x * factor, range(5)) == [0, 3, 6, 9, 12]
    factor = 4
    assert mine.apply(lambda x: x * factor, (2,)) == 8


def test_a_function_is_pickled_once_a_call_of_map(mine: Pool) -> None:
    pickled: list[int] = []

    class Function:
        def __reduce__(self) -> Any:
            pickled.append(1)
            return functools.partial, (square,)

        def __call__(self, x: int) -> int:
            raise AssertionError("this is the driver")

    assert mine.map(Function(), range(40), 1) == [x * x for x in range(40)]
    assert len(pickled) <= 2  # the fast pickler may have given up once


def test_an_exception_that_cannot_be_unpickled(mine: Pool) -> None:
    with pytest.raises(Exception, match="3 and 3"):
        mine.apply(fail_oddly, (3,))


def test_stop_iteration_is_no_end(mine: Pool) -> None:
    with pytest.raises(RuntimeError, match="StopIteration"):
        mine.map(stop, range(3))


def test_errors_within_a_chunk_of_imap(mine: Pool) -> None:
    results = mine.imap(functools.partial(fail_at, 2), range(5), chunksize=4)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(Plain):
        next(results)
    assert list(results) == [3, 4]


def test_work_goes_on_while_nobody_waits(mine: Pool) -> None:
    gate = Gate.remote()
    result = mine.starmap_async(pass_gate, [(gate, i) for i in range(6)], chunksize=1)
    skate.get(gate.open.remote())
    # All six have come although there are two workers and nobody asks for the result.
    skate.get(gate.until_arrived.remote(6))
    assert result.get() == list(range(6))


def test_a_long_call_does_not_hold_up_those_behind_it(mine: Pool) -> None:
    gate = Gate.remote()
    mine.map(square, range(100), 1)
    held = mine.apply_async(pass_gate, (gate, 1))
    assert mine.map(square, range(100), 1) == [x * x for x in range(100)]
    assert not held.ready()
    gate.open.remote()
    assert held.get() == 1


def test_imap_takes_items_as_results_are_taken(mine: Pool) -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        while True:
            taken += 1
            yield taken

    results = mine.imap(square, items())
    assert [next(results) for _ in range(1000)] == [x * x for x in range(1, 1001)]
    assert taken < 1500
    mine.terminate()


def test_results_are_of_the_classes_of_the_interface(mine: Pool) -> None:
    assert isinstance(mine.apply_async(square, (1,)), AsyncResult)
    assert isinstance(mine.imap(square, []), IMapIterator)
    assert PoolTimeoutError is TimeoutError
    assert JoinableQueue == multiprocessing.JoinableQueue


def test_a_worker_that_dies_is_replaced(mine: Pool) -> None:
    with pytest.raises(ActorDiedError):
        mine.apply(os._exit, (1,))
    with pytest.raises(ActorDiedError):
        mine.apply(leave, (-1,))
    assert mine.map(leave, range(20), 1) == list(range(20))


def test_an_initializer_that_raises(runtime: None) -> None:
    with Pool(1, fail_oddly, (1,)) as pool:
        with pytest.raises(ActorDiedError, match="1 and 1"):
            pool.apply(square, (1,))


def test_restarted_workers_get_the_function_again() -> None:
    with Pool(1, ray_remote_args={"max_restarts": -1, "max_task_retries": -1}) as pool:
        results = pool.imap(lambda x: (x, os.getpid()), iter(range(1000)), 1)
        _, first = next(results)
        os.kill(first, 9)
        rest = list(results)
        assert [x for x, _ in rest] == list(range(1, 1000))
        assert rest[-1][1] != first


def test_terminate_fails_what_is_not_done(mine: Pool) -> None:
    gate = Gate.remote()
    results = [mine.apply_async(pass_gate, (gate, i)) for i in range(4)]
    mine.terminate()
    for result in results:
        with pytest.raises(ActorDiedError, match="terminated"):
            result.get(60)


def test_terminate_wakes_who_waits(mine: Pool) -> None:
    gate = Gate.remote()
    result = mine.apply_async(pass_gate, (gate, 1))
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            result.get()
        except ActorDiedError as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    skate.get(gate.until_arrived.remote(1))
    mine.terminate()
    thread.join()
    assert len(errors) == 1


def test_a_callback_that_raises_does_not_stop_the_pool(mine: Pool, caplog: pytest.LogCaptureFixture) -> None:
    result = mine.apply_async(square, (2,), callback=lambda x: 1 / 0)
    assert result.get(60) == 4
    assert "ZeroDivisionError" in caplog.text
    assert mine.apply(square, (3,)) == 9


def test_the_thread_ends_with_the_pool() -> None:
    before = set(threading.enumerate())
    pool = Pool(1)
    assert pool.apply_async(square, (2,)).get() == 4
    [thread] = [one for one in threading.enumerate() if one not in before and one.name == "skate-pool"]
    pool.close()
    pool.join()
    thread.join()


def test_a_dropped_pool_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skate.util.multiprocessing._worker_group._CHECK_PERIOD_S", 0.01)
    pool = Pool(1)
    [result] = [pool.apply_async(square, (2,))]
    [thread] = [one for one in threading.enumerate() if one.name == "skate-pool"]
    del pool
    gc.collect()
    assert result.get() == 4
    thread.join()


def test_a_pool_in_a_task() -> None:
    @skate.remote
    def work() -> list[int]:
        with Pool(2) as pool:
            return pool.map(square, range(10))

    assert skate.get([work.remote(), work.remote()]) == [[x * x for x in range(10)]] * 2


def test_options_of_the_workers() -> None:
    with Pool(1, ray_remote_args={"name": NAME}) as pool:
        assert pool.apply(square, (2,)) == 4
        assert skate.get(skate.get_actor(NAME).__ray_ready__.remote())
    with pytest.raises(ValueError):
        Pool(1, ray_remote_args={"no_such_option": 1})


def test_context_is_not_used(caplog: pytest.LogCaptureFixture) -> None:
    Pool(1, context=multiprocessing.get_context("spawn")).terminate()
    assert "context" in caplog.text


def test_one_process_for_each_cpu() -> None:
    with Pool() as pool:
        assert pool._workers.size == 2
