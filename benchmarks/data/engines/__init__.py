"""Each engine runs a list of steps over files and writes parquet: what a user of it would write."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Protocol

from benchmarks.data.pipelines import Pipeline

NAMES = {
    "skate": "skate.data",
    "on_ray": "skate.data on Ray",
    "pool": "multiprocessing",
    "ray": "Ray Data",
    "daft": "Daft",
    "duckdb": "DuckDB",
    "polars": "Polars",
    "plain": "plain Python",
}
"""Engines by the name in options and results, and as readers know them."""

ON_REQUEST = ("on_ray",)
"""Engines that run only if they are named."""

ADAPTERS = {"skate": "ray_api", "on_ray": "ray_api", "ray": "ray_api", "pool": "pool", "daft": "daft_frames"}
"""Those that run pipelines, and the module that asks them to. skate and Ray are asked by the same source."""


@dataclass(frozen=True)
class Job:
    """One run of a pipeline."""

    pipeline: Pipeline
    paths: list[str]
    models: str
    output: str
    """A folder that does not exist yet."""
    workers: int


class Adapter(Protocol):
    """An engine that can be started, used again and again, and stopped."""

    def start(self, workers: int) -> None: ...

    def run(self, job: Job) -> None: ...

    def stop(self) -> None: ...


def adapter(engine: str) -> Adapter:
    module = importlib.import_module(f"benchmarks.data.engines.{ADAPTERS[engine]}")
    made: Adapter = module.make(engine)
    return made
