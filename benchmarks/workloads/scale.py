"""The cost of an item as work grows: microseconds, and bytes that the driver's process grows by.

Each line runs in a session of its own, so that it finds no memory that another one has left.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.measure import Effort, Runtime, Sample, Workload, expect

COUNTS = {"10k": 10_000, "100k": 100_000, "300k": 300_000, "1m": 1_000_000}
WARM_UP = 2000
PUTS_AFTER = 10_000
BYTES_AN_ITEM = 4096
"""What is to be free for each item before a line begins: several times what one takes."""

Scaled = Callable[[Runtime, int], Sample]
"""Measures so many items."""


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _available() -> int:
    with open("/proc/meminfo") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable:"))


class _Timed:
    """What a `with` block took; read it afterwards."""

    seconds = 0.0
    cpu_seconds = 0.0
    """Of all threads of the driver: what is left of the cost where the machine has other work."""
    grown = 0

    def sample(self, count: int) -> Sample:
        info = {
            "items": count,
            "cpu_us": self.cpu_seconds / count * 1e6,
            "bytes": round(self.grown / count),
        }
        return Sample(self.seconds / count * 1e6, info)


@contextmanager
def _timed() -> Iterator[_Timed]:
    timed = _Timed()
    resident, cpu, began = _resident(), time.process_time(), time.perf_counter()
    yield timed
    timed.seconds = time.perf_counter() - began
    timed.cpu_seconds = time.process_time() - cpu
    timed.grown = _resident() - resident


def _noop(ray: Runtime) -> Any:
    def noop() -> None:
        return None

    remote_noop = ray.remote(noop)
    ray.get([remote_noop.remote() for _ in range(WARM_UP)])
    return remote_noop


def tasks(ray: Runtime, count: int) -> Sample:
    """Submit all tasks, then get the list of all results, with all refs held; us and bytes a task."""
    noop = _noop(ray)
    with _timed() as timed:
        refs = [noop.remote() for _ in range(count)]
        expect(len(ray.get(refs)), count)
    return timed.sample(count)


def calls(ray: Runtime, count: int) -> Sample:
    """The same with calls of one actor; us and bytes a call."""

    class Echo:
        def noop(self) -> None:
            return None

    actor = ray.remote(num_cpus=0)(Echo).remote()
    ray.get([actor.noop.remote() for _ in range(WARM_UP)])
    with _timed() as timed:
        refs = [actor.noop.remote() for _ in range(count)]
        expect(len(ray.get(refs)), count)
    return timed.sample(count)


def puts(ray: Runtime, count: int) -> Sample:
    """Put small ints, refs held; us and bytes a put."""
    ray.get([ray.put(number) for number in range(WARM_UP)])
    with _timed() as timed:
        refs = [ray.put(number) for number in range(count)]
    expect(ray.get(refs[-1]), count - 1)
    return timed.sample(count)


def gets(ray: Runtime, count: int) -> Sample:
    """Get a list of refs of small ints that were put before, in one call; us and bytes a ref."""
    refs = [ray.put(number) for number in range(count)]
    with _timed() as timed:
        values = ray.get(refs)
    expect(values[-1], count - 1)
    return timed.sample(count)


def freed(ray: Runtime, count: int) -> Sample:
    """Drop the refs of so many results, then put 10,000 small ints; us a put.

    The bytes are those that a freed result still takes when the puts are through.
    """
    noop = _noop(ray)
    before = _resident()
    refs = [noop.remote() for _ in range(count)]
    ray.get(refs)
    del refs
    with _timed() as timed:
        kept = [ray.put(number) for number in range(PUTS_AFTER)]
    left = _resident() - before
    expect(ray.get(kept[-1]), PUTS_AFTER - 1)
    sample = timed.sample(PUTS_AFTER)
    return Sample(sample.value, {**sample.info, "items": count, "bytes": round(left / count)})


def _workload(scaled: Scaled, full: int) -> Workload:
    def measure(ray: Runtime, effort: Effort) -> Sample:
        count = effort.count(full)
        needed, available = count * BYTES_AN_ITEM, _available()
        if needed > available:
            raise MemoryError(f"{needed >> 20} MiB are to be available for {count:,}, {available >> 20} are")
        return scaled(ray, count)

    return measure


KINDS: dict[str, Scaled] = {"tasks": tasks, "calls": calls, "puts": puts, "gets": gets, "freed": freed}

WORKLOADS: dict[str, Workload] = {
    f"scale_{kind}_{name}": _workload(scaled, count)
    for kind, scaled in KINDS.items()
    for name, count in COUNTS.items()
}
