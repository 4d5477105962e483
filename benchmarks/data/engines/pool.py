"""`multiprocessing`: processes that read, decode and ask the model, and a driver that writes."""

from __future__ import annotations

import collections
import itertools
import multiprocessing
from collections.abc import Iterator, Sequence
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

from benchmarks.data.engines import Job
from benchmarks.data.pipelines import BATCH, PIPELINES, ColumnType, Pipeline

ROWS_A_GROUP = 1024

_models: dict[type, Any] = {}
"""One instance of each model in a process of the pool."""


class ProcessPool:
    """Keeps no processes between runs: what a script with `with Pool()` does."""

    def start(self, workers: int) -> None:
        pass

    def run(self, job: Job) -> None:
        # Chunks of one batch: large enough for the model, small enough that the last one is over soon.
        chunks = [job.paths[start : start + BATCH] for start in range(0, len(job.paths), BATCH)]
        work = [(job.pipeline.name, job.models, chunk) for chunk in chunks]
        context = multiprocessing.get_context("spawn")
        with context.Pool(job.workers) as pool:
            if job.pipeline.group_by is None:
                _write_rows(pool, work, job)
            else:
                _write_groups(pool, work, job)

    def stop(self) -> None:
        pass


def make(engine: str) -> ProcessPool:
    return ProcessPool()


def process(work: tuple[str, str, Sequence[str]]) -> list[dict[str, Any]]:
    """In a process of the pool: all steps over a few files."""
    name, models, paths = work
    rows: Iterator[dict[str, Any]] = ({"path": path, "bytes": Path(path).read_bytes()} for path in paths)
    for step in PIPELINES[name].steps:
        if step.kind == "map":
            rows = map(step.function, rows)
        elif step.kind == "flat_map":
            rows = itertools.chain.from_iterable(map(step.function, rows))
        else:
            if step.function not in _models:
                _models[step.function] = step.function(models)
            rows = _in_batches(_models[step.function], rows)
    return list(rows)


def _in_batches(model: Any, rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    waiting = list(rows)
    for start in range(0, len(waiting), BATCH):
        part = waiting[start : start + BATCH]
        answer = model({name: [row[name] for row in part] for name in part[0]})
        for values in zip(*answer.values(), strict=True):
            yield dict(zip(answer, values, strict=True))


def _schema(columns: dict[str, ColumnType]) -> Any:
    import pyarrow as pa

    types = {
        "text": pa.string(),
        "whole": pa.int64(),
        "real": pa.float64(),
        "bytes": pa.binary(),
        "wholes": pa.list_(pa.int64()),
    }
    return pa.schema([(name, types[kind]) for name, kind in columns.items()])


def _write_rows(pool: Pool, work: list[Any], job: Job) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _schema(job.pipeline.steps[-1].columns)
    Path(job.output).mkdir(parents=True)
    with pq.ParquetWriter(f"{job.output}/rows.parquet", schema) as writer:
        waiting: list[dict[str, Any]] = []
        for rows in pool.imap_unordered(process, work):
            waiting += rows
            if len(waiting) >= ROWS_A_GROUP:
                writer.write_table(pa.Table.from_pylist(waiting, schema))
                waiting = []
        writer.write_table(pa.Table.from_pylist(waiting, schema))


def _write_groups(pool: Pool, work: list[Any], job: Job) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    key = _key(job.pipeline)
    counts: collections.Counter[Any] = collections.Counter()
    for rows in pool.imap_unordered(process, work):
        counts.update(row[key] for row in rows)
    Path(job.output).mkdir(parents=True)
    table = pa.table({key: list(counts), "count": list(counts.values())})
    pq.write_table(table, f"{job.output}/groups.parquet")


def _key(pipeline: Pipeline) -> str:
    if pipeline.group_by is None:
        raise ValueError(f"{pipeline.name} has no groups")
    return pipeline.group_by
