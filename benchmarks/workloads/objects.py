"""Objects: put and get of small values, 1 MiB and 100 MiB numpy arrays, and an object holding many refs."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.measure import (
    MIB,
    Effort,
    Runtime,
    Sample,
    Workload,
    expect,
    gigabytes_per_second,
    milliseconds_of,
    rate_of_single_calls,
)

LARGE = 100 * MIB
HELD_REFS = 10_000
DISTINCT_SMALL = 100
DISTINCT_MIB = 10


def _large_array() -> Any:
    """100 MiB whose pages exist, so that reading them costs no page fault."""
    import numpy as np

    return np.ones(LARGE, np.uint8)


def put_100mib_cold(ray: Runtime, effort: Effort) -> Sample:
    """The first `put` of this runtime's life, of a 100 MiB numpy array; once a round; GB/s."""
    array = _large_array()
    began = time.perf_counter()
    ref = ray.put(array)
    elapsed = time.perf_counter() - began
    expect(ray.get(ref).nbytes, LARGE)
    return Sample(LARGE / elapsed / 1e9)


def put_100mib_warm(ray: Runtime, effort: Effort) -> Sample:
    """`put` of the same array again and again; each ref is dropped before the next; GB/s."""
    array = _large_array()
    for _ in range(2):
        ray.put(array)
    return gigabytes_per_second(lambda: ray.put(array), LARGE, effort)


def memcpy_100mib(ray: Runtime, effort: Effort) -> Sample:
    """Copy 100 MiB to an array that was written before, by one thread, in the driver; GB/s copied."""
    import numpy as np

    source, target = _large_array(), _large_array()
    return gigabytes_per_second(lambda: np.copyto(target, source), LARGE, effort)


def get_100mib(ray: Runtime, effort: Effort) -> Sample:
    """`get` of a 100 MiB numpy array, which is dropped before the next; no copy is needed; gets a second."""
    ref = ray.put(_large_array())
    expect(ray.get(ref).nbytes, LARGE)
    return rate_of_single_calls(lambda: ray.get(ref), effort)


def put_small(ray: Runtime, effort: Effort) -> Sample:
    """`put` of a small int; each ref is dropped before the next; puts a second."""
    return rate_of_single_calls(lambda: ray.put(7), effort)


def get_small(ray: Runtime, effort: Effort) -> Sample:
    """`get` of a small int that the driver has put, one ref a call, 100 refs in turn; gets a second."""
    refs = [ray.put(number) for number in range(DISTINCT_SMALL)]
    expect(ray.get(refs), list(range(DISTINCT_SMALL)))
    return rate_of_single_calls(lambda: [ray.get(ref) for ref in refs], effort, DISTINCT_SMALL)


def put_1mib(ray: Runtime, effort: Effort) -> Sample:
    """`put` of a 1 MiB numpy array; each ref is dropped before the next; puts a second."""
    import numpy as np

    array = np.ones(MIB, np.uint8)
    return rate_of_single_calls(lambda: ray.put(array), effort)


def get_1mib(ray: Runtime, effort: Effort) -> Sample:
    """`get` of a 1 MiB numpy array that the driver has put, one ref a call, 10 in turn; gets a second."""
    import numpy as np

    refs = [ray.put(np.full(MIB, number, np.uint8)) for number in range(DISTINCT_MIB)]
    expect([int(ray.get(ref)[-1]) for ref in refs], list(range(DISTINCT_MIB)))
    return rate_of_single_calls(lambda: [ray.get(ref).nbytes for ref in refs], effort, DISTINCT_MIB)


def refs_10k(ray: Runtime, effort: Effort) -> Sample:
    """Put a list of 10,000 refs (of small values, made before) and get it back as refs; ms for both."""
    count = effort.count(HELD_REFS)
    refs = [ray.put(number) for number in range(count)]

    def there_and_back() -> None:
        expect(len(ray.get(ray.put(refs))), count)

    return milliseconds_of(there_and_back, effort)


WORKLOADS: dict[str, Workload] = {
    "put_100mib_cold": put_100mib_cold,
    "put_100mib_warm": put_100mib_warm,
    "memcpy_100mib": memcpy_100mib,
    "get_100mib": get_100mib,
    "put_small": put_small,
    "get_small": get_small,
    "put_1mib": put_1mib,
    "get_1mib": get_1mib,
    "refs_10k": refs_10k,
}
