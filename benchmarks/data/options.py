"""What `skate.data` does besides running: order, dead letters, resuming. The pipeline is the one of pages."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.data.child import Measures, Task, check, sample
from benchmarks.data.engines import Job
from benchmarks.data.engines.ray_api import RayApi
from benchmarks.data.meter import Section
from benchmarks.data.pipelines import PIPELINES, STRICT, Pipeline, Step
from benchmarks.measure import Sample

PIPELINE = "text"
HALF = 0.5


def measures(task: Task) -> Measures:
    return warm(task) if task.session == "options" else killed(task)


def warm(task: Task) -> Measures:
    """Each variant in one session that has run the pipeline before, so that all find the same state."""
    api = RayApi(task.engine)
    api.start(task.workers)
    options = api.data.DataContext.get_current().execution_options

    def line(name: str, run: Callable[[Job], None], **facts: Any) -> tuple[str, Callable[[], Sample]]:
        def measure() -> Sample:
            job = task.job(PIPELINE)
            with task.meter.section() as section:
                run(job)
            # Rows with dead letters are fewer, so they are compared by nobody.
            found = check(job)
            return sample(name, section, **(found if not facts else {**facts, "found": found}))

        return name, measure

    def in_order(job: Job) -> None:
        options.preserve_order = True
        try:
            api.run(job)
        finally:
            options.preserve_order = False

    def with_letters(job: Job) -> None:
        api.dataset(_strict(job), on_error="dead_letter").write_parquet(job.output)

    options.preserve_order = False
    job = task.job(PIPELINE)
    api.run(job)
    check(job)
    yield line("options_none", api.run)
    yield line("options_ordered", in_order)
    yield line("options_letters", with_letters, letters=True)
    yield line("options_resume", lambda job: api.dataset(job).write_parquet(job.output, resume=True))
    api.stop()


def _strict(job: Job) -> Job:
    """The same with functions that raise what the others write into a column."""
    steps = tuple(
        Step(it.kind, STRICT.get(it.function, it.function), it.columns) for it in job.pipeline.steps
    )
    pipeline = Pipeline(job.pipeline.name, job.pipeline.inputs, steps)
    return Job(pipeline, job.paths, job.models, job.output, job.workers)


def killed(task: Task) -> Measures:
    """Programs that write resumably: one that is left alone, and one that is killed and started again."""
    whole = Section()

    def program(job: Job) -> list[str]:
        paths = Path(job.output).parent / "paths"
        paths.write_text("\n".join(job.paths))
        arguments = ["--output", job.output, "--paths", str(paths), "--workers", str(job.workers)]
        return [sys.executable, "-m", "benchmarks.data.options", *arguments]

    def undisturbed() -> Sample:
        nonlocal whole
        job = task.job(PIPELINE)
        with task.meter.section() as whole:
            subprocess.run(program(job), check=True)
        return sample("whole", whole, **check(job))

    def interrupted() -> Sample:
        job = task.job(PIPELINE)
        command = program(job)
        with task.meter.section() as section:
            first = subprocess.Popen(command)
            try:
                first.wait(timeout=whole.wall_s * HALF)
            except subprocess.TimeoutExpired:
                first.kill()
                first.wait()
            before_kill = len(list(Path(job.output).rglob("*.parquet")))
            subprocess.run(command, check=True)
        return sample("killed", section, staged_files=before_kill, **check(job))

    yield "whole", undisturbed
    yield "killed", interrupted


def main() -> None:
    """Write the pipeline's output, going on where an earlier run of the same output was killed."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--output", required=True)
    parser.add_argument("--paths", required=True, help="a file with a path on each line")
    parser.add_argument("--workers", type=int, required=True)
    options = parser.parse_args()
    paths = Path(options.paths).read_text().split("\n")
    api = RayApi("skate")
    api.start(options.workers)
    job = Job(PIPELINES[PIPELINE], paths, "", options.output, options.workers)
    api.dataset(job).write_parquet(job.output, resume=True)
    api.stop()


if __name__ == "__main__":
    main()
