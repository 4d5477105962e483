"""Time each way of doing the work, with a progress bar, and set them side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from demo.readings import Reading


@dataclass(frozen=True)
class Run:
    """One way of doing the work, done."""

    name: str
    processes: str
    #: By path, so that runs which finish pictures in different orders compare equal.
    readings: dict[str, Reading]
    first_s: float
    #: With starting processes, loading models and stopping processes.
    wall_s: float
    #: Pictures that were read before, by a run that this one goes on with.
    resumed: int = 0

    @property
    def rate(self) -> float:
        """Pictures per second of wall time."""
        return (len(self.readings) - self.resumed) / self.wall_s


class _RateColumn(ProgressColumn):
    """Pictures per second since the start: a steadier figure than the speed of the last few."""

    def render(self, task: Task) -> Text:
        elapsed = task.finished_time if task.finished else task.elapsed
        rate = f"{task.completed / elapsed:.2f}" if elapsed and task.completed else "-"
        return Text(f"{rate} pictures/s", style="cyan")


def measure(
    name: str,
    processes: str,
    total: int,
    console: Console,
    start: Callable[[], Generator[Reading, None, None]],
) -> Run:
    """Do the work once, under a progress bar."""
    readings: dict[str, Reading] = {}
    first_s = 0.0
    with _progress(console) as progress:
        task = progress.add_task(f"{name:<15}", total=total)
        began = time.perf_counter()
        results = start()
        # Closed on the way out, so that Ctrl-C stops its processes now and not at some later collection.
        with closing(results):
            for reading in results:
                first_s = first_s or time.perf_counter() - began
                if reading.path in readings:
                    raise RuntimeError(f"{name} gave two readings of {reading.path}")
                readings[reading.path] = reading
                progress.advance(task)
        return Run(name, processes, readings, first_s, time.perf_counter() - began)


def comparison(runs: Sequence[Run]) -> Table:
    """The runs in one table; the first is the one that the others' output is compared with."""
    reference = runs[0]
    table = Table(
        title=f"{len(reference.readings):,} pictures, one thread for each model",
        caption="Wall time includes starting and stopping all processes.\n"
        f"Output is text, boxes and confidence, compared with {reference.name}'s.",
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("", no_wrap=True)
    for heading in ("procs", "first after", "wall time", "pictures/s"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("output", no_wrap=True)
    for run in runs:
        table.add_row(
            run.name,
            run.processes,
            f"{run.first_s:.1f} s",
            f"{run.wall_s:.1f} s",
            f"{run.rate:.2f}",
            "" if run is reference else _difference(run, reference),
        )
    return table


def _difference(run: Run, reference: Run) -> Text:
    paths = run.readings.keys() | reference.readings.keys()
    differ = sum(run.readings.get(path) != reference.readings.get(path) for path in paths)
    if differ:
        return Text(f"{differ} differ", style="red")
    return Text("equal", style="green")


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=console,
    )
