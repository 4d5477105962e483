"""What tests of insight share: a clock that a test moves, and figures of an execution that it makes up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import skate.data
from skate.data._exec.commands import StartReplica, Submit
from skate.data._exec.stages import Kind, Pool, Stage
from skate.data._exec.statistics import Statistics
from skate.data._exec.work import Report
from skate.data._task.slices import Bundle


class Clock:
    """Seconds that a test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


STAGES = (
    Stage(0, "Read", Kind.SOURCE),
    Stage(1, "Decode", Kind.CHAIN, (0,)),
    Stage(2, "Embed", Kind.CHAIN, (1,), pool=Pool(2, 2, 2)),
)


class Run:
    """Figures of an execution of STAGES on two CPUs."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.stats = Statistics(STAGES, "skate", 1 << 30, cpus=2.0, clock=self.clock)
        self._tasks = 0

    def submit(self, stage: int, replica: int | None = None) -> int:
        """Submit a task; return its number."""
        self._tasks += 1
        name = f"{stage}.{self._tasks}"
        self.stats.submitted(Submit(self._tasks, stage, name, Bundle(()), replica, 0, False))
        return self._tasks

    def task(
        self, stage: int, began: float, ended: float, replica: int | None = None, pid: int = 0, **spent: float
    ) -> None:
        """Run a task from one second to another; the clock is then at its end.

        Args:
            spent: seconds of "run", ...; all of it was spent so if nothing is given.
        """
        self.clock.now = min(self.clock.now, began)
        task = self.submit(stage, replica)
        self.clock.now = ended
        seconds = {"total": ended - began, **(spent or {"run": ended - began})}
        report = Report(rows_in=10, spent_s=seconds, pid=pid or 100 + stage, began=began, ended=ended)
        self.stats.task_done(task, report)

    def replica(self, number: int, started: float, ready: float) -> None:
        """Start a replica of the last stage, and let it load."""
        self.clock.now = started
        self.stats.replica_started(StartReplica(number, 2))
        self.clock.now = ready
        self.stats.replica_ready(number)

    def end(self, at: float, waited: float | None = None) -> None:
        """End the execution."""
        self.clock.now = at
        self.stats.waited(at if waited is None else waited)
        self.stats.ended()


@pytest.fixture
def run() -> Run:
    """Figures that a test makes up."""
    return Run()


@pytest.fixture
def context() -> Iterator[Any]:
    """Settings of the data sets that a test makes: everything in processes of the session."""
    settings = skate.data.DataContext.get_current().copy()
    settings.local_limit_bytes = 0
    with skate.data.DataContext.current(settings):
        yield settings


@pytest.fixture
def clock() -> Callable[[], float]:
    """A clock that a test moves."""
    return Clock()
