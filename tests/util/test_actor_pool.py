"""ActorPool: results in order and as they come, actors that come and go."""

from __future__ import annotations

import os
from typing import Any

import pytest

import skate
from skate.exceptions import ActorDiedError, ActorUnavailableError, RayActorError
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
    assert pool.get_next(timeout=3600) == 7


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


# --------------------------------------------------------------------------- actors that die


@skate.remote(num_cpus=0)
class Mortal:
    def __init__(self) -> None:
        self.calls = 0

    def run(self, x: Any) -> Any:
        self.calls += 1
        if x == "die":
            os._exit(1)
        return x

    def calls_so_far(self, _: Any) -> int:
        return self.calls

    def blame(self, other: Any) -> None:
        skate.get(other.run.remote(0))

    def pair(self, x: Any) -> Any:
        os._exit(1)


def run(actor: Any, value: Any) -> Any:
    return actor.run.remote(value)


def dead() -> Any:
    actor = Mortal.remote()
    skate.kill(actor)
    with pytest.raises(ActorDiedError):
        skate.get(actor.run.remote(0))
    return actor


@pytest.mark.parametrize("take", ["get_next", "get_next_unordered"])
def test_an_actor_that_dies_leaves_the_pool(take: str) -> None:
    pool = ActorPool([Mortal.remote(), Mortal.remote()])
    pool.submit(run, "die")
    with pytest.raises(ActorDiedError):
        getattr(pool, take)()
    assert sorted(pool.map_unordered(run, range(5))) == list(range(5))
    assert list(pool.map(run, range(5))) == list(range(5))
    pool.submit(run, 1)
    assert not pool.has_free()


@pytest.mark.parametrize("method", ["map", "map_unordered"])
def test_the_other_values_go_to_the_actors_that_are_left(method: str) -> None:
    pool = ActorPool([Mortal.remote(), Mortal.remote()])
    pool.submit(run, "die")
    for i in range(6):
        pool.submit(run, i)
    take = pool.get_next if method == "map" else pool.get_next_unordered
    results, deaths = [], 0
    while pool.has_next():
        try:
            results.append(take())
        except ActorDiedError:
            deaths += 1
    assert (sorted(results), deaths) == (list(range(6)), 1)


@pytest.mark.parametrize("take", ["get_next", "get_next_unordered"])
def test_no_actor_is_left(take: str) -> None:
    """Each value fails when its turn comes, so that loops end; a new actor takes what still waits."""
    pool = ActorPool([Mortal.remote()])
    pool.submit(run, "die")
    for i in range(3):
        pool.submit(run, i)
    with pytest.raises(ActorDiedError, match="exited with code 1"):
        getattr(pool, take)(timeout=3600)
    with pytest.raises(
        ActorDiedError, match=r"no actor of this ActorPool is alive.*2 value\(s\).*code 1"
    ) as raised:
        getattr(pool, take)(timeout=3600)
    assert raised.value.actor_id
    assert not pool.has_free()
    assert pool.pop_idle() is None
    pool.push(Mortal.remote())
    assert sorted([getattr(pool, take)(), getattr(pool, take)()]) == [1, 2]
    assert not pool.has_next()


def test_a_pool_of_dead_actors_ends_every_loop() -> None:
    pool = ActorPool([dead(), dead()])
    results = pool.map(run, range(5))
    with pytest.raises(ActorDiedError):
        list(results)
    deaths = 0
    while pool.has_next():
        with pytest.raises(ActorDiedError):
            pool.get_next()
        deaths += 1
    assert deaths == 4


def test_a_dead_actor_that_is_pushed_costs_one_value() -> None:
    pool = ActorPool([])
    pool.push(dead())
    pool.push(Mortal.remote())
    got = []
    for i in range(4):
        pool.submit(run, i)
    while pool.has_next():
        try:
            got.append(pool.get_next())
        except ActorDiedError:
            got.append(None)
    assert (len(got), got.count(None)) == (4, 1)


def test_an_actor_that_restarts_stays() -> None:
    pool = ActorPool([Mortal.options(max_restarts=-1).remote()])
    pool.submit(run, "die")
    with pytest.raises(RayActorError) as raised:
        pool.get_next()
    assert isinstance(raised.value, ActorUnavailableError)
    assert list(pool.map(run, range(3))) == [0, 1, 2]
    pool.submit(lambda actor, x: actor.calls_so_far.remote(x), None)
    assert pool.get_next() == 3


def test_restarts_run_out() -> None:
    pool = ActorPool([Mortal.options(max_restarts=1).remote()])
    for value in ("die", "die", 1):
        pool.submit(run, value)
    with pytest.raises(ActorUnavailableError):
        pool.get_next()
    for _ in range(2):
        with pytest.raises(ActorDiedError):
            pool.get_next()
    assert not pool.has_next()


def test_the_death_of_another_actor_is_no_death() -> None:
    pool = ActorPool([Mortal.remote()])
    other = dead()
    pool.submit(lambda actor, x: actor.blame.remote(x), other)
    with pytest.raises(ActorDiedError):
        pool.get_next()
    pool.submit(run, other.run.remote(0))
    with pytest.raises(ActorDiedError):
        pool.get_next()
    pool.submit(run, 5)
    assert pool.get_next() == 5


def test_a_death_with_several_returns() -> None:
    pool = ActorPool([Mortal.remote(), Mortal.remote()])
    pool.submit(lambda actor, x: actor.pair.options(num_returns=2).remote(x), 1)
    with pytest.raises(ActorDiedError):
        pool.get_next()
    assert list(pool.map(run, range(3))) == [0, 1, 2]


def test_a_result_that_was_given_up_and_then_a_death() -> None:
    pool = ActorPool([Mortal.remote(), Mortal.remote()])
    pool.submit(run, "die")
    with pytest.raises(TimeoutError):
        pool.get_next(timeout=0, ignore_if_timedout=True)
    assert sorted(pool.map_unordered(run, range(4))) == [0, 1, 2, 3]
    assert list(pool.map(run, range(4))) == [0, 1, 2, 3]
