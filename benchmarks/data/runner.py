"""Sessions of the engines, round by round, and whether all of them came to the same result."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import environments, processes, session
from benchmarks.data.engines import NAMES, ON_REQUEST
from benchmarks.data.lines import BY_NAME, FACTORS, LINES, SESSIONS, Line
from benchmarks.data.meter import Watch
from benchmarks.data.pipelines import PIPELINES, Written
from benchmarks.runner import Cell, Collector

REQUIREMENTS = (
    "ray[data]",
    "daft",
    "duckdb",
    "polars",
    "pandas",
    "pillow",
    "pypdfium2",
    "soundfile",
    "soxr",
    "selectolax",
    "py3langid",
    "onnxruntime",
    "tokenizers",
    "msgspec",
    "cloudpickle",
    "fsspec",
)
"""One interpreter for all engines, so that they use the same libraries; skate is that of the checkout."""

DISTRIBUTIONS = {"ray": "ray", "daft": "daft", "duckdb": "duckdb", "polars": "polars"}
PROBE = """
import importlib.metadata, json, platform, skate
versions = {"skate": skate.__version__, "python": platform.python_version()}
for name in ("ray", "daft", "duckdb", "polars", "pyarrow", "numpy", "pillow", "onnxruntime"):
    try:
        versions[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
print(json.dumps(versions))
"""

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "DAFT_PROGRESS_BAR": "0",
    "DO_NOT_TRACK": "1",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
}
"""A library that starts threads of its own would take the CPUs that engines share out."""


@dataclass(frozen=True)
class Plan:
    """What to run, how often, how large, where."""

    engines: tuple[str, ...]
    lines: tuple[Line, ...]
    rounds: int
    scale: float
    workers: int
    timeout_s: float
    python: str
    cache: str
    unpacked: str
    models: str

    def wanted(self, engine: str, name: str) -> list[str]:
        return [it.name for it in self.lines if it.session == name and engine in it.engines]

    def is_full(self) -> bool:
        return (
            self.lines == LINES
            and self.scale == 1
            and set(self.engines) >= set(NAMES) - {"plain", *ON_REQUEST}
        )


def variables() -> dict[str, str]:
    """Of the environment of a measured process."""
    paths = [str(session.ROOT / "src"), str(session.ROOT)]
    if inherited := os.environ.get("PYTHONPATH"):
        paths.append(inherited)
    return {**ONE_THREAD, "PYTHONPATH": os.pathsep.join(paths)}


def versions(python: str) -> dict[str, str]:
    """Of the engines and libraries that an interpreter has; ends the program if it cannot import skate."""
    done = subprocess.run(
        [python, "-c", PROBE],
        capture_output=True,
        text=True,
        env={**session.plain_environment(), **variables()},
    )
    if done.returncode:
        raise SystemExit(
            f"{python} cannot be used: {(done.stderr.strip().splitlines() or ['it printed nothing'])[-1]}"
        )
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


def run(plan: Plan) -> dict[str, Any]:
    """Measure everything in the plan; returns what goes into the JSON file.

    Engines alternate within a session's lines, and their order turns round every round, so that a change in
    the load of the machine meets all of them.
    """
    found = versions(plan.python)
    missing = {
        engine: f"{NAMES[engine]} is not installed in the peers' interpreter"
        for engine, distribution in DISTRIBUTIONS.items()
        if distribution not in found
    }
    collector = Collector(lambda engine, name, lines: _measure(plan, engine, name, lines), missing)
    processes.adopt_orphans()
    began, loads = time.monotonic(), [os.getloadavg()[0]]
    try:
        for number in range(plan.rounds):
            _round(plan, collector, number)
            loads.append(os.getloadavg()[0])
        is_whole = True
    except KeyboardInterrupt:
        print("interrupted: what was measured so far is shown", file=sys.stderr)
        is_whole = False
    for line in collector.cells.items():
        refuse_other_results(*line)
    return {
        "schema": 1,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": environments.machine(),
        "versions": found,
        "options": {
            "rounds": plan.rounds,
            "scale": plan.scale,
            "workers": plan.workers,
            "full": is_whole and plan.is_full(),
        },
        "duration_s": round(time.monotonic() - began),
        "load_average": loads,
        "left_behind": collector.left_behind,
        "lines": {
            name: {"unit": BY_NAME[name].unit, **{engine: asdict(cell) for engine, cell in cells.items()}}
            for name, cells in collector.cells.items()
        },
    }


def _round(plan: Plan, collector: Collector, number: int) -> None:
    engines = plan.engines if number % 2 == 0 else plan.engines[::-1]
    for name in SESSIONS:
        for engine in engines:
            if lines := plan.wanted(engine, name):
                print(f"round {number + 1}/{plan.rounds}  {name:20} {engine}", file=sys.stderr, flush=True)
                collector.collect(engine, name, lines)  # type: ignore[arg-type]


def _measure(plan: Plan, engine: str, name: str, lines: list[str]) -> session.Outcome:
    watches: list[Watch] = []

    def watch(mark: str, driver: int) -> None:
        watches.append(Watch(mark, driver, os.getpid()).start())

    arguments = ["--engine", engine, "--session", name, "--lines", ",".join(lines)]
    arguments += ["--scale", str(plan.scale), "--workers", str(plan.workers), "--cache", plan.cache]
    arguments += ["--unpacked", plan.unpacked, "--models", plan.models]
    try:
        outcome = session.run_module(
            plan.python, "benchmarks.data.child", arguments, plan.timeout_s, variables(), watch
        )
    finally:
        for it in watches:
            it.stop()
    for line, sample in list(outcome.samples.items()):
        began, ended = sample.info.pop("began"), sample.info.pop("ended")
        sample.info["peak_mib"] = round(watches[0].peak_bytes(began, ended) / 2**20, 1)
        lost = watches[0].lost_cpu_s(began, ended)
        sample.info["cpu_s"] += lost
        if not BY_NAME[line].driver_only:
            more = lost * FACTORS[BY_NAME[line].unit] / sample.info["operations"]
            outcome.samples[line] = replace(sample, value=sample.value + more)
    return outcome


def refuse_other_results(line: str, cells: dict[str, Cell]) -> None:
    """Turn samples into failures where an engine wrote something else than the first one that wrote.

    `multiprocessing` is the judge where it runs: its program is the shortest.
    """
    order: Iterable[str] = sorted(cells, key=lambda engine: (engine != "pool", list(NAMES).index(engine)))
    judge: Written | None = None
    for engine in order:
        cell = cells[engine]
        for place in reversed(range(len(cell.info))):
            if "written" not in cell.info[place]:
                continue
            found = Written(**cell.info[place]["written"])
            judge = judge or found
            if difference := found.difference(judge):
                cell.failures.append(f"another result: {difference}")
                del cell.samples[place], cell.info[place]


def needs_inputs(lines: Iterable[Line]) -> bool:
    """Whether the files of packages are needed."""
    return any(line.session in PIPELINES or line.section == "options" for line in lines)


def needs_models(lines: Iterable[Line]) -> bool:
    """Whether the files of models are needed."""
    return any(
        step.kind == "model"
        for line in lines
        if line.session in PIPELINES
        for step in PIPELINES[line.session].steps
    )


def folder(path: Path) -> str:
    """Make it and return its absolute name."""
    path.mkdir(parents=True, exist_ok=True)
    return str(path.resolve())
