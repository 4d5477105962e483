"""What stands in `util`: the queue, `Pool.map`, and joblib's `Parallel`.

The modules are those of the runtime itself: `ray.util.queue` or `skate.util.queue`, and so on.
"""

from __future__ import annotations

import importlib
from typing import Any

from benchmarks.measure import Effort, Runtime, Sample, Workload, expect, rate, rate_of_single_calls

QUEUED = 1000
MAPPED = 100_000
PARALLEL_CALLS = 5000
WORKERS = 2


def _part(ray: Any, name: str) -> Any:
    return importlib.import_module(f"{ray.__name__}.util.{name}")


def queue_put(ray: Runtime, effort: Effort) -> Sample:
    """`put` a small int into a queue without a limit, which nobody reads; puts a second."""
    queue = _part(ray, "queue").Queue()
    try:
        return rate_of_single_calls(lambda: queue.put(7), effort)
    finally:
        queue.shutdown(force=True)


def queue_get(ray: Runtime, effort: Effort) -> Sample:
    """Fill a queue with 1,000 ints in one call, then `get` them one by one; gets a second."""
    queue = _part(ray, "queue").Queue()
    numbers = list(range(effort.count(QUEUED)))

    def batch() -> int:
        queue.put_nowait_batch(numbers)
        expect([queue.get() for _ in numbers], numbers)
        return len(numbers)

    try:
        return rate(batch, effort)
    finally:
        queue.shutdown(force=True)


def pool_map(ray: Runtime, effort: Effort) -> Sample:
    """`Pool(2).map` of a function that squares an int, over 100,000, default chunks; items a second."""

    def square(number: int) -> int:
        return number * number

    numbers = range(effort.count(MAPPED))
    pool = _part(ray, "multiprocessing").Pool(WORKERS)

    def batch() -> int:
        expect(pool.map(square, numbers)[-1], numbers[-1] ** 2)
        return len(numbers)

    try:
        return rate(batch, effort)
    finally:
        pool.terminate()
        pool.join()


def joblib_parallel(ray: Any, effort: Effort) -> Sample:
    """`Parallel(n_jobs=2)` over 5,000 calls that square an int, in a `with` block; calls a second.

    joblib makes batches of calls by itself, and larger ones as it sees that they are short;
    its own work in the driver is most of the time then.
    """

    def square(number: int) -> int:
        return number * number

    getattr(_part(ray, "joblib"), f"register_{ray.__name__}")()
    return parallel_calls(ray.__name__, square, effort)


def parallel_calls(backend: str, square: Any, effort: Effort) -> Sample:
    """The same for any backend that joblib knows."""
    import joblib

    numbers = range(effort.count(PARALLEL_CALLS))
    with joblib.Parallel(n_jobs=WORKERS, backend=backend) as parallel:

        def batch() -> int:
            squares = parallel(joblib.delayed(square)(number) for number in numbers)
            expect(squares[-1], numbers[-1] ** 2)
            return len(numbers)

        return rate(batch, effort, warm_up=3)


WORKLOADS: dict[str, Workload] = {
    "queue_put": queue_put,
    "queue_get": queue_get,
    "pool_map": pool_map,
    "joblib": joblib_parallel,
}
