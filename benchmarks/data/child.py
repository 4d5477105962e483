"""Measures the lines of one session for one engine, in a process of its own, under the peers' interpreter."""

from __future__ import annotations

import argparse
import importlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.child import Step, perform
from benchmarks.data import engines, inputs
from benchmarks.data.lines import BY_NAME, FACTORS
from benchmarks.data.meter import Meter, Section
from benchmarks.data.pipelines import PIPELINES, Written, written
from benchmarks.measure import Sample


@dataclass(frozen=True)
class Task:
    """What this process is asked for."""

    engine: str
    session: str
    lines: tuple[str, ...]
    scale: float
    workers: int
    cache: str
    unpacked: str
    models: str
    meter: Meter

    def fresh_folder(self) -> str:
        """A path for output on the disk of temporary files, where nothing is yet."""
        return tempfile.mkdtemp(prefix="out") + "/rows"

    def job(self, pipeline: str) -> engines.Job:
        kind = PIPELINES[pipeline].inputs
        good = inputs.files(Path(self.unpacked), kind, self.scale)
        bad = inputs.broken_files(good, Path(tempfile.gettempdir(), "broken", kind))
        return engines.Job(PIPELINES[pipeline], good + bad, self.models, self.fresh_folder(), self.workers)


Measures = Iterator[tuple[str, Callable[[], Sample]]]
"""Names of lines and what measures them, in order."""


def sample(line: str, section: Section, operations: float = 1, **info: Any) -> Sample:
    """CPU time in the unit of the line, for one of so many operations; wall time and the rest beside it."""
    factor = FACTORS[BY_NAME[line].unit] / operations
    cpu = section.driver_cpu_s if BY_NAME[line].driver_only else section.cpu_s
    facts = {
        "wall": section.wall_s * factor,
        "cpu_s": section.cpu_s,
        "driver_cpu_s": section.driver_cpu_s,
        "wall_s": section.wall_s,
        "began": section.began,
        "ended": section.ended,
        "operations": operations,
    }
    return Sample(cpu * factor, {**facts, **info})


def check(job: engines.Job) -> dict[str, Any]:
    """What was written, for comparison between engines; the folder is removed."""
    found: Written = written(job.output, job.pipeline)
    shutil.rmtree(Path(job.output).parent, ignore_errors=True)
    return {"written": asdict(found), "inputs": len(job.paths)}


def pipelines(task: Task) -> Measures:
    """A pipeline in a fresh program, with imports and the start of the engine, and again in the same one.

    Listing the inputs and starting Python are left out: they are the same for every engine.
    """
    name = task.session
    adapter: Any = None

    def cold() -> Sample:
        nonlocal adapter
        job = task.job(name)
        with task.meter.section() as section:
            adapter = engines.adapter(task.engine)
            adapter.start(task.workers)
            adapter.run(job)
        return sample(name, section, **check(job))

    def warm() -> Sample:
        job = task.job(name)
        with task.meter.section() as section:
            adapter.run(job)
        return sample(f"{name}_warm", section, **check(job))

    yield name, cold
    if f"{name}_warm" in task.lines:
        yield f"{name}_warm", warm
    adapter.stop()


def _measures(task: Task) -> Measures:
    if task.session in PIPELINES:
        return pipelines(task)
    module = {"options": "options", "killed": "options"}.get(task.session, "overheads")
    if task.session.startswith("exchange"):
        module = "exchanges"
    made: Measures = importlib.import_module(f"benchmarks.data.{module}").measures(task)
    return made


def _steps(task: Task) -> Iterator[Step]:
    for name, measure in _measures(task):
        if name in task.lines:
            yield Step(name, measure)


def main() -> int:
    """Returns 0 whatever became of the single lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", required=True)
    parser.add_argument("--session", required=True)
    parser.add_argument("--lines", required=True, help="names, comma-separated")
    parser.add_argument("--scale", type=float, required=True)
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--cache", required=True)
    parser.add_argument("--unpacked", required=True)
    parser.add_argument("--models", required=True)
    parser.add_argument("--mark", required=True)
    parser.add_argument("--report", type=int, required=True, help="an open file descriptor")
    options = parser.parse_args()
    task = Task(
        options.engine,
        options.session,
        tuple(options.lines.split(",")),
        options.scale,
        options.workers,
        options.cache,
        options.unpacked,
        options.models,
        Meter(options.mark),
    )
    return perform(_steps(task), options.report)


if __name__ == "__main__":
    raise SystemExit(main())
