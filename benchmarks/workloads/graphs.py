"""Compiled graphs, beside ordinary calls of the same actors. One by one: each result before the next."""

from __future__ import annotations

import importlib
from typing import Any

from benchmarks.measure import Effort, Runtime, Sample, Workload, expect, rate, rate_of_single_calls

ACTORS_IN_CHAIN = 3
IN_FLIGHT = 10
PIPELINED = 1000


def _adders(ray: Runtime, count: int) -> list[Any]:
    class Adder:
        def add(self, value: int) -> int:
            return value + 1

    remote_class = ray.remote(num_cpus=0)(Adder)
    return [remote_class.remote() for _ in range(count)]


def _compiled(ray: Runtime, actors: list[Any]) -> Any:
    dag = importlib.import_module(f"{ray.__name__}.dag")
    with dag.InputNode() as value:
        node: Any = value
        for actor in actors:
            node = actor.add.bind(node)
    return node.experimental_compile()


def _one_by_one(ray: Runtime, effort: Effort, count: int) -> Sample:
    actors = _adders(ray, count)
    graph = _compiled(ray, actors)
    expect(graph.execute(0).get(), count)
    try:
        return rate_of_single_calls(lambda: graph.execute(0).get(), effort)
    finally:
        graph.teardown()
        for actor in actors:
            ray.kill(actor)


def compiled_sync(ray: Runtime, effort: Effort) -> Sample:
    """Execute a compiled graph of one actor's method and get its result; executions a second."""
    return _one_by_one(ray, effort, 1)


def compiled_chain(ray: Runtime, effort: Effort) -> Sample:
    """Execute a compiled chain of three actors and get its result; executions a second."""
    return _one_by_one(ray, effort, ACTORS_IN_CHAIN)


def called_chain(ray: Runtime, effort: Effort) -> Sample:
    """The same chain by ordinary calls, each given the ref of the one before; chains a second."""
    actors = _adders(ray, ACTORS_IN_CHAIN)

    def chain() -> int:
        value: Any = 0
        for actor in actors:
            value = actor.add.remote(value)
        result: int = ray.get(value)
        return result

    expect(chain(), ACTORS_IN_CHAIN)
    try:
        return rate_of_single_calls(chain, effort)
    finally:
        for actor in actors:
            ray.kill(actor)


def compiled_pipelined(ray: Runtime, effort: Effort) -> Sample:
    """Execute the compiled chain 1,000 times, ten executions in flight; executions a second."""
    actors = _adders(ray, ACTORS_IN_CHAIN)
    graph = _compiled(ray, actors)
    count = effort.count(PIPELINED)

    def batch() -> int:
        refs: list[Any] = []
        for _ in range(count):
            if len(refs) == IN_FLIGHT:
                expect(refs.pop(0).get(), ACTORS_IN_CHAIN)
            refs.append(graph.execute(0))
        for ref in refs:
            expect(ref.get(), ACTORS_IN_CHAIN)
        return count

    try:
        return rate(batch, effort)
    finally:
        graph.teardown()
        for actor in actors:
            ray.kill(actor)


WORKLOADS: dict[str, Workload] = {
    "called_chain": called_chain,
    "compiled_sync": compiled_sync,
    "compiled_chain": compiled_chain,
    "compiled_pipelined": compiled_pipelined,
}
