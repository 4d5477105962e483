"""Actors that run several calls at a time, and generators whose items arrive one by one.

All actors here ask for 0 CPUs. A batch of pipelined calls is 2,000, as in `actors`; from `asyncio` it is
5,000, each awaited by a task of its own, which `asyncio.gather` makes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.measure import Effort, Runtime, Sample, Workload, expect, rate, rate_of_single_calls

PIPELINED = 2000
GATHERED = 5000
THREADS = 4
ITEMS = 5000


@contextmanager
def _async_actor(ray: Runtime) -> Iterator[Any]:
    class Echo:
        async def noop(self) -> None:
            return None

        async def echo(self, value: int) -> int:
            return value

    actor = ray.remote(num_cpus=0)(Echo).remote()
    expect(ray.get(actor.echo.remote(7)), 7)
    try:
        yield actor
    finally:
        ray.kill(actor)


@contextmanager
def _threaded_actor(ray: Runtime) -> Iterator[Any]:
    class Echo:
        def noop(self) -> None:
            return None

        def echo(self, value: int) -> int:
            return value

    actor = ray.remote(num_cpus=0, max_concurrency=THREADS)(Echo).remote()
    expect(ray.get(actor.echo.remote(7)), 7)
    try:
        yield actor
    finally:
        ray.kill(actor)


def _pipelined(ray: Runtime, actor: Any, effort: Effort) -> Sample:
    count = effort.count(PIPELINED)

    def batch() -> int:
        expect(len(ray.get([actor.noop.remote() for _ in range(count)])), count)
        return count

    return rate(batch, effort)


def async_sync(ray: Runtime, effort: Effort) -> Sample:
    """Call an `async def` method, get its result, call it again; calls a second."""
    with _async_actor(ray) as actor:
        return rate_of_single_calls(lambda: ray.get(actor.noop.remote()), effort)


def async_pipelined(ray: Runtime, effort: Effort) -> Sample:
    """Make 2,000 calls of an `async def` method in a loop, then get the list of results; calls a second."""
    with _async_actor(ray) as actor:
        return _pipelined(ray, actor, effort)


def async_gather(ray: Runtime, effort: Effort) -> Sample:
    """In a coroutine of the driver: `await asyncio.gather` of 5,000 calls of an actor; calls a second."""
    count = effort.count(GATHERED)

    async def gather(actor: Any) -> int:
        return len(await asyncio.gather(*[actor.noop.remote() for _ in range(count)]))

    with _async_actor(ray) as actor:

        def batch() -> int:
            expect(asyncio.run(gather(actor)), count)
            return count

        return rate(batch, effort)


def threaded_sync(ray: Runtime, effort: Effort) -> Sample:
    """Call a method of an actor of 4 threads, get its result, call it again; calls a second."""
    with _threaded_actor(ray) as actor:
        return rate_of_single_calls(lambda: ray.get(actor.noop.remote()), effort)


def threaded_pipelined(ray: Runtime, effort: Effort) -> Sample:
    """Make 2,000 calls of an actor of 4 threads in a loop, then get the list of results; calls a second."""
    with _threaded_actor(ray) as actor:
        return _pipelined(ray, actor, effort)


def generator(ray: Runtime, effort: Effort) -> Sample:
    """A streaming task yields 5,000 ints; the driver gets each as its ref arrives; items a second."""

    def numbers(count: int) -> Iterator[int]:
        for number in range(count):  # noqa: UP028  Ray wants a generator itself, not `yield from`
            yield number

    remote_numbers = ray.remote(num_returns="streaming")(numbers)
    count = effort.count(ITEMS)

    def batch() -> int:
        expect(sum(ray.get(ref) for ref in remote_numbers.remote(count)), count * (count - 1) // 2)
        return count

    return rate(batch, effort)


WORKLOADS: dict[str, Workload] = {
    "async_sync": async_sync,
    "async_pipelined": async_pipelined,
    "async_gather": async_gather,
    "threaded_sync": threaded_sync,
    "threaded_pipelined": threaded_pipelined,
    "generator": generator,
}
