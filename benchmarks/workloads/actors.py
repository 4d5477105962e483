"""Actors: calls one by one and pipelined, many callers to many actors, and whole lives.

All actors here ask for 0 CPUs, so that any number of them fits beside each other on the two of the cluster.
"""

from __future__ import annotations

from typing import Any

from benchmarks.measure import Effort, Runtime, Sample, Workload, expect, rate, rate_of_single_calls

PIPELINED = 2000
CALLERS = 4
CALLS_PER_PAIR = 125
LIVES_AT_ONCE = 4


def _echo_class(ray: Runtime) -> Any:
    class Echo:
        def noop(self) -> None:
            return None

        def echo(self, value: int) -> int:
            return value

    return ray.remote(num_cpus=0)(Echo)


def actor_sync(ray: Runtime, effort: Effort) -> Sample:
    """Call a method without arguments, get its result, call the next; calls a second."""
    actor = _echo_class(ray).remote()
    expect(ray.get(actor.echo.remote(7)), 7)
    try:
        return rate_of_single_calls(lambda: ray.get(actor.noop.remote()), effort)
    finally:
        ray.kill(actor)


def actor_pipelined(ray: Runtime, effort: Effort) -> Sample:
    """Make 2,000 calls of one actor in a loop, then get the list of all results; calls a second."""
    actor = _echo_class(ray).remote()
    expect(ray.get(actor.echo.remote(7)), 7)
    count = effort.count(PIPELINED)

    def batch() -> int:
        expect(len(ray.get([actor.noop.remote() for _ in range(count)])), count)
        return count

    try:
        return rate(batch, effort)
    finally:
        ray.kill(actor)


def actors_nn(ray: Runtime, effort: Effort) -> Sample:
    """4 actors each call each of 4 others 125 times and get all results, at once; calls a second in all."""
    echo_class = _echo_class(ray)

    class Caller:
        def __init__(self, callees: list[Any]) -> None:
            self.callees = callees

        def run(self, count: int) -> int:
            return len(ray.get([callee.noop.remote() for _ in range(count) for callee in self.callees]))

    callees = [echo_class.remote() for _ in range(CALLERS)]
    caller_class = ray.remote(num_cpus=0)(Caller)
    callers = [caller_class.remote(callees) for _ in range(CALLERS)]
    count = effort.count(CALLS_PER_PAIR)

    def batch() -> int:
        expect(ray.get([caller.run.remote(count) for caller in callers]), [count * CALLERS] * CALLERS)
        return count * CALLERS * CALLERS

    try:
        return rate(batch, effort)
    finally:
        for actor in callers + callees:
            ray.kill(actor)


def actor_lifecycle(ray: Runtime, effort: Effort) -> Sample:
    """Create 4 actors, call a method of each, get the results, kill all 4, and again; actors a second."""
    echo_class = _echo_class(ray)

    def batch() -> int:
        actors = [echo_class.remote() for _ in range(LIVES_AT_ONCE)]
        expect(ray.get([actor.echo.remote(7) for actor in actors]), [7] * LIVES_AT_ONCE)
        for actor in actors:
            ray.kill(actor)
        return LIVES_AT_ONCE

    return rate(batch, effort)


WORKLOADS: dict[str, Workload] = {
    "actor_sync": actor_sync,
    "actor_pipelined": actor_pipelined,
    "actors_nn": actors_nn,
    "actor_lifecycle": actor_lifecycle,
}
