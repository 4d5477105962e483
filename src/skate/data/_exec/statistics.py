"""Counts what an execution does: the numbers behind ``stats()``, ``why()`` and the progress line."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from skate.data._exec.commands import StartReplica, Submit
from skate.data._exec.stages import Stage
from skate.data._exec.work import Report


@dataclass(slots=True)
class StageStatistics:
    """Numbers of one stage.

    Attributes:
        name, kind: of the stage.
        tasks_started, tasks_done, tasks_failed: counts; a task that is run again starts again.
        rows_in: rows that its tasks took.
        spent_s: seconds of its tasks by what they did: "read", "run", "input", "convert", ...
        busy_s: seconds from a task's submission to its report, summed over tasks.
        counts: counters of its operators.
        peak_bytes: most memory that one of its tasks used.
        replicas_started: processes of its pool.
    """

    name: str
    kind: str
    tasks_started: int = 0
    tasks_done: int = 0
    tasks_failed: int = 0
    rows_in: int = 0
    spent_s: dict[str, float] = field(default_factory=dict)
    busy_s: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)
    peak_bytes: int = 0
    replicas_started: int = 0


@dataclass(frozen=True, slots=True)
class Span:
    """A task or a replica's loading, for traces and pictures of a run.

    Attributes:
        stage: index of the stage.
        name: the task's name, or ``"load"``.
        started_s, ended_s: seconds since the execution began.
        replica: its replica, or None.
        pid: process, 0 if not known.
        rows: rows of its input.
        failed: it did not end well.
    """

    stage: int
    name: str
    started_s: float
    ended_s: float
    replica: int | None
    pid: int
    rows: int
    failed: bool


@dataclass(slots=True)
class ReplicaStatistics:
    """The life of a replica.

    Attributes:
        stage: index of its stage.
        started_s, ready_s, ended_s: seconds since the execution began; None: not yet.
        spent_s: seconds of its tasks by what they did.
    """

    stage: int
    started_s: float
    ready_s: float | None = None
    ended_s: float | None = None
    spent_s: dict[str, float] = field(default_factory=dict)


#: Spans that are kept; later ones are counted only, so that a driver's memory does not grow with its tasks.
MOST_SPANS = 20_000


class Statistics:
    """Figures of an execution so far.

    Attributes:
        stages: numbers by stage.
        spans: the first MOST_SPANS tasks that ended.
        replicas: lives of replicas, by number.
        waited_s: seconds that the driver waited for events.
        consumer_s: seconds that the consumer spent between taking one slice and asking for the next.
        cpus: CPUs that tasks may use.
        port: where tasks ran.
        memory_bytes: the budget.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        port: str,
        memory_bytes: int,
        cpus: float = 1.0,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._clock = clock
        self._began = clock()
        self._ended: float | None = None
        self._specs = stages
        self._tasks: dict[int, tuple[Submit, float]] = {}
        self.stages = [StageStatistics(stage.name, stage.kind.value) for stage in stages]
        self.spans: list[Span] = []
        self.replicas: dict[int, ReplicaStatistics] = {}
        self.waited_s = 0.0
        self.consumer_s = 0.0
        self.cpus = cpus
        self.port = port
        self.memory_bytes = memory_bytes

    def now(self) -> float:
        """Return seconds since the execution began."""
        return self._clock() - self._began

    def wall_s(self) -> float:
        """Return the seconds that the execution took, or has taken so far."""
        return self.now() if self._ended is None else self._ended

    def submitted(self, command: Submit) -> None:
        """Count a task."""
        self.stages[command.stage].tasks_started += 1
        self._tasks[command.task] = (command, self.now())

    def command_of(self, task: int) -> Submit | None:
        """Return what submitted a task that is under way."""
        found = self._tasks.get(task)
        return None if found is None else found[0]

    def age_s(self, task: int) -> float:
        """Return the seconds since a task was submitted; 0 if it is not under way."""
        found = self._tasks.get(task)
        return 0.0 if found is None else self.now() - found[1]

    def task_done(self, task: int, report: Report) -> None:
        """Add a task's report."""
        found = self._tasks.pop(task, None)
        if found is None:
            return
        command, started = found
        stage = self.stages[command.stage]
        stage.tasks_done += 1
        stage.rows_in += report.rows_in
        stage.busy_s += self.now() - started
        stage.peak_bytes = max(stage.peak_bytes, report.peak_bytes)
        replica = self.replicas.get(command.replica) if command.replica is not None else None
        for name, seconds in report.spent_s.items():
            stage.spent_s[name] = stage.spent_s.get(name, 0.0) + seconds
            if replica is not None:
                replica.spent_s[name] = replica.spent_s.get(name, 0.0) + seconds
        for name, count in report.counts.items():
            stage.counts[name] = stage.counts.get(name, 0) + count
        self._span(command, started, report.pid, report.rows_in, failed=False)

    def task_failed(self, task: int) -> None:
        """Count a task that did not end well."""
        found = self._tasks.pop(task, None)
        if found is None:
            return
        command, started = found
        self.stages[command.stage].tasks_failed += 1
        self._span(command, started, 0, 0, failed=True)

    def _span(self, command: Submit, started: float, pid: int, rows: int, failed: bool) -> None:
        if len(self.spans) < MOST_SPANS:
            self.spans.append(
                Span(command.stage, command.name, started, self.now(), command.replica, pid, rows, failed)
            )

    def replica_started(self, command: StartReplica) -> None:
        """Count a replica."""
        self.stages[command.stage].replicas_started += 1
        self.replicas[command.replica] = ReplicaStatistics(command.stage, self.now())

    def replica_ready(self, replica: int) -> None:
        """Note that a replica has loaded."""
        found = self.replicas.get(replica)
        if found is None:
            return
        found.ready_s = self.now()
        if len(self.spans) < MOST_SPANS:
            self.spans.append(Span(found.stage, "load", found.started_s, found.ready_s, replica, 0, 0, False))

    def replica_ended(self, replica: int) -> None:
        """Note that a replica is no more."""
        found = self.replicas.get(replica)
        if found is not None and found.ended_s is None:
            found.ended_s = self.now()

    def waited(self, seconds: float) -> None:
        """Add seconds that the driver waited."""
        self.waited_s += seconds

    def ended(self) -> None:
        """Stop the clock, and forget the tasks under way: a data set keeps its figures, not their input."""
        if self._ended is None:
            self._ended = self.now()
        self._tasks.clear()

    def as_data(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {
            "port": self.port,
            "wall_s": self.wall_s(),
            "waited_s": self.waited_s,
            "memory_bytes": self.memory_bytes,
            "stages": [
                {name: getattr(stage, name) for name in StageStatistics.__dataclass_fields__}
                for stage in self.stages
            ],
        }

    def as_text(self) -> str:
        """Return a few lines for people."""
        lines = [f"ran for {self.wall_s():.2f} s on {self.port}"]
        for number, stage in enumerate(self.stages):
            spent = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in sorted(stage.spent_s.items()))
            lines.append(
                f"  {number} {stage.name}: {stage.tasks_done} tasks, {stage.rows_in:,} rows in"
                + (f", {spent}" if spent else "")
            )
            lines += [f"      {name}: {count:,}" for name, count in sorted(stage.counts.items())]
        return "\n".join(lines)
