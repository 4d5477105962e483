"""A million tasks, a hundred thousand actor calls with refs flowing through them, a million items of
generators, ten thousand large results: does anything grow?

Prints, for every process of the session, its own memory at each tenth of the way and the slope of a line
through the second half, in bytes a thousand calls; exits with 1 if a slope is above the limit, a result
is wrong, or anything is left in the store.

    python -m benchmarks.soak [--tasks 1000000] [--calls 100000] [--items 1000000] [--large 10000]
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

import skate
from skate.util.state.source import connected

WINDOW = 500


@skate.remote
def add(one: int, other: int) -> int:
    return one + other


@skate.remote
def first(refs: list[Any]) -> Any:
    """Return the ref that was inside a list: it is borrowed, and given back."""
    return refs[0]


@skate.remote
def produce(count: int) -> Any:
    yield from range(count)


@skate.remote
def grow(data: bytes) -> bytes:
    return bytes(len(data) + 1)


@skate.remote
class Keeper:
    """Holds a few refs for others."""

    def __init__(self) -> None:
        self.kept: deque[Any] = deque(maxlen=50)

    def keep(self, refs: list[Any]) -> int:
        self.kept.append(refs[0])
        return len(self.kept)

    def value(self, number: int) -> int:
        return number

    def forget(self) -> None:
        self.kept.clear()


def own_memory(pid: int) -> int:
    """Return the bytes that a process has for itself."""
    try:
        resident, shared = Path(f"/proc/{pid}/statm").read_text().split()[1:3]
    except OSError:
        return 0
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")


def processes() -> dict[int, str]:
    """Return the driver, the roles and the workers of the session, by process id."""
    with connected() as state:
        found = {row.pid: row.worker_type.lower() for row in state.workers() if row.pid}
    here = os.getpid()
    for child in Path(f"/proc/{here}/task/{here}/children").read_text().split():
        command = Path(f"/proc/{child}/cmdline").read_bytes().decode(errors="replace")
        if int(child) not in found:
            found[int(child)] = "daemon" if "skate._node" in command else "control"
    return found


def slope(samples: list[tuple[int, int]]) -> float:
    """Return bytes a thousand calls: a least-squares line through the second half."""
    half = samples[len(samples) // 2 :]
    if len(half) < 2:
        return 0.0
    mean_x = sum(x for x, _ in half) / len(half)
    mean_y = sum(y for _, y in half) / len(half)
    spread = sum((x - mean_x) ** 2 for x, _ in half)
    return 1000 * sum((x - mean_x) * (y - mean_y) for x, y in half) / spread


def run_tasks(count: int, keeper: Any) -> int:
    """Run so many tasks, of which some pass refs on; return how many results were wrong."""
    wrong = 0
    window: deque[tuple[Any, int, bool]] = deque()
    for number in range(count):
        if number % 10 == 9:
            inner = add.remote(number, 1)
            window.append((first.remote([inner]), number + 1, True))
        else:
            window.append((add.remote(number, skate.put(2) if number % 10 == 5 else 2), number + 2, False))
        if number % 100 == 50:
            keeper.keep.remote([window[-1][0]])
        if len(window) > WINDOW:
            wrong += _check(*window.popleft())
    while window:
        wrong += _check(*window.popleft())
    return wrong


def _check(ref: Any, expected: int, nested: bool) -> bool:
    value = skate.get(ref)
    return (skate.get(value) if nested else value) != expected


def run_calls(count: int, keeper: Any) -> int:
    """Make so many actor calls; return how many results were wrong."""
    wrong = 0
    for start in range(0, count, WINDOW):
        numbers = range(start, min(start + WINDOW, count))
        wrong += skate.get([keeper.value.remote(number) for number in numbers]) != list(numbers)
    return wrong


def run_items(count: int) -> int:
    """Take so many items of one generator; return how many were wrong."""
    wrong = taken = 0
    for number, ref in enumerate(produce.options(_generator_backpressure_num_objects=100).remote(count)):
        wrong += skate.get(ref) != number
        taken += 1
    return wrong + (taken != count)


def run_large(count: int) -> int:
    """Make results that lie in shared memory, each from the one before; return how many were wrong."""
    wrong, ref = 0, skate.put(bytes(200_000))
    for number in range(count):
        ref = grow.remote(ref)
        if number % 100 == 99:  # what came before is remembered, not kept: see the lineage
            wrong += len(skate.get(ref)) != 200_000 + number + 1
    return wrong


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--large", type=int, default=10_000)
    parser.add_argument("--limit", type=float, default=10_000, help="bytes a thousand calls (default 10000)")
    given = parser.parse_args()
    skate.init(num_cpus=2, object_store_memory=500_000_000)
    keeper = Keeper.remote()
    wrong = run_tasks(2000, keeper)  # everything is imported and started
    samples: dict[int, list[tuple[int, int]]] = {}
    done = 0
    began = time.perf_counter()
    for _ in range(20):
        wrong += run_tasks(given.tasks // 20, keeper)
        wrong += run_calls(given.calls // 20, keeper)
        wrong += run_items(given.items // 20)
        wrong += run_large(given.large // 20)
        done += (given.tasks + given.calls + given.items + given.large) // 20
        for pid in processes():
            samples.setdefault(pid, []).append((done, own_memory(pid)))
    seconds = time.perf_counter() - began
    names = processes()
    print(f"{done} calls and items in {seconds:.0f} s, {wrong} wrong results")
    worst = 0.0
    for pid, found in samples.items():
        if len(found) < 20:
            continue  # a worker that came and went
        worst = max(worst, slope(found))
        course = " ".join(f"{size / 1e6:.1f}" for _, size in found[::2])
        print(
            f"{names.get(pid, '?'):8} {pid:7}  {course} MB   slope {slope(found):8.0f} bytes a thousand calls"
        )
    skate.get(keeper.forget.remote())
    del keeper
    with connected() as state:
        deadline = time.monotonic() + 20
        while (store := state.store())["objects"] and time.monotonic() < deadline:
            time.sleep(0.1)
    print(f"left in the store: {store['objects']} objects")
    skate.shutdown()
    return int(bool(wrong or store["objects"] or worst > given.limit))


if __name__ == "__main__":
    sys.exit(main())
