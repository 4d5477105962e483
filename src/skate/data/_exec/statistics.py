"""Counts what an execution does: the numbers behind ``stats()``, ``why()`` and the progress line."""

from __future__ import annotations

import os
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
        cpus: CPUs that one of its tasks counts for.
        tasks_started, tasks_done, tasks_failed, tasks_cancelled: counts; a task that is run again starts
            again.
        rows_in: rows that its tasks took.
        spent_s: seconds of its tasks by what they did: "read", "run", "input", "convert", ...; "total": all
            of it; "blocked": the part of it in which output waited for somebody to take it; "cpu": of CPU;
            "queued": in which it could have run, and others had the CPUs.
        busy_s: seconds from a task's submission to its report, summed over tasks.
        counts: counters of its operators.
        peak_bytes: most memory that one of its tasks used.
        replicas_started: processes of its pool.
    """

    name: str
    kind: str
    cpus: float = 1.0
    tasks_started: int = 0
    tasks_done: int = 0
    tasks_failed: int = 0
    tasks_cancelled: int = 0
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
        name: the task's name, or ``"load"`` of a replica, or ``"start"`` of a worker.
        started_s, ended_s: seconds since the execution began.
        replica: its replica, or None.
        pid: process, 0 if not known.
        rows: rows of its input.
        failed: it did not end well.
        cancelled: its output was not wanted any more.
        work_s: the part of its time in which it did something.
    """

    stage: int
    name: str
    started_s: float
    ended_s: float
    replica: int | None
    pid: int
    rows: int
    failed: bool = False
    cancelled: bool = False
    work_s: float = 0.0

    @property
    def is_start(self) -> bool:
        """It is no task: its process started, or loaded a model."""
        return self.name in ("load", "start")


@dataclass(slots=True)
class ProcessStatistics:
    """The work of a process: of a replica of a pool, or of a worker that runs tasks.

    Attributes:
        stage: index of its stage; -1: it is a worker.
        started_s, ready_s, ended_s: seconds since the execution began; None: not yet. A worker starts when
            its first task is submitted, and is ready when that begins.
        spent_s: seconds of its tasks by what they did.
        busy_s: seconds in which it had a task, those in which it had several counted once.
        busy_until_s: end of the last one.
        tasks: that ended.
    """

    stage: int
    started_s: float
    ready_s: float | None = None
    ended_s: float | None = None
    spent_s: dict[str, float] = field(default_factory=dict)
    busy_s: float = 0.0
    busy_until_s: float = 0.0
    tasks: int = 0

    def took(self, started_s: float, ended_s: float, spent_s: dict[str, float]) -> None:
        """Add a task."""
        self.tasks += 1
        self.busy_s += max(0.0, ended_s - max(started_s, self.busy_until_s))
        self.busy_until_s = max(self.busy_until_s, ended_s)
        _add(self.spent_s, spent_s)


#: Spans that are kept; later ones are counted only, so that a driver's memory does not grow with its tasks.
MOST_SPANS = 20_000
#: Seconds by which clocks of two processes of a machine may seem to differ: a task is submitted, and its
#: report read, a little after the clock was.
SLACK_S = 0.005


class Statistics:
    """Figures of an execution so far.

    Attributes:
        stages: numbers by stage.
        spans: the first MOST_SPANS tasks that ended.
        replicas: by number.
        workers: processes that ran tasks, by process id, without the caller's own.
        own_s: seconds of tasks in the caller's process, by stage.
        waited_s: seconds that the driver waited for events, tasks in its own process included.
        consumer_s: seconds that the consumer spent between taking one slice and asking for the next.
        start_s: seconds in which the session was started.
        cpus: CPUs that tasks may use now.
        port: where tasks ran.
        memory_bytes: the budget.
        outcome: how it ended; "" while it runs.
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
        self._pid = os.getpid()
        self._tasks: dict[int, tuple[Submit, float]] = {}
        self._so_far: dict[int, Report] = {}
        self._cpus_until = (0.0, 0.0)
        self.stages = [StageStatistics(stage.name, stage.kind.value, stage.cpus) for stage in stages]
        self.spans: list[Span] = []
        self.replicas: dict[int, ProcessStatistics] = {}
        self.workers: dict[int, ProcessStatistics] = {}
        self.own_s: dict[int, float] = {}
        self.waited_s = 0.0
        self.consumer_s = 0.0
        self.start_s = 0.0
        self.cpus = cpus
        self.port = port
        self.memory_bytes = memory_bytes
        self.outcome = ""

    def now(self) -> float:
        """Return seconds since the execution began."""
        return self._clock() - self._began

    def wall_s(self) -> float:
        """Return the seconds that the execution took, or has taken so far."""
        return self.now() if self._ended is None else self._ended

    def cpus_changed(self, cpus: float) -> None:
        """Note that tasks may use more or fewer CPUs from now on."""
        self._cpus_until = (self.capacity_s(), self.wall_s())
        self.cpus = cpus

    def capacity_s(self) -> float:
        """Return the CPU seconds that tasks might have used so far."""
        seconds, until = self._cpus_until
        return seconds + (self.wall_s() - until) * max(1.0, self.cpus)

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

    def under_way(self) -> list[tuple[Submit, float]]:
        """Return the tasks that have not ended, oldest first, with the times at which they were submitted."""
        return list(self._tasks.values()) if self._ended is None else []

    def block_made(self, task: int, so_far: Report | None) -> None:
        """Keep what a task reported with a block: if it is cancelled, it reports no more."""
        if so_far is not None and task in self._tasks:
            self._so_far[task] = so_far

    def rows_in(self, stage: int) -> int:
        """Return the rows that a stage has taken, those of tasks under way included, as far as is known."""
        under_way = [
            so_far.rows_in
            for task, so_far in list(self._so_far.items())
            if (command := self.command_of(task)) is not None and command.stage == stage
        ]
        return self.stages[stage].rows_in + sum(under_way)

    def task_done(self, task: int, report: Report) -> float:
        """Add a task's report; return the seconds in which it worked."""
        found = self._tasks.pop(task, None)
        self._so_far.pop(task, None)
        if found is None:
            return 0.0
        command, submitted = found
        now = self.now()
        stage = self.stages[command.stage]
        stage.tasks_done += 1
        stage.busy_s += now - submitted
        stage.peak_bytes = max(stage.peak_bytes, report.peak_bytes)
        for name, count in report.counts.items():
            stage.counts[name] = stage.counts.get(name, 0) + count
        return self._add_work(command, submitted, report, now)

    def _add_work(
        self, command: Submit, submitted: float, report: Report, now: float, **ending: bool
    ) -> float:
        """Add rows and seconds of a task that has ended, and its span; return the seconds of its work."""
        is_own = report.pid == self._pid
        spent = _plain(report.spent_s, is_own)
        started, ended = self._interval(report, submitted, now)
        stage = self.stages[command.stage]
        stage.rows_in += report.rows_in
        _add(stage.spent_s, spent)
        work_s = max(0.0, spent.get("total", 0.0) - spent.get("blocked", 0.0))
        process = self._process(command, report.pid, submitted, started)
        if is_own:
            self.own_s[command.stage] = self.own_s.get(command.stage, 0.0) + work_s
        if process is not None:
            process.took(started, ended, spent)
        name, rows = command.name, report.rows_in
        self._span(
            Span(
                command.stage,
                name,
                started,
                ended,
                command.replica,
                report.pid,
                rows,
                work_s=work_s,
                **ending,
            )
        )
        return work_s

    def _interval(self, report: Report, submitted: float, now: float) -> tuple[float, float]:
        """Return when a task ran.

        Its own readings of the clock are taken, unless they cannot be right: of another machine's clock only
        the difference counts.
        """
        if report.began is None or report.ended is None:
            return submitted, now
        started, ended = report.began - self._began, report.ended - self._began
        if started < submitted - SLACK_S or ended > now + SLACK_S:
            started, ended = now - (ended - started), now
        started = min(max(started, submitted), now)
        return started, min(max(ended, started), now)

    def _process(
        self, command: Submit, pid: int, submitted: float, started: float
    ) -> ProcessStatistics | None:
        """Return the process that ran a task; None: the caller's own."""
        if command.replica is not None:
            return self.replicas.get(command.replica)
        if pid in (0, self._pid):
            return None
        found = self.workers.get(pid)
        if found is None:
            found = self.workers[pid] = ProcessStatistics(-1, submitted, started)
        return found

    def task_failed(self, task: int) -> None:
        """Count a task that did not end well."""
        found = self._tasks.pop(task, None)
        if found is not None:
            self.stages[found[0].stage].tasks_failed += 1
            self._unreported(*found, self._so_far.pop(task, None), failed=True)

    def task_cancelled(self, task: int) -> None:
        """Count a task whose output is not wanted any more."""
        found = self._tasks.pop(task, None)
        if found is not None:
            self.stages[found[0].stage].tasks_cancelled += 1
            self._unreported(*found, self._so_far.pop(task, None), cancelled=True)

    def _unreported(self, command: Submit, submitted: float, so_far: Report | None, **ending: bool) -> None:
        """Add a task that sent no report at its end: what it sent with its last block, or its span alone."""
        now = self.now()
        if so_far is not None:
            self._add_work(command, submitted, so_far, now, **ending)
            return
        replica = None if command.replica is None else self.replicas.get(command.replica)
        if replica is not None:  # it began when the one before it had ended
            begun = max(submitted, replica.ready_s or 0.0, replica.busy_until_s)
            submitted = min(begun, now)
        self._span(Span(command.stage, command.name, submitted, now, command.replica, 0, 0, **ending))

    def _span(self, span: Span) -> None:
        if len(self.spans) < MOST_SPANS:
            self.spans.append(span)

    def replica_started(self, command: StartReplica) -> None:
        """Count a replica."""
        self.stages[command.stage].replicas_started += 1
        self.replicas[command.replica] = ProcessStatistics(command.stage, self.now())

    def replica_ready(self, replica: int) -> None:
        """Note that a replica has loaded."""
        found = self.replicas.get(replica)
        if found is None:
            return
        found.ready_s = self.now()
        self._span(Span(found.stage, "load", found.started_s, found.ready_s, replica, 0, 0))

    def replica_ended(self, replica: int) -> None:
        """Note that a replica is no more."""
        found = self.replicas.get(replica)
        if found is not None and found.ended_s is None:
            found.ended_s = self.now()

    def waited(self, seconds: float) -> None:
        """Add seconds that the driver waited."""
        self.waited_s += seconds

    def ended(self, outcome: str = "finished") -> None:
        """Stop the clock, and forget the tasks under way: a data set keeps its figures, not their input.

        Args:
            outcome: how it ended.
        """
        if self._ended is None:
            self._ended = self.now()
            self.outcome = outcome
        self._tasks.clear()
        self._so_far.clear()

    def as_data(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {
            "port": self.port,
            "outcome": self.outcome,
            "wall_s": self.wall_s(),
            "waited_s": self.waited_s,
            "consumer_s": self.consumer_s,
            "start_s": self.start_s,
            "memory_bytes": self.memory_bytes,
            "stages": [
                {name: getattr(stage, name) for name in StageStatistics.__dataclass_fields__}
                for stage in self.stages
            ],
        }

    def as_text(self) -> str:
        """Return a few lines for people."""
        where = "in this process" if self.port == "local" and not self.workers else "on skate"
        lines = [f"ran for {self.wall_s():.2f} s {where} and {self.outcome or 'is under way'}"]
        for number, stage in enumerate(self.stages):
            parts = [_counted(stage.tasks_done, "task")]
            parts += [_counted(stage.replicas_started, "replica")] if stage.replicas_started else []
            under_way = sum(command.stage == number for command, _ in self.under_way())
            for count, what in (
                (stage.tasks_failed, "failed"),
                (stage.tasks_cancelled, "cancelled"),
                (under_way, "under way"),
            ):
                parts += [f"{count} {what}"] if count else []
            if stage.tasks_started:
                parts.append(f"{self.rows_in(number):,} rows in")
            spent = sorted((name, seconds) for name, seconds in stage.spent_s.items() if seconds >= 0.005)
            parts += [f"{name} {seconds:.2f} s" for name, seconds in spent]
            is_passing = stage.kind in ("blocks", "limit", "union")
            lines.append(
                f"  {number} {stage.name}: " + ("passes rows on" if is_passing else ", ".join(parts))
            )
            lines += [f"      {name}: {count:,}" for name, count in sorted(stage.counts.items())]
        return "\n".join(lines)


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _add(totals: dict[str, float], spent_s: dict[str, float]) -> None:
    for name, seconds in spent_s.items():
        totals[name] = totals.get(name, 0.0) + seconds


def _plain(spent_s: dict[str, float], is_own: bool) -> dict[str, float]:
    """Return a report's seconds with "blocked" in place of what it says of its pauses.

    A worker that hands a block on works; the rest of a pause it waits. A task of the caller's own process
    does nothing in a pause, since others have their turn.
    """
    plain = {name: seconds for name, seconds in spent_s.items() if name not in ("paused", "moved")}
    paused, moved = spent_s.get("paused", 0.0), spent_s.get("moved", 0.0)
    if is_own:
        plain["total"] = plain.get("total", 0.0) - paused
    elif paused > moved:
        plain["blocked"] = plain.get("blocked", 0.0) + paused - moved
    return plain
