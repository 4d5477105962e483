"""Does `skate.data` lose anything, and does anything grow? The fault and scale tests at full size.

Faults are tests of `tests/data`, with more kills and more seeds: SKATE_DATA_FACTOR times as many. Scale are
programs in processes of their own; the memory of the whole session (proportional set size) is watched from
outside. A part is `ok`, or says what was wrong; the exit code is then 1.

    python -m benchmarks.data.soak [--factor 1.0] [--only kills,memory] [--list]

`--factor 0.02` is a look of a few minutes. A full run takes hours and 15 GB of disk.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import environments, processes, session
from benchmarks.data import inputs, runner
from benchmarks.data.lines import BY_NAME
from benchmarks.data.meter import Watch
from benchmarks.data.scale import PROGRAMS
from benchmarks.measure import MIB

#: Peak memory of a session, in budgets, where ten times the budget goes through.
MOST_BUDGETS = 1.25
TIMEOUT_S = 6 * 3600.0


@dataclass(frozen=True)
class Options:
    """What all parts are given."""

    factor: float
    workers: int
    cache: Path


@dataclass(frozen=True)
class Result:
    """What became of a part.

    Attributes:
        facts: for people.
        wrong: what was wrong, or nothing.
    """

    facts: str
    wrong: Sequence[str] = ()


def _tests(options: Options, most: float, *selected: str) -> Result:
    """Run tests so many times as often as in CI, at full size."""
    times = max(1, round(most * options.factor))
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--no-header", "-p", "no:cacheprovider", *selected]
    environment = {**session.plain_environment(), "SKATE_DATA_FACTOR": str(times)}
    done = subprocess.run(command, cwd=session.ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    lines = done.stdout.strip().splitlines() or ["no output"]
    wrong = [] if done.returncode == 0 else [f"exit code {done.returncode}", *lines[-40:]]
    return Result(f"{times} times as many; {lines[-1].strip('= ')}", wrong)


def _lines(options: Options, *names: str) -> Result:
    """Measure lines of the benchmarks, with skate alone."""
    plan = runner.Plan(
        engines=("skate",),
        lines=tuple(BY_NAME[name] for name in names),
        rounds=1,
        scale=options.factor,
        workers=options.workers,
        timeout_s=TIMEOUT_S,
        python=sys.executable,
        cache=runner.folder(options.cache),
        unpacked=str(options.cache),
        models=str(options.cache),
    )
    data = runner.run(plan)
    facts: list[str] = []
    wrong = [
        f"{count} processes of {name} left behind" for name, count in data["left_behind"].items() if count
    ]
    for name in names:
        cell = data["lines"][name].get("skate", {"info": [], "failures": ["it was not measured"]})
        wrong += [f"{name}: {failure}" for failure in cell["failures"]]
        for info in cell["info"]:
            facts.append(f"{name} {info['wall_s']:.1f} s, peak {info['peak_mib']:.0f} MiB")
            if "budget_mib" in info:
                budgets = info["peak_mib"] / info["budget_mib"]
                facts[-1] += f" = {budgets:.2f} budgets"
                if name == "ten_budgets" and budgets > MOST_BUDGETS and options.factor >= 1:
                    # A smaller budget is that of few processes, which come on top of it.
                    wrong.append(f"{name}: more than {MOST_BUDGETS} budgets")
    return Result("; ".join(facts), wrong)


def _program(options: Options, name: str) -> Result:
    """Run a program of `scale`, and watch its memory."""
    watches: list[Watch] = []

    def watch(mark: str, driver: int) -> None:
        watches.append(Watch(mark, driver, os.getpid()).start())

    processes.adopt_orphans()
    arguments = ["--program", name, "--factor", str(options.factor), "--workers", str(options.workers)]
    try:
        outcome = session.run_module(
            sys.executable, "benchmarks.data.scale", arguments, TIMEOUT_S, runner.variables(), watch
        )
    finally:
        for one in watches:
            one.stop()
    peak = max((size for _, size in watches[0].samples), default=0)
    wrong = [f"{step}: {error}" for step, error in outcome.failed.items()]
    if outcome.broken is not None:
        wrong.append(": ".join(outcome.broken))
    if outcome.left_behind:
        wrong.append(f"{outcome.left_behind} processes left behind")
    facts = [f"peak {peak / MIB:.0f} MiB"]
    for sample in outcome.samples.values():
        info: dict[str, Any] = dict(sample.info)
        unit, most = info.pop("unit"), info.pop("most", None)
        facts.append(f"{sample.value:.1f} {unit}")
        facts += [f"{key} {value:.3g}" for key, value in info.items()]
        if most is not None and sample.value > most:
            wrong.append(f"{sample.value:.1f} {unit}; at most {most:g} were expected")
    return Result(", ".join(facts), wrong)


_KILLS = "tests/data/write/test_crash_points.py::test_killed_at_random_moments"
_DRIVERS = "tests/data/faults/test_killed_drivers.py::test_a_write_goes_on_after_its_drivers_were_killed"
_PLANS = "tests/data/faults/test_random_plans.py"
_SEEDS = "tests/data/execution/test_scheduler.py"
PARTS: dict[str, tuple[str, Callable[[Options], Result]]] = {
    "kills": ("a write is killed at 1,000 random moments and resumed", lambda it: _tests(it, 34, _KILLS)),
    "drivers": ("a program with a pool is killed 100 times and resumed", lambda it: _tests(it, 34, _DRIVERS)),
    "plans": ("random plans, 4,000 here and 1,500 on a session", lambda it: _tests(it, 100, _PLANS)),
    "seeds": ("the scheduler in 100,000 played worlds", lambda it: _tests(it, 50, _SEEDS)),
    "memory": ("ten times the budget through three functions", lambda it: _lines(it, "ten_budgets")),
    "files": ("100,000 small files", lambda it: _lines(it, "files_first_row", "files_all")),
    "exchanges": (
        "sort, shuffle, group and join five times the budget",
        lambda it: _lines(it, "exchange_sort", "exchange_shuffle", "exchange_many", "exchange_join"),
    ),
    **{
        name: ((program.__doc__ or "").strip().splitlines()[0], partial(_program, name=name))
        for name, program in PROGRAMS.items()
    },
}


def _names(text: str) -> list[str]:
    patterns = text.split(",")
    if unknown := [one for one in patterns if not any(fnmatchcase(name, one) for name in PARTS)]:
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; known: {', '.join(PARTS)}")
    return [name for name in PARTS if any(fnmatchcase(name, one) for one in patterns)]


def main() -> int:
    """Returns 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--factor", type=float, default=1.0, help="of all sizes and numbers (1.0)")
    parser.add_argument("--only", type=_names, default=list(PARTS), help="names of parts, or patterns")
    parser.add_argument("--workers", type=int, default=int(environments.machine()["cores"]))
    parser.add_argument("--cache", type=Path, default=inputs.default_cache(), help="where made files stay")
    parser.add_argument("--list", action="store_true", help="print the names of the parts")
    given = parser.parse_args()
    if given.list:
        for name, (title, _) in PARTS.items():
            print(f"{name:10} {title}")
        return 0
    options = Options(given.factor, given.workers, given.cache)
    has_failed = False
    for name in given.only:
        title, run = PARTS[name]
        begun = time.perf_counter()
        result = run(options)
        seconds = time.perf_counter() - begun
        print(f"{'FAILED' if result.wrong else 'ok':7}{name:10} {seconds:7.0f} s  {title}", flush=True)
        for line in (*([result.facts] if result.facts else []), *result.wrong):
            print(f"        {line}", flush=True)
        has_failed |= bool(result.wrong)
    return int(has_failed)


if __name__ == "__main__":
    sys.exit(main())
