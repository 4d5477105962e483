"""Progress: a line in a terminal, a table by rich, HTML in a notebook, and nothing in a pipe."""

from __future__ import annotations

import io
import os
import pty
import re
import struct
import subprocess
import sys
import types
import xml.etree.ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import skate.data
from skate.data._exec.execution import Execution
from skate.data._insight.progress import (
    Line,
    Notebook,
    Progress,
    RichTable,
    as_html,
    as_line,
    make_progress,
    rows,
    seconds_left,
)
from skate.data._plan.execute import execute

SLOW = """
import sys, time
import skate.data
context = skate.data.DataContext.get_current()
context.progress = sys.argv[1]
def slow(row):
    time.sleep(0.02)
    return row
print(len(skate.data.range(100).map(slow).take_all()))
"""


@pytest.fixture
def execution() -> Execution:
    """An execution that has ended."""
    plan = skate.data.range(100).map(lambda row: row)._plan
    with execute(plan, skate.data.DataContext.get_current()) as made:
        list(made)
    return made


class Clock:
    """Seconds that a test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_line_tells_stages_and_is_removed(execution: Execution) -> None:
    stream = io.StringIO()
    clock = Clock()
    progress = Progress(Line(stream, lambda: 120), clock)
    progress(execution)
    assert stream.getvalue() == "", "nothing at first"
    clock.now = 1.0
    progress(execution)
    assert "100% read" in stream.getvalue()
    assert "Map(<lambda>) 100 rows" in stream.getvalue()
    clock.now = 1.1
    before = stream.getvalue()
    progress(execution)
    assert stream.getvalue() == before, "not more often than it can be read"
    progress.ended(execution)
    *_, last, rest = stream.getvalue().split("\r")
    assert not last.strip()
    assert len(last) == len(as_line(execution, 119))
    assert rest == ""


def test_a_line_fits_a_terminal_that_becomes_narrower(execution: Execution) -> None:
    stream = io.StringIO()
    columns = iter([200, 200, 30, 30])
    line = Line(stream, lambda: next(columns))
    line.show(execution)
    line.show(execution)
    assert len(stream.getvalue().split("\r")[-1]) < 30


def test_the_line_of_a_long_plan_begins_with_what_matters() -> None:
    rows_ = skate.data.range(100)
    for _ in range(20):
        rows_ = rows_.map(lambda row: row)
    with execute(rows_._plan, skate.data.DataContext.get_current()) as made:
        list(made)
    assert re.match(r"100% read \| (about 0 s left \| )?limit: Map", as_line(made, 60))


def test_seconds_left_are_those_of_the_stage_that_is_least_far() -> None:
    plan = skate.data.range(100, override_num_blocks=10).map(lambda row: row).sort("id")._plan
    with execute(plan, skate.data.DataContext.get_current()) as made:
        assert seconds_left(made) is None, "nothing is known"
        list(made)
        made.stats._ended = 10.0
        assert seconds_left(made) is None, "how long an exchange takes is not known"
    plan = skate.data.range(100, override_num_blocks=10)._plan
    with execute(plan, skate.data.DataContext.get_current()) as made:
        list(made)
    made.stats._ended = 8.0
    assert seconds_left(made) == 0.0
    made.stats.stages[0].tasks_done = 8
    assert seconds_left(made) == pytest.approx(2.0)
    assert "about 2 s left" in as_line(made)
    made.stats._ended = 40_000.0
    assert "about 2 h 46 min left" in as_line(made)


def test_a_table_has_a_row_for_each_stage(execution: Execution) -> None:
    [row] = rows(execution)
    assert row[0].startswith("ReadRange->Map")
    assert row[2] == "100"


def test_html_is_changed_in_place(execution: Execution, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []

    class Handle:
        def update(self, html: Any) -> None:
            shown.append(html._repr_html_())

    def display(html: Any, display_id: bool) -> Handle:
        assert display_id
        shown.append(html._repr_html_())
        return Handle()

    module = types.ModuleType("IPython")
    module.get_ipython = lambda: types.SimpleNamespace(kernel=object())  # type: ignore[attr-defined]
    module.__path__ = []
    displays = types.ModuleType("IPython.display")
    displays.display = display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", module)
    monkeypatch.setitem(sys.modules, "IPython.display", displays)
    progress = make_progress("auto", io.StringIO())
    assert progress is not None
    assert isinstance(progress._view, Notebook)
    progress._next = 0.0
    progress(execution)
    progress.ended(execution)
    assert len(shown) == 2
    table = xml.etree.ElementTree.fromstring(shown[-1]).find("table")
    assert table is not None
    assert [len(line) for line in table] == [9, 9]
    assert table[1][0].text == "ReadRange->Map(<lambda>)"
    assert "finished" in shown[-1]
    assert as_html(execution) == shown[-1]


def test_a_shell_of_ipython_without_a_notebook_is_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("IPython")
    module.get_ipython = lambda: types.SimpleNamespace()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", module)
    assert make_progress("auto", io.StringIO()) is None


def test_rich_shows_a_table(execution: Execution) -> None:
    console = pytest.importorskip("rich.console")
    stream = io.StringIO()
    view = RichTable(console.Console(file=stream, force_terminal=True, width=140))
    view.show(execution)
    view.close()
    assert "waiting MB" in stream.getvalue()
    assert "ReadRange->Map(<lambda>)" in stream.getvalue()


def test_nothing_is_shown_in_a_pipe() -> None:
    assert make_progress("auto", io.StringIO()) is None
    assert make_progress("off") is None
    assert make_progress("line", io.StringIO()) is not None


def test_a_program_in_a_pipe_writes_nothing_of_its_own(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(SLOW)
    done = subprocess.run(
        [sys.executable, program, "auto"], capture_output=True, text=True, timeout=60, check=True
    )
    assert (done.stdout, done.stderr) == ("100\n", "")


COLUMNS = 110


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """A terminal of COLUMNS: its two ends."""
    import fcntl
    import termios

    primary, secondary = pty.openpty()
    fcntl.ioctl(secondary, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    yield primary, secondary
    os.close(primary)


def shown_in(terminal: tuple[int, int], program: Path, progress: str) -> str:
    """Run a program whose standard error is a terminal, and return what that got."""
    primary, secondary = terminal
    settings = {**os.environ, "COLUMNS": str(COLUMNS), "TERM": "xterm"}
    process = subprocess.Popen(
        [sys.executable, program, progress],
        stdout=subprocess.PIPE if progress != "rich" else secondary,
        stderr=secondary,
        env=settings,
    )
    os.close(secondary)
    shown = b""
    while True:
        try:
            chunk = os.read(primary, 4096)
        except OSError:
            break
        if not chunk:
            break
        shown += chunk
    out, _ = process.communicate(timeout=60)
    if progress != "rich":
        assert out == b"100\n"
    return shown.decode()


def test_a_terminal_shows_a_line_while_it_runs(tmp_path: Path, terminal: tuple[int, int]) -> None:
    program = tmp_path / "program.py"
    program.write_text(SLOW)
    lines = shown_in(terminal, program, "auto").split("\r")
    assert "Map(slow)" in lines[-3]
    assert max(map(len, lines)) < COLUMNS, "it would go on in the next line"
    assert "\n" not in "".join(lines), "it is one line that is written over"
    assert lines[-2:] == [" " * len(lines[-2]), ""], "it is removed"


def test_a_terminal_shows_a_table_by_rich(tmp_path: Path, terminal: tuple[int, int]) -> None:
    pytest.importorskip("rich")
    program = tmp_path / "program.py"
    program.write_text(SLOW)
    shown = shown_in(terminal, program, "rich")
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert "rows/s" in plain
    assert plain.rstrip().endswith("100"), "the table is removed before the program goes on"


def test_running_takes_no_longer_for_being_watched(execution: Execution) -> None:
    """The observer's own work is bounded: it looks a few times a second, whatever the number of events."""
    looks = []

    class Counting:
        def show(self, execution: Any) -> None:
            looks.append(execution)

        def close(self) -> None:
            pass

    clock = Clock()
    progress = Progress(Counting(), clock)
    for _ in range(10_000):
        clock.now += 0.001
        progress(execution)
    assert len(looks) == pytest.approx((10 - 0.5) / 0.2, abs=2)
