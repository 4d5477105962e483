"""Graphs of actors' methods that are compiled once and executed many times."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any

import pytest
import ray
import ray.exceptions
from ray.dag import InputNode, MultiOutputNode

from compat.conformance.helpers import needs_processes

pytestmark = [needs_processes, pytest.mark.usefixtures("session")]
#: Seconds that a result may take on a busy machine.
LONG_S = 60


@ray.remote(num_cpus=0)
class Adder:
    def __init__(self, n: int = 1) -> None:
        self.n = n

    def add(self, x: Any) -> Any:
        return x + self.n

    def both(self, x: int, y: int) -> int:
        return x + y

    def pair(self, x: int) -> tuple[int, int]:
        return x, x + self.n

    def fail_if_odd(self, x: int) -> int:
        if x % 2:
            raise ValueError(f"{x} is odd")
        return x

    def die(self, x: int) -> None:
        os._exit(1)


@pytest.fixture
def compiled() -> Any:
    """Compiles, and tears down after the test."""
    made = []

    def make(describe: Callable[[Any], Any], **options: Any) -> Any:
        with InputNode() as inp:
            graph = describe(inp)
        made.append(graph.experimental_compile(**options))
        return made[-1]

    yield make
    for one in made:
        one.teardown()


def test_a_chain(compiled: Any) -> None:
    first, second = Adder.remote(1), Adder.remote(10)
    graph = compiled(lambda inp: second.add.bind(first.add.bind(inp)))
    assert graph.execute(1).get(timeout=LONG_S) == 12
    refs = [graph.execute(n) for n in range(3)]
    assert [ref.get(timeout=LONG_S) for ref in refs] == [11, 12, 13]
    assert ray.get(graph.execute(5), timeout=LONG_S) == 16
    assert ray.get(first.add.remote(1)) == 2, "the actors take ordinary calls meanwhile"


def test_a_failure_is_the_result_of_its_execution_alone(compiled: Any) -> None:
    first, second = Adder.remote(), Adder.remote()
    graph = compiled(lambda inp: second.add.bind(first.fail_if_odd.bind(inp)))
    with pytest.raises(ValueError, match="3 is odd") as raised:
        graph.execute(3).get(timeout=LONG_S)
    assert isinstance(raised.value, ray.exceptions.RayTaskError)
    assert graph.execute(4).get(timeout=LONG_S) == 5


def test_parts_of_the_input_several_values_and_outputs(compiled: Any) -> None:
    first, second = Adder.remote(1), Adder.remote(10)

    def describe(inp: Any) -> Any:
        one, other = first.pair.options(num_returns=2).bind(inp[0])
        return MultiOutputNode([second.both.bind(other, inp.y), one, second.both.bind(one, 100)])

    graph = compiled(describe)
    assert [ref.get(timeout=LONG_S) for ref in graph.execute(1, y=5)] == [7, 1, 101]


def test_a_result_is_taken_once(compiled: Any) -> None:
    adder = Adder.remote()
    graph = compiled(lambda inp: adder.add.bind(inp))
    ref = graph.execute(1)
    assert ref.get(timeout=LONG_S) == 2
    with pytest.raises(ValueError, match="already"):
        ref.get()


def test_no_more_executions_than_may_be_in_flight(compiled: Any) -> None:
    adder = Adder.remote()
    graph = compiled(lambda inp: adder.add.bind(inp), _max_inflight_executions=2)
    refs = [graph.execute(n) for n in range(2)]
    with pytest.raises(ray.exceptions.RayCgraphCapacityExceeded):
        graph.execute(2)
    assert [ref.get(timeout=LONG_S) for ref in refs] == [1, 2]


def test_asyncio(compiled: Any) -> None:
    adder = Adder.remote()

    async def results() -> list[int]:
        graph = compiled(lambda inp: adder.add.bind(inp), enable_asyncio=True)
        futures = [await graph.execute_async(n) for n in range(3)]
        return [await future for future in futures]

    assert asyncio.run(results()) == [1, 2, 3]


def test_the_death_of_an_actor(compiled: Any) -> None:
    first, second = Adder.remote(), Adder.remote()
    graph = compiled(lambda inp: second.add.bind(first.die.bind(inp)))
    with pytest.raises(ray.exceptions.ActorDiedError):
        graph.execute(1).get(timeout=LONG_S)
    assert ray.get(second.add.remote(1)) == 2, "the others stay"


def test_teardown_leaves_the_actors(compiled: Any) -> None:
    adder = Adder.remote()
    graph = compiled(lambda inp: adder.add.bind(inp))
    assert graph.execute(1).get(timeout=LONG_S) == 2
    graph.teardown()
    assert ray.get(adder.add.remote(2)) == 3
    again = compiled(lambda inp: adder.add.bind(inp))
    assert again.execute(3).get(timeout=LONG_S) == 4
