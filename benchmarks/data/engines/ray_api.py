"""skate.data and Ray Data, which have one API: the same source asks both."""

from __future__ import annotations

import importlib
import os
from typing import Any

from benchmarks.data.engines import Job
from benchmarks.data.pipelines import BATCH, Pipeline

QUIET: dict[str, dict[str, Any]] = {
    "ray": {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"},
    "skate": {},
    "on_ray": {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"},
}
"""Options of `init` that spare Ray what is not measured."""
MODULES = {"on_ray": "skate"}
"""The package of an engine that has another name."""

ADDRESS = "BENCHMARKS_RAY_ADDRESS"
"""The variable with the address of a Ray cluster to join: Ray's own, which may be a user's, is taken off."""

CPUS_OF_A_MODEL = 0.5
"""A replica for each worker, and half of the CPUs left for tasks: decoding goes on while models answer."""


class RayApi:
    """Either of the two runtimes with that API."""

    def __init__(self, engine: str) -> None:
        self.engine = engine
        if engine == "on_ray":
            os.environ |= {"SKATE_ENGINE": "ray", "RAY_AUTH_MODE": "disabled"}
        self.package = MODULES.get(engine, engine)
        self.runtime: Any = importlib.import_module(self.package)
        self.data: Any = importlib.import_module(f"{self.package}.data")

    def start(self, workers: int, **options: Any) -> None:
        address = os.environ.get(ADDRESS)
        if address and self.engine != "skate":
            os.environ["RAY_ADDRESS"] = address
            options = {}  # a cluster that is there has CPUs and memory of its own
        else:
            options["num_cpus"] = workers
        self.runtime.init(**QUIET[self.engine], **options)
        self.data.DataContext.get_current().enable_progress_bars = False

    def run(self, job: Job) -> None:
        self.dataset(job).write_parquet(job.output)

    def dataset(self, job: Job, **options: Any) -> Any:
        """All steps; `options` go to the functions of rows."""
        made = self.data.read_binary_files(job.paths, include_paths=True)
        return grouped(self.steps(made, job, **options), job.pipeline)

    def steps(self, made: Any, job: Job, **options: Any) -> Any:
        pool = self.data.ActorPoolStrategy(size=job.workers)
        for step in job.pipeline.steps:
            if step.kind == "map":
                made = made.map(step.function, **options)
            elif step.kind == "flat_map":
                made = made.flat_map(step.function, **options)
            else:
                made = made.map_batches(
                    step.function,
                    batch_size=BATCH,
                    compute=pool,
                    num_cpus=CPUS_OF_A_MODEL,
                    fn_constructor_args=(job.models,),
                )
        return made

    def stop(self) -> None:
        self.runtime.shutdown()


def grouped(made: Any, pipeline: Pipeline) -> Any:
    return made if pipeline.group_by is None else made.groupby(pipeline.group_by).count()


def make(engine: str) -> RayApi:
    return RayApi(engine)
