"""Shows how far an execution is: one line in a terminal, a table by rich, HTML in a notebook; nothing in a
pipe.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from html import escape
from typing import Any, Protocol, TextIO

from skate.data._exec.execution import Execution
from skate.data._exec.stages import Kind
from skate.data._exec.states import StageState
from skate.data._exec.statistics import StageStatistics
from skate.data._insight.limits import why

#: Seconds between two changes of what is shown, and before anything is.
_INTERVAL_S = 0.2
_PATIENCE_S = 0.5


class View(Protocol):
    """Shows the state of an execution."""

    def show(self, execution: Execution) -> None:
        """Show it."""

    def close(self) -> None:
        """Leave a tidy place behind."""


class Progress:
    """Observes an execution, and shows it now and then.

    Args:
        view: how.
        clock: seconds.
    """

    def __init__(self, view: View, clock: Callable[[], float] = time.monotonic) -> None:
        self._view = view
        self._clock = clock
        self._next = clock() + _PATIENCE_S
        self._has_shown = False

    def __call__(self, execution: Execution) -> None:
        """Show the execution if it is time."""
        now = self._clock()
        if now >= self._next:
            self._next = now + _INTERVAL_S
            self._has_shown = True
            self._view.show(execution)

    def ended(self, execution: Execution) -> None:
        """Show the execution for the last time, if it was shown before."""
        if self._has_shown:
            self._view.show(execution)
            self._view.close()


class Line:
    """One line in a terminal that is written over.

    Args:
        stream: the terminal.
        columns: returns its width.
    """

    def __init__(self, stream: TextIO, columns: Callable[[], int]) -> None:
        self._stream = stream
        self._columns = columns
        self._shown = 0

    def show(self, execution: Execution) -> None:
        """Write over the line."""
        text = as_line(execution, self._columns() - 1)
        self._stream.write("\r" + text.ljust(min(self._shown, self._columns() - 1)))
        self._stream.flush()
        self._shown = len(text)

    def close(self) -> None:
        """Remove the line."""
        self._stream.write("\r" + " " * min(self._shown, self._columns() - 1) + "\r")
        self._stream.flush()


class RichTable:
    """A table of the stages, by the package rich.

    Args:
        console: where it is shown; None: the standard output.
    """

    def __init__(self, console: Any = None) -> None:
        from rich.live import Live

        self._live = Live(console=console, refresh_per_second=8, transient=True)
        self._live.start()

    def show(self, execution: Execution) -> None:
        """Change the table."""
        from rich.table import Table

        table = Table(title=why(execution.stats).text, title_justify="left", caption=_caption(execution))
        for column in _COLUMNS:
            table.add_column(column, justify="left" if column == "stage" else "right")
        for row in rows(execution):
            table.add_row(*row)
        self._live.update(table)

    def close(self) -> None:
        """Remove the table."""
        self._live.stop()


class Notebook:
    """An HTML table in a notebook's output, without widgets."""

    def __init__(self, display: Callable[..., Any]) -> None:
        self._display = display
        self._handle: Any = None

    def show(self, execution: Execution) -> None:
        """Change the table."""
        shown = _Html(as_html(execution))
        if self._handle is None:
            self._handle = self._display(shown, display_id=True)
        else:
            self._handle.update(shown)

    def close(self) -> None:
        """Leave the last table."""


class _Html:
    def __init__(self, text: str) -> None:
        self._text = text

    def _repr_html_(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "progress of skate.data"


_COLUMNS = ("stage", "tasks", "rows in", "rows/s", "MB out", "MB/s", "running", "replicas", "waiting MB")


def rows(execution: Execution) -> list[tuple[str, ...]]:
    """Return a row of words for each stage that runs tasks: the columns of the table."""
    wall = max(execution.stats.wall_s(), 1e-9)
    found: list[tuple[str, ...]] = []
    for state, stats in _with_tasks(execution):
        taken = execution.stats.rows_in(state.spec.index)
        total = f"/{_listed(state)}" if state.spec.kind is Kind.SOURCE else ""
        replicas = f"{len(state.replicas)}" if state.spec.pool is not None else ""
        found.append(
            (
                state.spec.name,
                f"{stats.tasks_done}{total}",
                f"{taken:,}",
                f"{taken / wall:,.0f}",
                f"{state.bytes_out / 1e6:,.1f}",
                f"{state.bytes_out / 1e6 / wall:,.1f}",
                f"{len(state.running)}",
                replicas,
                f"{(state.inbox.bytes + state.waiting_bytes) / 1e6:,.1f}",
            )
        )
    return found


def _with_tasks(execution: Execution) -> list[tuple[StageState, StageStatistics]]:
    """Return the stages that run tasks."""
    both = zip(execution.scheduler.stages, execution.stats.stages, strict=True)
    passing = (Kind.BLOCKS, Kind.LIMIT, Kind.UNION)
    return [(state, stats) for state, stats in both if state.spec.kind not in passing]


def _listed(state: StageState) -> str:
    """Return the number of a source's tasks, with a plus while more are found."""
    return f"{len(state.spec.read_tasks)}{'' if state.spec.read_tasks.is_complete else '+'}"


def _read(execution: Execution) -> tuple[int, int] | None:
    """Return how many of all read tasks are done, and how many there are; None while that is not known."""
    sources = [one for one in _with_tasks(execution) if one[0].spec.kind is Kind.SOURCE]
    if not sources or not all(state.spec.read_tasks.is_complete for state, _ in sources):
        return None
    return sum(stats.tasks_done for _, stats in sources), sum(len(one.spec.read_tasks) for one, _ in sources)


def seconds_left(execution: Execution) -> float | None:
    """Return an estimate of the seconds that are left; None: not known yet.

    Each stage is as far as the sources are, times its part of the rows that the stage above it made. The
    stage that is least far counts. Before an exchange is done, the time of what comes after it is not known.
    """
    read = _read(execution)
    stats = execution.stats
    if read is None or not read[0] or stats.wall_s() < 1:
        return None
    processes = [*list(stats.workers.values()), *list(stats.replicas.values())]
    wall = stats.wall_s() - min((one.ready_s or 0.0 for one in processes), default=0.0)
    least = 1.0
    for state, _ in _with_tasks(execution):
        if state.spec.kind is Kind.BARRIER:
            return None
        if state.spec.kind is Kind.CHAIN:
            above = execution.scheduler.stages[state.spec.inputs[0]].rows_out
            least = min(least, stats.rows_in(state.spec.index) / max(1, above))
    done = least * read[0] / read[1]
    return wall * (1 - done) / done if done else None


def as_line(execution: Execution, columns: int = 1000) -> str:
    """Return the state of an execution as one line: what matters most first, as much as fits.

    Args:
        execution: what is shown.
        columns: characters that fit.
    """
    parts = []
    read = _read(execution)
    if read is not None and read[1]:
        parts.append(f"{read[0] / read[1]:.0%} read")
    left = _left(execution)
    parts += [left] if left else []
    explained = why(execution.stats)
    if explained.limit != "nothing":
        parts.append(f"limit: {_last_step(explained.stage) or _NAMES.get(explained.limit, explained.limit)}")
    for row in rows(execution):
        replicas = f", {row[7]} replica{'' if row[7] == '1' else 's'}" if row[7] not in ("", "0") else ""
        parts.append(f"{_last_step(row[0])} {row[2]} rows, {row[3]}/s{replicas}")
    return " | ".join(parts)[: max(0, columns)]


_NAMES = {"consumer": "the program that takes rows", "driver": "the runtime", "start": "starting"}


def _last_step(name: str) -> str:
    """Return the last of the steps that a stage's name lists: a line has no room for all."""
    last = name.rpartition("->")[2]
    return last if len(last) <= 32 else last[:29] + "..."


def _left(execution: Execution) -> str:
    left = seconds_left(execution)
    if left is None:
        return ""
    minutes, seconds = divmod(round(left), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"about {hours} h {minutes:02} min left"
    return f"about {minutes} min {seconds:02} s left" if minutes else f"about {seconds} s left"


def _caption(execution: Execution) -> str:
    held = execution.scheduler.held_bytes() / 1e6
    budget = execution.stats.memory_bytes / 1e6
    parts = [f"{execution.stats.wall_s():.1f} s", _left(execution)]
    parts.append(f"blocks hold {held:,.0f} of {budget:,.0f} MB")
    if execution.stats.outcome:
        parts[1] = execution.stats.outcome
    return ", ".join(part for part in parts if part)


def as_html(execution: Execution) -> str:
    """Return the state of an execution as an HTML table."""
    head = "".join(_cell("th", column, number) for number, column in enumerate(_COLUMNS))
    body = "".join(
        "<tr>" + "".join(_cell("td", word, number) for number, word in enumerate(row)) + "</tr>"
        for row in rows(execution)
    )
    return (
        f"<div><b>{escape(why(execution.stats).text)}</b><table><tr>{head}</tr>{body}</table>"
        f"<small>{escape(_caption(execution))}</small></div>"
    )


def _cell(kind: str, words: str, number: int) -> str:
    side = "right" if number else "left"
    return f'<{kind} style="text-align: {side}">{escape(words)}</{kind}>'


def make_progress(choice: str, stream: TextIO | None = None) -> Progress | None:
    """Return what shows an execution, or None.

    Args:
        choice: ``"off"``; ``"line"``: a line, also if the stream is no terminal; ``"rich"``: a table;
            ``"auto"``: HTML in a notebook, a line in a terminal, else nothing.
        stream: where lines go; default: stderr.

    Raises:
        ImportError: ``"rich"``, and that package is not installed.
    """
    if choice == "off":
        return None
    stream = stream if stream is not None else sys.stderr
    if choice == "rich":
        try:
            return Progress(RichTable())
        except ImportError as error:
            raise ImportError(
                'DataContext.progress = "rich" needs the package rich: pip install rich'
            ) from error
    if choice == "auto":
        display = _notebook_display()
        if display is not None:
            return Progress(Notebook(display))
        if not stream.isatty():
            return None
    import shutil

    return Progress(Line(stream, lambda: shutil.get_terminal_size().columns))


def _notebook_display() -> Callable[..., Any] | None:
    """Return IPython's ``display`` if this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is None or not hasattr(shell, "kernel"):
        return None
    from IPython.display import display

    return display
