"""A full object store: what moves to disk and comes back, beside plain writes and reads of a file.

The store holds 256 MiB here. Arrays of 16 MiB are put while all refs are held. The first 256 MiB are not
timed: from there on, for every byte that is put one goes to disk. All systems write to the same folder, the
temporary one of the run; none of them asks the kernel to wait for the disk itself, so the rates are those of
its page cache until that is throttled. Each goes once over its course before it is timed: on a virtual
machine memory that was not touched lately has to come from the host first, at a tenth of the rate, and
whoever comes first would pay for all.
"""

from __future__ import annotations

import os
import tempfile
import time
from typing import Any

from benchmarks.measure import MIB, Effort, Runtime, Sample, Workload, expect

STORE = 256 * MIB
PIECE = 16 * MIB
PIECES = 64
"""1 GiB, timed in each batch."""


def _piece() -> Any:
    """16 MiB of noise, so that no file system can leave any of it out."""
    import numpy as np

    return np.random.default_rng(0).integers(0, 256, PIECE, np.uint8)


def _sample(done: int, spent: float) -> Sample:
    return Sample(done * PIECE / spent / 1e9, {"pieces": done, "seconds": spent})


def spill(ray: Runtime, effort: Effort) -> Sample:
    """`put` 1 GiB in arrays of 16 MiB into a store that is full, refs held; GB/s."""
    piece, count = _piece(), effort.count(PIECES)
    done, spent, warm = 0, 0.0, False
    while spent < effort.seconds:
        held = [ray.put(piece) for _ in range(STORE // PIECE)]
        began = time.perf_counter()
        held += [ray.put(piece) for _ in range(count)]
        if warm:
            spent += time.perf_counter() - began
            done += count
        warm = True
        del held
    return _sample(done, spent)


def restore(ray: Runtime, effort: Effort) -> Sample:
    """Get 1 GiB that was spilled, in arrays of 16 MiB, and copy each to one place; GB/s."""
    import numpy as np

    piece, target, count = _piece(), np.empty(PIECE, np.uint8), effort.count(PIECES)
    refs = [ray.put(piece) for _ in range(count + STORE // PIECE)][:count]
    done, spent = 0, 0.0
    while spent < effort.seconds:
        for ref in refs:
            began = time.perf_counter()
            np.copyto(target, ray.get(ref))
            spent += time.perf_counter() - began
            expect(bool(target[-1] == piece[-1]), True)
        done += count
    return _sample(done, spent)


def plain_write(effort: Effort) -> Sample:
    """Write the same arrays to a new file without a name, one after the other; GB/s."""
    piece, count = _piece(), effort.count(PIECES)
    done, spent, warm = 0, 0.0, False
    while spent < effort.seconds:
        with tempfile.TemporaryFile(buffering=0) as file:
            began = time.perf_counter()
            for _ in range(count):
                expect(file.write(piece), PIECE)
            if warm:
                spent += time.perf_counter() - began
                done += count
        warm = True
    return _sample(done, spent)


def plain_read(effort: Effort) -> Sample:
    """Read a file of 1 GiB that was just written, in pieces of 16 MiB, to one place; GB/s."""
    piece, target, count = _piece(), bytearray(PIECE), effort.count(PIECES)
    done, spent = 0, 0.0
    with tempfile.TemporaryFile(buffering=0) as file:
        for _ in range(count):
            expect(file.write(piece), PIECE)
        while spent < effort.seconds:
            file.seek(0, os.SEEK_SET)
            began = time.perf_counter()
            for _ in range(count):
                expect(file.readinto(target), PIECE)
            spent += time.perf_counter() - began
            done += count
    return _sample(done, spent)


WORKLOADS: dict[str, Workload] = {"spill": spill, "restore": restore}
