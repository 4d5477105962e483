"""What people see of executions: the limit is named, times add up, nothing is written where nobody looks."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
import xml.etree.ElementTree
from pathlib import Path
from typing import Any

import pytest

import skate.data
from skate.data._exec.commands import StartReplica, Submit
from skate.data._exec.stages import Kind, Pool, Stage
from skate.data._exec.statistics import Statistics
from skate.data._exec.work import Report
from skate.data._insight.limits import KINDS, why
from skate.data._insight.picture import picture
from skate.data._insight.progress import Line, Notebook, Progress, as_html, as_line, make_progress
from skate.data._insight.trace import trace_events
from skate.data._plan.execute import execute
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


def statistics(clock: Clock) -> Statistics:
    return Statistics(STAGES, "skate", 1 << 30, cpus=2.0, clock=clock)


def task(
    stats: Statistics, number: int, stage: int, seconds: dict[str, float], replica: int | None = None
) -> None:
    stats.submitted(Submit(number, stage, f"{stage}.{number}", Bundle(()), replica, 0, False))
    stats.task_done(number, Report(rows_in=10, spent_s=seconds, pid=100 + stage))


def test_a_busy_pool_is_named() -> None:
    clock = Clock()
    stats = statistics(clock)
    stats.replica_started(StartReplica(0, 2))
    clock.now = 1.0
    stats.replica_ready(0)
    task(stats, 1, 0, {"total": 1.0, "read": 0.9})
    task(stats, 2, 2, {"total": 8.5, "run": 8.4}, replica=0)
    clock.now = 10.0
    stats.waited(9.5)
    stats.ended()
    found = why(stats)
    assert (found.limit, found.stage) == ("pool", "Embed")
    assert "Embed limits" in str(found)
    [replica] = found.stages[-1].replicas.values()
    assert replica.loading == pytest.approx(0.1)
    assert replica.running == pytest.approx(0.84)


def test_the_cpus_are_named_with_the_stage_that_takes_most() -> None:
    clock = Clock()
    stats = statistics(clock)
    task(stats, 1, 1, {"total": 12.0, "run": 11.0})
    task(stats, 2, 0, {"total": 6.0, "read": 6.0})
    clock.now = 10.0
    stats.waited(9.0)
    found = why(stats)
    assert (found.limit, found.stage) == ("cpus", "Decode")


def test_the_consumer_and_the_driver_are_named() -> None:
    for attribute, limit in (("consumer_s", "consumer"), ("", "driver")):
        clock = Clock()
        stats = statistics(clock)
        task(stats, 1, 0, {"total": 1.0, "read": 1.0})
        clock.now = 10.0
        if attribute:
            setattr(stats, attribute, 9.0)
        assert why(stats).limit == limit


def test_an_execution_that_has_not_begun_has_no_limit() -> None:
    assert why(statistics(Clock())).limit == "nothing"


@pytest.mark.parametrize("seed", range(30))
def test_shares_of_a_replica_add_up_to_one(seed: int) -> None:
    import random

    chooser = random.Random(seed)
    clock = Clock()
    stats = statistics(clock)
    stats.replica_started(StartReplica(0, 2))
    clock.now = chooser.random()
    stats.replica_ready(0)
    for number in range(5):
        spent = {name: chooser.random() * 2 for name in ("total", "run", "read", "blocked")}
        task(stats, number, 2, spent, replica=0)
        clock.now += chooser.random()
    [shares] = why(stats).stages[-1].replicas.values()
    assert sum(getattr(shares, kind) for kind in KINDS) == pytest.approx(1.0)
    assert all(getattr(shares, kind) >= 0 for kind in KINDS)


def test_figures_can_be_had_as_data() -> None:
    clock = Clock()
    stats = statistics(clock)
    stats.replica_started(StartReplica(0, 2))
    task(stats, 1, 2, {"total": 1.0}, replica=0)
    clock.now = 2.0
    data = json.loads(json.dumps(why(stats).as_data()))
    assert data["stages"][0]["name"] == "Embed"
    assert json.loads(json.dumps(stats.as_data()))["stages"][2]["tasks_done"] == 1


def test_pictures_and_traces_are_well_formed() -> None:
    clock = Clock()
    stats = statistics(clock)
    stats.replica_started(StartReplica(0, 2))
    for number in range(100):
        clock.now += 0.1
        task(stats, number, number % 3, {"total": 0.1}, replica=0 if number % 3 == 2 else None)
    root = xml.etree.ElementTree.fromstring(picture(stats, "a <run> & more"))
    assert len(list(root.iter("{http://www.w3.org/2000/svg}title"))) == 100
    events = trace_events(stats)
    assert sum(event["ph"] == "X" for event in events) == 100
    json.dumps(events)


def test_bars_of_a_replica_do_not_overlap() -> None:
    clock = Clock()
    stats = statistics(clock)
    stats.replica_started(StartReplica(0, 2))
    for number in (1, 2):  # the second is sent while the first runs
        stats.submitted(Submit(number, 2, f"2.{number}", Bundle(()), 0, 0, False))
    for number in (1, 2):
        clock.now += 4.0
        stats.task_done(number, Report(rows_in=10, spent_s={"total": 4.0}, pid=102))
    drawn = picture(stats)
    assert "<title>2.1: 4.000 s, 10 rows</title>" in drawn
    assert "<title>2.2: 4.000 s, 10 rows</title>" in drawn


def ran() -> Any:
    plan = skate.data.range(100).map(lambda row: row)._plan
    with execute(plan, skate.data.DataContext.get_current()) as execution:
        list(execution)
    return execution


def test_a_line_tells_stages_and_is_removed() -> None:
    stream = io.StringIO()
    execution = ran()
    clock = Clock()
    progress = Progress(Line(stream, 120), clock)
    progress(execution)
    assert stream.getvalue() == "", "nothing at first"
    clock.now = 1.0
    progress(execution)
    assert "ReadRange->Map" in stream.getvalue()
    clock.now = 1.1
    before = stream.getvalue()
    progress(execution)
    assert stream.getvalue() == before, "not more often than it can be read"
    progress.ended(execution)
    assert stream.getvalue().endswith("\r")


def test_html_and_lines_are_made_of_the_same_rows() -> None:
    execution = ran()
    assert "Map" in as_line(execution)
    shown: list[Any] = []

    class Handle:
        def update(self, html: Any) -> None:
            shown.append(html)

    def display(html: Any, display_id: bool) -> Handle:
        shown.append(html)
        return Handle()

    view = Notebook(display)
    view.show(execution)
    view.show(execution)
    assert len(shown) == 2
    assert "&lt;lambda&gt;" in shown[0]._repr_html_()
    assert as_html(execution).startswith("<div>")


def test_nothing_is_shown_in_a_pipe() -> None:
    assert make_progress("auto", io.StringIO()) is None
    assert make_progress("off") is None
    assert make_progress("line", io.StringIO()) is not None


def test_a_program_in_a_pipe_writes_nothing_of_its_own(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import time, skate.data\n"
        "def slow(row):\n    time.sleep(0.02)\n    return row\n"
        "print(skate.data.range(100).map(slow).count())\n"
        "print(sum(row['id'] for row in skate.data.range(100).map(slow).iter_rows()))\n"
    )
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "100\n4950\n"
    assert done.stderr == ""


def test_a_terminal_shows_a_line_while_it_runs(tmp_path: Path) -> None:
    import os
    import pty

    program = tmp_path / "program.py"
    program.write_text(
        "import time, skate.data\n"
        "def slow(row):\n    time.sleep(0.02)\n    return row\n"
        "print(len(skate.data.range(100).map(slow).take_all()))\n"
    )
    primary, secondary = pty.openpty()
    process = subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, stderr=secondary)
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
    os.close(primary)
    assert out == b"100\n"
    assert b"Map(slow)" in shown


def test_running_takes_no_longer_for_being_watched() -> None:
    """The observer's own work is bounded: it looks a few times a second, whatever the number of events."""
    looks = []

    class Counting:
        def show(self, execution: Any) -> None:
            looks.append(time.monotonic())

        def close(self) -> None:
            pass

    clock = Clock()
    progress = Progress(Counting(), clock)
    execution = ran()
    for _ in range(10_000):
        clock.now += 0.001
        progress(execution)
    assert len(looks) == pytest.approx((10 - 0.5) / 0.2, abs=2)
