"""ActorPool: results in order and as they come, actors that come and go."""

from __future__ import annotations

from typing import Any

import pytest

import skate
from skate.util import ActorPool

from .gate import Gate

pytestmark = pytest.mark.usefixtures("runtime")


@skate.remote(num_cpus=0)
class Worker:
    def double(self, x: int) -> int:
        return 2 * x

    def pair(self, x: int) -> tuple[int, int]:
        return x, -x

    def fail(self, x: int) -> None:
        raise ValueError(f"no {x}")

    def pass_gate(self, gate: Any, x: int) -> int:
        skate.get(gate.wait.remote())
        return x


@pytest.fixture
def pool() -> ActorPool:
    return ActorPool([Worker.remote(), Worker.remote()])


def double(actor: Any, value: int) -> Any:
    return actor.double.remote(value)


def test_map_keeps_the_order(pool: ActorPool) -> None:
    assert list(pool.map(double, range(20))) == [2 * i for i in range(20)]


def test_map_unordered_returns_all(pool: ActorPool) -> None:
    assert sorted(pool.map_unordered(double, range(20))) == [2 * i for i in range(20)]


def test_map_submits_before_it_is_iterated_over(pool: ActorPool) -> None:
    gate = Gate.remote()
    results = pool.map(lambda actor, x: actor.pass_gate.remote(gate, x), [1, 2])
    skate.get(gate.until_arrived.remote(2))
    gate.open.remote()
    assert list(results) == [1, 2]


def test_unordered_gives_what_is_ready_first(pool: ActorPool) -> None:
    gate = Gate.remote()
    pool.submit(lambda actor, x: actor.pass_gate.remote(gate, x), 1)
    pool.submit(double, 2)
    assert pool.get_next_unordered() == 4
    gate.open.remote()
    assert pool.get_next_unordered() == 1
    assert not pool.has_next()


def test_ordered_wait_keeps_other_actors_busy(pool: ActorPool) -> None:
    gate = Gate.remote()

    def submit(actor: Any, x: int) -> Any:
        return actor.double.remote(x) if x else actor.pass_gate.remote(gate, x)

    results = pool.map(submit, range(10))
    opener = Opener.remote()
    pool.submit(lambda actor, x: opener.open.remote(gate), None)
    # The last submission opens the gate that the first is at.
    assert next(results) == 0


@skate.remote(num_cpus=0)
class Opener:
    def open(self, gate: Any) -> None:
        skate.get(gate.open.remote())


def test_several_returns(pool: ActorPool) -> None:
    results = pool.map(lambda actor, x: actor.pair.options(num_returns=2).remote(x), [1, 2])
    assert list(results) == [[1, -1], [2, -2]]


def test_errors_are_raised_in_place(pool: ActorPool) -> None:
    pool.submit(double, 1)
    pool.submit(lambda actor, x: actor.fail.remote(x), 2)
    pool.submit(double, 3)
    assert pool.get_next() == 2
    with pytest.raises(ValueError, match="no 2"):
        pool.get_next()
    assert pool.get_next() == 6


def test_nothing_left(pool: ActorPool) -> None:
    with pytest.raises(StopIteration):
        pool.get_next()
    with pytest.raises(StopIteration):
        pool.get_next_unordered()


def test_timeout_and_later_result(pool: ActorPool) -> None:
    gate = Gate.remote()
    pool.submit(lambda actor, x: actor.pass_gate.remote(gate, x), 7)
    with pytest.raises(TimeoutError):
        pool.get_next(timeout=0)
    with pytest.raises(TimeoutError):
        pool.get_next_unordered(timeout=0.01)
    gate.open.remote()
    assert pool.get_next(timeout=60) == 7


@pytest.mark.parametrize("take", ["get_next", "get_next_unordered"])
def test_a_result_that_is_late_can_be_given_up(pool: ActorPool, take: str) -> None:
    gate = Gate.remote()
    pool.submit(lambda actor, x: actor.pass_gate.remote(gate, x), 7)
    with pytest.raises(TimeoutError, match="given up"):
        getattr(pool, take)(timeout=0, ignore_if_timedout=True)
    assert not pool.has_next()
    pool.submit(double, 4)
    assert pool.get_next() == 8
    gate.open.remote()


def test_map_gives_up_earlier_results(pool: ActorPool) -> None:
    pool.submit(double, 100)
    assert list(pool.map(double, [1, 2, 3])) == [2, 4, 6]


def test_free_and_idle() -> None:
    pool = ActorPool([Worker.remote()])
    assert pool.has_free()
    pool.submit(double, 1)
    assert not pool.has_free()
    assert pool.pop_idle() is None
    assert pool.get_next() == 2
    actor = pool.pop_idle()
    assert actor is not None
    assert not pool.has_free()
    pool.submit(double, 2)
    with pytest.raises(RuntimeError, match="no actor"):
        pool.get_next()
    pool.push(actor)
    assert pool.get_next() == 4


def test_push_refuses_who_is_there() -> None:
    actor = Worker.remote()
    pool = ActorPool([actor])
    with pytest.raises(ValueError, match="belongs"):
        pool.push(actor)
    pool.submit(double, 1)
    with pytest.raises(ValueError, match="belongs"):
        pool.push(actor)


def test_the_function_must_return_a_ref(pool: ActorPool) -> None:
    with pytest.raises(TypeError, match="must return"):
        pool.submit(lambda actor, x: x, 1)
    assert not pool.has_next()
    assert list(pool.map(double, [1, 2])) == [2, 4]
