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
        columns: its width.
    """

    def __init__(self, stream: TextIO, columns: int) -> None:
        self._stream = stream
        self._columns = columns

    def show(self, execution: Execution) -> None:
        """Write over the line."""
        self._stream.write("\r" + as_line(execution)[: self._columns - 1].ljust(self._columns - 1))
        self._stream.flush()

    def close(self) -> None:
        """Remove the line."""
        self._stream.write("\r" + " " * (self._columns - 1) + "\r")
        self._stream.flush()


class RichTable:
    """A table of the stages, by the package rich."""

    def __init__(self) -> None:
        from rich.live import Live

        self._live = Live(refresh_per_second=8, transient=True)
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


_COLUMNS = ("stage", "tasks", "rows in", "rows/s", "MB out", "MB/s", "running", "replicas", "held MB")


def rows(execution: Execution) -> list[tuple[str, ...]]:
    """Return a row of words for each stage that runs tasks: the columns of the table."""
    wall = max(execution.stats.wall_s(), 1e-9)
    found: list[tuple[str, ...]] = []
    for state, stats in zip(execution.scheduler.stages, execution.stats.stages, strict=True):
        if state.spec.kind in (Kind.BLOCKS, Kind.LIMIT, Kind.UNION):
            continue
        total = f"/{len(state.spec.read_tasks)}" if state.spec.kind is Kind.SOURCE else ""
        replicas = f"{len(state.replicas)}" if state.spec.pool is not None else ""
        found.append(
            (
                state.spec.name,
                f"{stats.tasks_done}{total}",
                f"{stats.rows_in:,}",
                f"{stats.rows_in / wall:,.0f}",
                f"{state.bytes_out / 1e6:,.1f}",
                f"{state.bytes_out / 1e6 / wall:,.1f}",
                f"{len(state.running)}",
                replicas,
                f"{(state.inbox.bytes + state.waiting_bytes) / 1e6:,.1f}",
            )
        )
    return found


def seconds_left(execution: Execution) -> float | None:
    """Return an estimate of the seconds that are left, from the read tasks that are done; None: not known
    yet.
    """
    done = total = 0
    for state, stats in zip(execution.scheduler.stages, execution.stats.stages, strict=True):
        if state.spec.kind is Kind.SOURCE:
            total += len(state.spec.read_tasks)
            done += stats.tasks_done
    wall = execution.stats.wall_s()
    if not done or wall < 1:
        return None
    return wall / done * (total - done)


def as_line(execution: Execution) -> str:
    """Return the state of an execution as one line."""
    parts = []
    for row in rows(execution):
        name = row[0] if len(row[0]) <= 28 else row[0][:25] + "..."
        replicas = f", {row[7]} replicas" if row[7] else ""
        parts.append(f"{name} {row[1]} ({row[3]} rows/s{replicas})")
    explained = why(execution.stats)
    limit = f" | limits: {explained.stage or explained.limit}" if explained.limit != "nothing" else ""
    return " > ".join(parts) + limit + _left(execution)


def _left(execution: Execution) -> str:
    left = seconds_left(execution)
    return "" if left is None else f" | about {left:.0f} s left"


def _caption(execution: Execution) -> str:
    held = execution.scheduler.held_bytes() / 1e6
    budget = execution.stats.memory_bytes / 1e6
    return f"{execution.stats.wall_s():.1f} s{_left(execution)}; blocks hold {held:,.0f} of {budget:,.0f} MB"


def as_html(execution: Execution) -> str:
    """Return the state of an execution as an HTML table."""
    head = "".join(f"<th>{column}</th>" for column in _COLUMNS)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(word)}</td>" for word in row) + "</tr>" for row in rows(execution)
    )
    return (
        f"<div><b>{escape(why(execution.stats).text)}</b><table><tr>{head}</tr>{body}</table>"
        f"<small>{escape(_caption(execution))}</small></div>"
    )


def make_progress(choice: str, stream: TextIO | None = None) -> Progress | None:
    """Return what shows an execution, or None.

    Args:
        choice: ``"off"``; ``"line"``: a line, also if the stream is no terminal; ``"rich"``: a table;
        ``"auto"``: HTML     in a notebook, a line in a terminal, else nothing.
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

    return Progress(Line(stream, shutil.get_terminal_size().columns))


def _notebook_display() -> Callable[..., Any] | None:
    """Return IPython's ``display`` if this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is None or not hasattr(shell, "kernel"):
        return None
    from IPython.display import display

    return display
