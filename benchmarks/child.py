"""Runs one group of lines for one system, in a process of its own, under the interpreter of that system.

Started by `session`. What happens is written as JSON objects, one a line, to the file descriptor `--report`:
`{"step": NAME}` before something that may hang (setting up, or a line), `{"line": NAME, "value": V, "info":
{}}` after a line that worked, and `{"step": NAME, "error": TEXT}` after one that did not. Standard output is
left to the system, which may write there what it likes.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks import baselines
from benchmarks.measure import Effort, Sample

MODULES = {"skate": "skate", "ray": "ray"}
"""The systems with the common API, and the module that each is."""


@dataclass(frozen=True)
class Step:
    """Something to do: a line if it returns a sample. After a `vital` step failed, nothing else can run."""

    name: str
    run: Callable[[], Sample | None]
    vital: bool = False


def _startup(module: str, wanted: list[str], mark: str) -> Iterator[Step]:
    from benchmarks.workloads.startup import Startup

    life = Startup(module, mark)
    if "import_time" in wanted:
        yield Step("import_time", life.import_time)
    if "inline_first_task" in wanted:
        yield Step("inline_first_task", life.inline_first_task)
    yield Step("init", life.init, vital=True)
    yield Step("first_task", life.first_task, vital=True)
    yield Step("init_first_task", life.init_first_task)
    if "idle_memory" in wanted:
        yield Step("idle_memory", life.idle_memory)
    yield Step("shutdown", life.shutdown)


def _runtime(module: str, group: str, wanted: list[str], effort: Effort) -> Iterator[Step]:
    from benchmarks.workloads import WORKLOADS
    from benchmarks.workloads.spilling import STORE
    from benchmarks.workloads.startup import start, warm_two_workers

    loaded: list[Any] = []
    yield Step("import", lambda: loaded.append(importlib.import_module(module)), vital=True)
    runtime = loaded[0]
    options = {"object_store_memory": STORE} if group == "spilling" else {}
    yield Step("init", lambda: start(runtime, **options), vital=True)
    if group not in ("objects", "spilling"):
        yield Step("warm-up of two workers", lambda: warm_two_workers(runtime), vital=True)
    for name, workload in WORKLOADS[group].items():
        if name in wanted:
            yield Step(name, lambda workload=workload: workload(runtime, effort))  # type: ignore[misc]
    yield Step("shutdown after the group", lambda: (runtime.shutdown(), None)[1])


def _pool(group: str, wanted: list[str], effort: Effort) -> Iterator[Step]:
    if group == "startup":
        yield Step("init_first_task", baselines.pool_init_first_task)
        return
    if group == "helpers":
        for name, alone in baselines.HELPERS.items():
            if name in wanted:
                yield Step(name, lambda alone=alone: alone(effort))  # type: ignore[misc]
        return
    with baselines.start_pool() as pool:
        for name, workload in baselines.POOL[group].items():
            if name in wanted:
                yield Step(name, lambda workload=workload: workload(pool, effort))  # type: ignore[misc]


def _bare(group: str, wanted: list[str], effort: Effort) -> Iterator[Step]:
    if group == "spilling":
        for name, alone in baselines.FILES.items():
            if name in wanted:
                yield Step(name, lambda alone=alone: alone(effort))  # type: ignore[misc]
        return
    loop = baselines.BareLoop()
    for name, workload in baselines.BARE.items():
        if name in wanted:
            yield Step(name, lambda workload=workload: workload(loop, effort))  # type: ignore[misc]
    loop.close()


def _steps(system: str, group: str, wanted: list[str], effort: Effort, mark: str) -> Iterator[Step]:
    if system == "pool":
        return _pool(group, wanted, effort)
    if system == "bare":
        return _bare(group, wanted, effort)
    if group == "startup":
        return _startup(MODULES[system], wanted, mark)
    return _runtime(MODULES[system], group, wanted, effort)


def perform(steps: Iterable[Step], report_fd: int) -> int:
    """Do the steps and report each; returns 1 after a vital step failed, else 0."""
    os.set_inheritable(report_fd, False)
    with os.fdopen(report_fd, "w", buffering=1) as report:

        def say(**event: Any) -> None:
            print(json.dumps(event), file=report)

        say(step="start")
        for step in steps:
            say(step=step.name)
            try:
                sample = step.run()
            except Exception as error:
                traceback.print_exc()
                said = str(error).strip().splitlines()
                say(step=step.name, error=f"{type(error).__name__}: {said[-1] if said else ''}"[:300])
                if step.vital:
                    return 1
            else:
                if sample is not None:
                    say(line=step.name, value=sample.value, info=sample.info)
        say(step="exit")
    return 0


def main() -> int:
    """Returns 1 after a vital step failed, else 0, whatever became of the single lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--system", required=True)
    parser.add_argument("--group", required=True)
    parser.add_argument("--lines", required=True, help="names, comma-separated")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--scale", type=float, required=True)
    parser.add_argument("--mark", required=True)
    parser.add_argument("--report", type=int, required=True, help="an open file descriptor")
    options = parser.parse_args()
    wanted = options.lines.split(",")
    effort = Effort(options.seconds, options.scale)
    return perform(_steps(options.system, options.group, wanted, effort, options.mark), options.report)


if __name__ == "__main__":
    raise SystemExit(main())
