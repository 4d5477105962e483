"""How a line is measured: how often to repeat, and what is divided by what.

Every rate is `operations done / time spent in the batches`, after a warm-up that is not counted, so slow
batches (a collection, a noisy neighbour) weigh as much as a user would feel them. The median is taken over
rounds, not here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

MIB = 1 << 20
CALIBRATED_CHUNK_S = 0.02
"""Single calls are timed in chunks about this long, so that reading the clock costs nothing measurable."""


class Runtime(Protocol):
    """The part of the common API that the workloads use: the module `ray` or the module `skate`."""

    def init(self, **options: Any) -> Any: ...

    def shutdown(self) -> Any: ...

    def remote(self, *target: Any, **options: Any) -> Any: ...

    def get(self, refs: Any) -> Any: ...

    def put(self, value: Any) -> Any: ...

    def wait(self, refs: list[Any]) -> tuple[list[Any], list[Any]]: ...

    def kill(self, actor: Any) -> Any: ...


@dataclass(frozen=True)
class Effort:
    """How much work a line may do: the same for every system."""

    seconds: float
    """Measured time a line aims at; one batch may exceed it."""
    scale: float
    """Batch sizes are multiplied by this (1 in a full run, less with `--quick`)."""

    def count(self, full: int) -> int:
        return max(1, round(full * self.scale))


@dataclass(frozen=True)
class Sample:
    """One measured value of one line, in the unit of the line, and how it came about."""

    value: float
    info: dict[str, Any] = field(default_factory=dict)


Workload = Callable[[Runtime, Effort], Sample]
"""Measures one line."""


def rate(batch: Callable[[], int], effort: Effort, warm_up: int = 1) -> Sample:
    """Operations a second. `batch` does a fixed amount of work and returns how many operations that was."""
    for _ in range(warm_up):
        batch()
    done, spent = 0, 0.0
    rates: list[float] = []
    while not rates or spent < effort.seconds:
        start = time.perf_counter()
        count = batch()
        elapsed = time.perf_counter() - start
        done, spent = done + count, spent + elapsed
        rates.append(count / elapsed)
    info = {
        "operations": done,
        "batches": len(rates),
        "slowest_batch": min(rates),
        "fastest_batch": max(rates),
    }
    return Sample(done / spent, info)


def rate_of_single_calls(call: Callable[[], Any], effort: Effort, operations: int = 1) -> Sample:
    """Operations a second of `call`, which does `operations` of them, called again and again.

    Chunks of calls between two looks at the clock are calibrated first; that is the warm-up.
    """
    chunk, elapsed = 1, 0.0
    while True:
        start = time.perf_counter()
        for _ in range(chunk):
            call()
        elapsed = time.perf_counter() - start
        if elapsed >= CALIBRATED_CHUNK_S:
            break
        chunk *= 2

    def batch() -> int:
        for _ in range(chunk):
            call()
        return chunk * operations

    return rate(batch, effort)


def milliseconds_of(operation: Callable[[], Any], effort: Effort) -> Sample:
    """Mean duration of `operation` in milliseconds, after one that is not counted."""
    sample = rate(lambda: (operation(), 1)[1], effort)
    return Sample(1000 / sample.value, {"operations": sample.info["operations"]})


def gigabytes_per_second(operation: Callable[[], Any], size: int, effort: Effort) -> Sample:
    """How many of the `size` bytes that `operation` handles pass in a second, in 10^9 bytes."""
    sample = rate(lambda: (operation(), 1)[1], effort)
    return Sample(sample.value * size / 1e9, {"operations": sample.info["operations"]})


def expect(actual: object, wanted: object) -> None:
    """Fail the line when a system answered fast but wrong."""
    if actual != wanted:
        raise AssertionError(f"the workload returned {actual!r:.80}, expected {wanted!r:.80}")
