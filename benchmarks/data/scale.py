"""Programs for the soak test: very many blocks, very long plans, very large rows.

Each runs in a process of its own, started by `soak`, with sizes that a factor multiplies. It checks the rows
that it gets, and reports a figure and, if there is a limit, the most that the figure may be.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.child import Step, perform
from benchmarks.measure import MIB, Sample, expect
from benchmarks.soak import own_memory, slope

ROW_BYTES = 300 * MIB
BLOCK_BYTES = 3 << 30
#: Bytes that a driver's memory may grow in a thousand blocks: 50 MB in a million.
MOST_GROWTH = 50_000
#: Tasks of which the statistics keep all are fewer; their memory is no growth.
LEAST_BLOCKS = 100_000


def _data(workers: int, budget: int | None = None, is_local: bool = False) -> Any:
    """Return `skate.data` in a session of its own."""
    import skate
    import skate.data

    skate.init(num_cpus=workers, log_to_driver=False)
    context = skate.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.memory_limit_bytes = budget
    if not is_local:
        context.local_limit_bytes = 0
    return skate.data


def _same(data: Any) -> Any:
    return data


def blocks(factor: float, workers: int) -> Sample:
    """A million blocks of one row through two stages: what the driver keeps, and its CPU time for each."""
    data = _data(workers)
    count = max(2000, round(1_000_000 * factor))
    pool = data.ActorPoolStrategy(size=1)
    made = data.range(count, override_num_blocks=count).map_batches(_Same, batch_size=1, compute=pool)
    samples: list[tuple[int, int]] = []
    rows = 0
    cpu = 0.0
    for batch in made.iter_batches(batch_size=None, batch_format="pyarrow"):
        if rows == 0:
            cpu = time.process_time()
        rows += batch.num_rows
        if not rows % max(1, count // 50):
            samples.append((rows, own_memory(os.getpid())))
    cpu = time.process_time() - cpu
    expect(rows, count)
    facts = {"unit": "bytes for a thousand blocks", "driver_ms_a_block": 1000 * cpu / count}
    if count >= LEAST_BLOCKS:
        facts["most"] = MOST_GROWTH
    return Sample(slope(samples), facts)


class _Same:
    def __call__(self, batch: Any) -> Any:
        return batch


def stages(factor: float, workers: int) -> Sample:
    """A union of a thousand sets, and a chain of two hundred limits and functions."""
    data = _data(workers, is_local=True)
    count = max(20, round(1000 * factor))
    parts = [data.from_items([{"id": number}]) for number in range(count)]
    begun = time.perf_counter()
    expect([row["id"] for row in parts[0].union(*parts[1:]).iter_rows()], list(range(count)))
    union_s = time.perf_counter() - begun
    length = max(10, round(200 * factor))
    made = data.range(100)
    for _ in range(length):
        made = made.limit(100).map(_same)
    begun = time.perf_counter()
    expect([row["id"] for row in made.iter_rows()], list(range(100)))
    chain_s = time.perf_counter() - begun
    ms = 1000 * (union_s + chain_s) / (count + length)
    facts = {"most": 100.0, "unit": "ms for a stage", "stages": count + length}
    return Sample(ms, {**facts, "union_s": union_s, "chain_s": chain_s})


def _inflate(row: Any) -> Any:
    return {"id": row["id"], "content": bytes([row["id"]]) * row["size"]}


def _measure(row: Any) -> Any:
    return {
        "id": row["id"],
        "size": len(row["content"]),
        "first": row["content"][:1],
        "last": row["content"][-1:],
    }


def rows(factor: float, workers: int) -> Sample:
    """Rows of 300 MB from one process to another: each passes whole."""
    data = _data(workers)
    size = max(MIB, round(ROW_BYTES * factor))
    made = data.from_items([{"id": number, "size": size} for number in range(6)])
    pool = data.ActorPoolStrategy(size=1)
    found = made.map(_inflate).map(_Measure, compute=pool).take_all()
    expect(sorted(row["id"] for row in found), list(range(6)))
    expect({row["size"] for row in found}, {size})
    expect(all(row["first"] == row["last"] == bytes([row["id"]]) for row in found), True)
    return Sample(size / MIB, {"unit": "MiB a row"})


class _Measure:
    def __call__(self, row: Any) -> Any:
        return _measure(row)


def _texts(batch: Any) -> Any:
    """Return a block of long strings: more bytes than 32-bit offsets can tell."""
    import numpy as np
    import pyarrow as pa

    (count,) = batch["count"]
    letters = np.full(count * MIB, ord("x"), dtype=np.uint8)
    offsets = np.arange(0, len(letters) + 1, MIB, dtype=np.int64)
    text = pa.LargeStringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(letters))
    return pa.table({"id": range(count), "text": text})


def _lengths(batch: Any) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    return pa.table({"id": batch["id"], "size": pc.binary_length(batch["text"])})


def texts(factor: float, workers: int) -> Sample:
    """A batch of 3 GiB of strings, sorted, and measured by another function."""
    data = _data(workers)
    count = max(4, round(BLOCK_BYTES * factor) // MIB)
    made = data.from_items([{"count": count}]).map_batches(_texts).sort("id", descending=True)
    found = made.map_batches(_lengths, batch_format="pyarrow").take_all()
    expect([row["id"] for row in found], list(range(count))[::-1])
    expect({row["size"] for row in found}, {MIB})
    return Sample(count, {"unit": "MiB a batch"})


PROGRAMS: dict[str, Callable[[float, int], Sample]] = {
    "blocks": blocks,
    "stages": stages,
    "rows": rows,
    "texts": texts,
}


def _steps(options: argparse.Namespace) -> Iterator[Step]:
    yield Step(options.program, lambda: PROGRAMS[options.program](options.factor, options.workers))


def main() -> int:
    """Returns 0 whatever became of the program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", choices=tuple(PROGRAMS), required=True)
    parser.add_argument("--factor", type=float, required=True)
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--mark", required=True)
    parser.add_argument("--report", type=int, required=True, help="an open file descriptor")
    options = parser.parse_args()
    return perform(_steps(options), options.report)


if __name__ == "__main__":
    raise SystemExit(main())
