"""Rounds of sessions: who runs when, what is tried again, and when a system is given up."""

from __future__ import annotations

import datetime
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks import environments, processes, session
from benchmarks.lines import APART, BY_NAME, GROUPS, LINES, Group, Line
from benchmarks.measure import Effort, Sample

HANGS_BEFORE_GIVING_UP = 3
STARTUP_CHAIN = ("init", "first_task")
"""Lines of a sequence: what follows them cannot be measured without them."""

Measure = Callable[[str, Group, list[str]], session.Outcome]
"""Runs one session: system, group, lines."""


@dataclass(frozen=True)
class Plan:
    """What to run, how often and how long."""

    systems: tuple[str, ...]
    lines: tuple[Line, ...]
    rounds: int
    effort: Effort
    timeout_s: float

    def wanted(self, system: str, group: Group) -> list[str]:
        return [line.name for line in self.lines if line.group == group and system in line.systems()]

    def is_full(self) -> bool:
        """Whether the results may stand as the latest: every line of skate and Ray at full length."""
        return self.lines == LINES and {"skate", "ray"} <= set(self.systems) and self.effort.scale == 1


@dataclass
class Cell:
    """What one system showed on one line: a sample a round, and why rounds failed."""

    samples: list[float] = field(default_factory=list)
    info: list[dict[str, Any]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def add(self, sample: Sample) -> None:
        self.samples.append(sample.value)
        self.info.append(sample.info)


class Collector:
    """Owns the cells. A line that hung or crashed its session is not tried again in later rounds."""

    def __init__(self, measure: Measure, unusable: dict[str, str]) -> None:
        """`unusable`: systems that cannot be measured at all, and why; the reason goes into their cells."""
        self._measure = measure
        self._given_up = dict(unusable)
        self._abandoned: set[tuple[str, str]] = set()
        self._hangs: dict[str, int] = {}
        self.cells: dict[str, dict[str, Cell]] = {}
        self.left_behind: dict[str, int] = {}

    def cell(self, line: str, system: str) -> Cell:
        return self.cells.setdefault(line, {}).setdefault(system, Cell())

    def collect(self, system: str, group: Group, lines: list[str]) -> None:
        """Measure the lines once, in as many sessions as hangs and crashes make necessary."""
        left = [line for line in lines if (system, line) not in self._abandoned]
        while left:
            if reason := self._given_up.get(system):
                self._fail(system, left, reason)
                return
            outcome = self._measure(system, group, left)
            self.left_behind[system] = self.left_behind.get(system, 0) + outcome.left_behind
            for line, sample in outcome.samples.items():
                if line in left:
                    self.cell(line, system).add(sample)
            for line, reason in outcome.failed.items():
                if line in left:
                    self._fail(system, [line], reason)
            left = [line for line in left if line not in outcome.samples and line not in outcome.failed]
            left = self._after_break(system, left, outcome)

    def _after_break(self, system: str, left: list[str], outcome: session.Outcome) -> list[str]:
        """What is worth another session."""
        step, reason = outcome.broken or ("the session", "ended early")
        if outcome.hung:
            hangs = self._hangs[system] = self._hangs.get(system, 0) + 1
            if hangs >= HANGS_BEFORE_GIVING_UP:
                self._given_up[system] = f"given up after {hangs} hangs, the last in {step}"
        if step in left:
            self._abandoned.add((system, step))
            self._fail(system, [step], reason)
            left = [line for line in left if line != step]
            if step not in STARTUP_CHAIN:
                return left
        self._fail(system, left, f"{step}: {reason}")
        return []

    def _fail(self, system: str, lines: list[str], reason: str) -> None:
        for line in lines:
            self.cell(line, system).failures.append(reason)


def run(plan: Plan, interpreters: dict[str, environments.Interpreter]) -> dict[str, Any]:
    """Measure everything in the plan; returns what goes into the JSON file.

    Sessions of the systems alternate within each group, and the order turns round every round, so that a
    change in the machine's load meets all of them.
    """

    def measure(system: str, group: Group, lines: list[str]) -> session.Outcome:
        python = interpreters[system].executable
        patience = 10 if group in APART else 1
        return session.run(python, system, group, lines, plan.effort, plan.timeout_s * patience)

    unusable = {system: it.error for system, it in interpreters.items() if it.error}
    collector = Collector(measure, unusable)
    processes.adopt_orphans()
    began, loads = time.monotonic(), [os.getloadavg()[0]]
    for number in range(plan.rounds):
        systems = plan.systems if number % 2 == 0 else plan.systems[::-1]
        for group in GROUPS:
            for system in systems:
                wanted = plan.wanted(system, group)
                for lines in [[name] for name in wanted] if group in APART else [wanted]:
                    if not lines:
                        continue
                    what = lines[0] if group in APART else group
                    print(f"round {number + 1}/{plan.rounds}  {what:8} {system}", file=sys.stderr, flush=True)
                    collector.collect(system, group, lines)
        loads.append(os.getloadavg()[0])
    return {
        "schema": 1,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": environments.machine(),
        "systems": environments.as_json(interpreters),
        "options": {"rounds": plan.rounds, **asdict(plan.effort), "full": plan.is_full()},
        "duration_s": round(time.monotonic() - began),
        "load_average": loads,
        "left_behind": collector.left_behind,
        "lines": {
            name: {"unit": BY_NAME[name].unit, **{system: asdict(cell) for system, cell in cells.items()}}
            for name, cells in collector.cells.items()
        },
    }
