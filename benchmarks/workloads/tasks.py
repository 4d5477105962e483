"""Tasks: one by one, pipelined, nested, chained, with large arguments and results, and `wait`."""

from __future__ import annotations

from typing import Any

from benchmarks.measure import MIB, Effort, Runtime, Sample, Workload, expect, rate, rate_of_single_calls

PIPELINED = 2000
CALLERS = 4
CHAIN = 500
WAITED = 1000
LARGE_IN_FLIGHT = 50


def _noop(ray: Runtime) -> Any:
    def noop() -> None:
        return None

    return ray.remote(noop)


def tasks_sync(ray: Runtime, effort: Effort) -> Sample:
    """Call a task without arguments, get its result, call the next; calls a second."""
    noop = _noop(ray)
    return rate_of_single_calls(lambda: ray.get(noop.remote()), effort)


def tasks_pipelined(ray: Runtime, effort: Effort) -> Sample:
    """Submit 2,000 tasks in a loop, then get the list of all results; tasks a second."""
    noop = _noop(ray)
    count = effort.count(PIPELINED)

    def batch() -> int:
        expect(len(ray.get([noop.remote() for _ in range(count)])), count)
        return count

    return rate(batch, effort)


def nested_tasks(ray: Runtime, effort: Effort) -> Sample:
    """4 actors (of 0 CPUs) each submit 250 tasks and get all results, at once; tasks a second in all."""
    noop = _noop(ray)

    class Caller:
        def run(self, count: int) -> int:
            return len(ray.get([noop.remote() for _ in range(count)]))

    remote_caller = ray.remote(num_cpus=0)(Caller)
    callers = [remote_caller.remote() for _ in range(CALLERS)]
    count = effort.count(250)

    def batch() -> int:
        expect(ray.get([caller.run.remote(count) for caller in callers]), [count] * CALLERS)
        return count * CALLERS

    try:
        return rate(batch, effort)
    finally:
        for caller in callers:
            ray.kill(caller)


def chain(ray: Runtime, effort: Effort) -> Sample:
    """`x = increment.remote(x)` 500 times, then get the last; tasks a second."""

    def increment(value: int) -> int:
        return value + 1

    remote_increment = ray.remote(increment)

    def batch() -> int:
        ref = remote_increment.remote(0)
        for _ in range(CHAIN - 1):
            ref = remote_increment.remote(ref)
        expect(ray.get(ref), CHAIN)
        return CHAIN

    return rate(batch, effort)


def _size_of(ray: Runtime) -> Any:
    def size_of(array: Any) -> int:
        return int(array.nbytes)

    return ray.remote(size_of)


def arg_ref_1mib(ray: Runtime, effort: Effort) -> Sample:
    """One 1 MiB numpy array, put once; 50 tasks take its ref and return its size; tasks a second."""
    import numpy as np

    size_of, ref = _size_of(ray), ray.put(np.ones(MIB, np.uint8))

    def batch() -> int:
        expect(ray.get([size_of.remote(ref) for _ in range(LARGE_IN_FLIGHT)]), [MIB] * LARGE_IN_FLIGHT)
        return LARGE_IN_FLIGHT

    return rate(batch, effort, warm_up=2)


def arg_value_1mib(ray: Runtime, effort: Effort) -> Sample:
    """The same, but each of 50 tasks is passed the array itself, so each call copies it; tasks a second."""
    import numpy as np

    size_of, array = _size_of(ray), np.ones(MIB, np.uint8)

    def batch() -> int:
        expect(ray.get([size_of.remote(array) for _ in range(LARGE_IN_FLIGHT)]), [MIB] * LARGE_IN_FLIGHT)
        return LARGE_IN_FLIGHT

    return rate(batch, effort, warm_up=2)


def return_1mib(ray: Runtime, effort: Effort) -> Sample:
    """50 tasks each make and return a 1 MiB numpy array; the driver gets all in one call; tasks a second."""

    def make() -> Any:
        import numpy as np

        return np.ones(1 << 20, np.uint8)

    remote_make = ray.remote(make)

    def batch() -> int:
        arrays = ray.get([remote_make.remote() for _ in range(LARGE_IN_FLIGHT)])
        expect([array.nbytes for array in arrays], [MIB] * LARGE_IN_FLIGHT)
        return LARGE_IN_FLIGHT

    return rate(batch, effort, warm_up=2)


def _wait_for_each(ray: Runtime, refs: list[Any]) -> None:
    while refs:
        ready, refs = ray.wait(refs)
        expect(len(ready), 1)


def wait(ray: Runtime, effort: Effort) -> Sample:
    """Submit 1,000 tasks, then `ready, rest = wait(rest)` until none is left: results as they come.

    Tasks a second, from the first submission to the last wait.
    """
    noop = _noop(ray)
    count = effort.count(WAITED)

    def batch() -> int:
        _wait_for_each(ray, [noop.remote() for _ in range(count)])
        return count

    return rate(batch, effort)


def wait_ready(ray: Runtime, effort: Effort) -> Sample:
    """The same loop over 1,000 refs whose tasks have finished before it begins; waits a second."""
    noop = _noop(ray)
    refs = [noop.remote() for _ in range(effort.count(WAITED))]
    ray.get(refs)

    def batch() -> int:
        _wait_for_each(ray, refs)
        return len(refs)

    return rate(batch, effort)


WORKLOADS: dict[str, Workload] = {
    "tasks_sync": tasks_sync,
    "tasks_pipelined": tasks_pipelined,
    "nested_tasks": nested_tasks,
    "chain": chain,
    "arg_ref_1mib": arg_ref_1mib,
    "arg_value_1mib": arg_value_1mib,
    "return_1mib": return_1mib,
    "wait": wait,
    "wait_ready": wait_ready,
}
