"""Pictures and traces: each task once, in the lane of its process, inside the run, none over another."""

from __future__ import annotations

import json
import xml.etree.ElementTree
from pathlib import Path
from typing import Any

import pytest

import skate.data
from skate.data._exec.commands import StartReplica
from skate.data._insight.lanes import lanes
from skate.data._insight.picture import picture
from skate.data._insight.trace import trace_events

SVG = "{http://www.w3.org/2000/svg}"


def bars(drawn: str) -> list[tuple[float, float, float]]:
    """Return left and right ends, and the row, of the bars that stand for tasks."""
    root = xml.etree.ElementTree.fromstring(drawn)
    found = [one for one in root.iter(f"{SVG}rect") if one.find(f"{SVG}title") is not None]
    return [
        (
            float(one.get("x", "")),
            float(one.get("x", "")) + float(one.get("width", "")),
            float(one.get("y", "")),
        )
        for one in found
    ]


def titles(drawn: str) -> list[str]:
    """Return what is shown of each bar under the mouse."""
    return [str(one.text) for one in xml.etree.ElementTree.fromstring(drawn).iter(f"{SVG}title")]


def check_events(events: list[dict[str, Any]], wall_s: float) -> list[dict[str, Any]]:
    """Check events as a viewer needs them; return those of tasks."""
    json.dumps(events, allow_nan=False)
    spans = [event for event in events if event["ph"] == "X"]
    named = {(event["pid"], event["tid"]) for event in events if event.get("name") == "thread_name"}
    assert {(event["pid"], event["tid"]) for event in spans} <= named
    until: dict[tuple[int, int], float] = {}
    for event in sorted(spans, key=lambda one: (one["ts"], one["ts"] + one["dur"])):
        track = (event["pid"], event["tid"])
        assert event["ts"] >= until.get(track, 0.0) - 0.01
        assert event["dur"] >= 0
        until[track] = event["ts"] + event["dur"]
    assert max(until.values(), default=0.0) <= wall_s * 1e6 + 1
    return spans


def test_each_task_is_a_bar_and_an_event(run: Any) -> None:
    run.replica(0, 0.0, 1.0)
    for second in range(1, 9):
        run.task(second % 2, float(second), second + 0.9, pid=7)
        run.task(2, second + 0.1, second + 1.0, replica=0)
    run.end(10.0)
    drawn = picture(run.stats, "a <run> & more")
    assert len(titles(drawn)) == 17, "one of them for loading"
    assert "Embed, task 2.2: 0.900 s, 10 rows" in titles(drawn)
    spans = check_events(trace_events(run.stats), 10.0)
    assert len(spans) == 17
    assert [event["name"] for event in spans].count("load Embed") == 1


def test_bars_of_a_replica_do_not_overlap(run: Any) -> None:
    """The second task is sent while the first runs; it begins when that has ended."""
    run.replica(0, 0.0, 1.0)
    tasks = [run.submit(2, replica=0), run.submit(2, replica=0)]
    run.clock.now = 5.0
    run.stats.task_cancelled(tasks[0])
    run.stats.task_failed(tasks[1])
    run.end(6.0)
    [lane] = lanes(run.stats)[:1]
    assert [span.name for span in lane.spans] == ["load", "2.1"]
    check_events(trace_events(run.stats), 6.0)
    drawn = picture(run.stats)
    assert "failed" in drawn
    assert "cancelled" in drawn


def test_tasks_at_the_same_time_have_lanes_of_their_own(run: Any) -> None:
    run.replica(0, 0.0, 1.0)
    for _ in range(3):
        run.task(2, 1.0, 5.0, replica=0)
    run.end(6.0)
    assert [lane.is_further for lane in lanes(run.stats)] == [False, True, True]
    assert len({row for _, _, row in bars(picture(run.stats))}) == 3
    check_events(trace_events(run.stats), 6.0)


def test_bars_that_would_touch_are_drawn_as_one(run: Any) -> None:
    for number in range(5_000):
        run.task(0, number * 0.01, number * 0.01 + 0.0099, pid=7)
    run.task(0, 90.0, 100.0, pid=7)
    run.end(100.0)
    drawn = picture(run.stats)
    assert len(bars(drawn)) < 800
    assert sum(int(tip.split()[1].replace(",", "")) for tip in titles(drawn) if "tasks" in tip) == 5_000
    assert any("task 0.5001: 10.000 s" in tip for tip in titles(drawn))


def test_the_time_of_a_worker_before_its_first_task_is_drawn(run: Any) -> None:
    task = run.submit(0)
    run.clock.now = 3.0
    from skate.data._exec.work import Report

    run.stats.task_done(task, Report(spent_s={"total": 1.0}, pid=7, began=2.0, ended=3.0))
    run.end(3.0)
    assert [span.name for span in lanes(run.stats)[0].spans] == ["start", "0.1"]
    check_events(trace_events(run.stats), 3.0)


def test_two_stages_of_one_name_have_a_line_each(run: Any) -> None:
    run.stats.stages[1].name = "Read"
    run.task(0, 0.0, 1.0, pid=7)
    run.task(1, 1.0, 2.0, pid=7)
    run.end(2.0)
    keys = list(xml.etree.ElementTree.fromstring(picture(run.stats)).iter(f"{SVG}rect"))
    assert len({one.get("fill") for one in keys if one.get("width") == "12"}) == 2


def test_a_run_that_has_not_begun_can_be_drawn(run: Any) -> None:
    run.stats.replica_started(StartReplica(0, 2))
    xml.etree.ElementTree.fromstring(picture(run.stats))
    assert check_events(trace_events(run.stats), 0.0) == []


class Model:
    """A model."""

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        return batch


@pytest.mark.parametrize("place", ["here", "session"])
def test_a_real_run(place: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    if place == "session":
        request.getfixturevalue("session")
        request.getfixturevalue("context")
    rows = skate.data.range(10_000, override_num_blocks=12).map(lambda row: row)
    if place == "session":
        rows = rows.map_batches(Model, batch_size=500, compute=skate.data.ActorPoolStrategy(size=2))
    ran = rows.random_shuffle(seed=1).materialize()
    assert ran.timeline(tmp_path / "trace.json") is None
    summary = ran.get_stats_summary()
    spans = check_events(json.loads((tmp_path / "trace.json").read_text()), summary["wall_s"])
    tasks = [one for one in spans if not one["name"].startswith(("load ", "start "))]
    assert len(tasks) == sum(stage["tasks_done"] for stage in summary["stages"])
    for stage in summary["stages"]:
        mine = [one for one in tasks if one["name"] == stage["name"]]
        assert sum(one["args"]["rows"] for one in mine) == stage["rows_in"]
    drawn = ran.plot_run(tmp_path / "run.svg")
    assert (tmp_path / "run.svg").read_text() == drawn
    for left, right, _ in bars(drawn):
        assert 190 <= left
        assert right <= 960 - 14
