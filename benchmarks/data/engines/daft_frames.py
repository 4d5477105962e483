"""Daft on its native runner: functions of rows as `daft.func`, models as `daft.cls` in processes."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.data.engines import Job
from benchmarks.data.pipelines import BATCH, Step


class Daft:
    """Its native runner takes all CPUs of the machine."""

    def start(self, workers: int) -> None:
        daft = importlib.import_module("daft")
        daft.set_runner_native()

    def run(self, job: Job) -> None:
        daft = importlib.import_module("daft")
        frame = daft.from_pydict({"path": job.paths})
        frame = frame.with_column("bytes", daft.functions.download(daft.col("path")))
        columns = ["path", "bytes"]
        for step in job.pipeline.steps:
            frame = _with(daft, frame, step, columns, job)
            columns = list(step.columns)
        if job.pipeline.group_by is not None:
            key = job.pipeline.group_by
            frame = frame.groupby(key).agg(daft.col(columns[0]).count(mode="all").alias("count"))
        frame.write_parquet(job.output)

    def stop(self) -> None:
        pass


def make(engine: str) -> Daft:
    return Daft()


def _with(daft: Any, frame: Any, step: Step, columns: list[str], job: Job) -> Any:
    result = _struct(daft, step)
    arguments = [daft.col(name) for name in columns]
    if step.kind == "map":
        function = daft.func(_of_columns(step.function, columns), return_dtype=result)
        frame = frame.select(function(*arguments).alias("made"))
    elif step.kind == "flat_map":
        function = daft.func(_of_columns_many(step.function, columns), return_dtype=result)
        frame = frame.select(function(*arguments).alias("made"))
    else:
        model = _model(daft, step, columns, result, job)
        frame = frame.select(model(*arguments).alias("made"))
    return frame.select(*(daft.col("made").get(name).alias(name) for name in step.columns))


def _struct(daft: Any, step: Step) -> Any:
    kinds = daft.DataType
    types = {
        "text": kinds.string(),
        "whole": kinds.int64(),
        "real": kinds.float64(),
        "bytes": kinds.binary(),
        "wholes": kinds.list(kinds.int64()),
    }
    return kinds.struct({name: types[kind] for name, kind in step.columns.items()})


def _of_columns(function: Callable[[dict[str, Any]], Any], columns: list[str]) -> Callable[..., Any]:
    def of_columns(*values: Any) -> Any:
        return function(dict(zip(columns, values, strict=True)))

    return of_columns


def _of_columns_many(function: Callable[[dict[str, Any]], Any], columns: list[str]) -> Callable[..., Any]:
    def of_columns(*values: Any) -> Iterator[Any]:
        yield from function(dict(zip(columns, values, strict=True)))

    return of_columns


def _model(daft: Any, step: Step, columns: list[str], result: Any, job: Job) -> Any:
    # Processes: the models hold Python's lock while they prepare what they ask the library.
    @daft.cls(max_concurrency=job.workers, use_process=True)
    class Model:
        def __init__(self, models: str) -> None:
            self.model = step.function(models)

        @daft.method.batch(return_dtype=result, batch_size=BATCH)  # type: ignore[untyped-decorator]
        def answer(self, *values: Any) -> Any:
            batch = {name: series.to_pylist() for name, series in zip(columns, values, strict=True)}
            made = self.model(batch)
            names = list(step.columns)
            rows = zip(*(made[name] for name in names), strict=True)
            return [dict(zip(names, row, strict=True)) for row in rows]

    return Model(job.models).answer
