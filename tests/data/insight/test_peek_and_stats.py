"""Rows of a running execution can be looked at, and stats() is right however it ends."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import skate.data
from skate.data._insight.limits import why


def doubled(row: dict[str, int]) -> dict[str, int]:
    return {"x": row["id"] * 2}


class Pass:
    """Returns its batch."""

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        return batch


class Door:
    """A pipe with a name, from which a function in another process reads until the test opens it."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = str(path)
        self._end = os.open(path, os.O_RDWR)

    def open(self) -> None:
        """Let what waits go on."""
        os.write(self._end, b"x")

    def close(self) -> None:
        """Remove the pipe."""
        os.close(self._end)


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    """A door that is closed."""
    made = Door(tmp_path / "door")
    yield made
    made.close()


def in_thread(call: Callable[[], Any]) -> Any:
    """Return what a call returns in another thread."""
    found: list[Any] = []

    def kept() -> None:
        try:
            found.append(call())
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=kept)
    thread.start()
    thread.join(60)
    return found[0]


def test_rows_before_the_consumer_can_be_looked_at() -> None:
    rows = skate.data.range(100, override_num_blocks=10).map(doubled)
    seen = []
    for row in rows.iter_rows():
        seen += in_thread(lambda: rows.peek("", n=1))
        assert row["x"] % 2 == 0
    assert all(set(one) == {"x"} for one in seen)


@pytest.mark.usefixtures("session", "context")
def test_rows_before_a_stage_can_be_looked_at(door: Door) -> None:
    """The model waits: meanwhile rows lie before it."""
    path = door.path

    class Waits:
        def __init__(self) -> None:
            self.has_waited = False

        def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
            if not self.has_waited:
                with open(path, "rb", buffering=0) as end:
                    end.read(1)
            self.has_waited = True
            return batch

    rows = skate.data.range(200, override_num_blocks=4).map(doubled)
    rows = rows.map_batches(Waits, batch_size=10, compute=skate.data.ActorPoolStrategy(size=1))
    runs = threading.Thread(target=rows.take_all)
    runs.start()
    try:
        found: list[Any] = []
        while not found:
            try:
                found = rows.peek("Waits", n=3)
            except RuntimeError as error:
                assert "looks at an execution that runs" in str(error)  # it has not begun yet
        assert len(found) == 3
        assert all(row["x"] % 2 == 0 for row in found)
        with pytest.raises(ValueError, match=r"0 of the stages .* 'nothing' .* \['MapBatches\(Waits\)'\]"):
            rows.peek("nothing")
        assert "is under way" in rows.stats()
        assert str(rows.why())
    finally:
        door.open()
        runs.join(60)
    with pytest.raises(RuntimeError, match="looks at an execution that runs"):
        rows.peek("Waits")
    assert "and finished" in rows.stats()


@pytest.mark.usefixtures("session", "context")
def test_rows_of_a_task_count_before_it_has_ended(door: Door) -> None:
    """One task has all the rows, and waits at its end: those before have been counted."""
    path = door.path

    def waits(batch: dict[str, Any]) -> dict[str, Any]:
        import time

        until = time.process_time() + 0.03  # so long that rows go on in between
        while time.process_time() < until:
            pass
        if batch["id"][0] == 900:
            with open(path, "rb", buffering=0) as end:
                end.read(1)
        return batch

    rows = skate.data.range(1_000, override_num_blocks=1).map_batches(waits, batch_size=100)
    runs = threading.Thread(target=rows.take_all)
    runs.start()
    try:
        taken = 0
        while not taken:
            try:
                stages = rows.why().stages
            except RuntimeError:
                continue  # it has not begun yet
            taken = stages[0].rows if stages else 0
        assert 100 <= taken <= 1_000
        assert f"{taken:,} rows in" in rows.stats() or "1,000 rows in" in rows.stats()
    finally:
        door.open()
        runs.join(60)
    assert rows.why().stages[0].rows == 1_000


# ------------------------------------------------------------------------------- how a run ended


PLACES = pytest.mark.parametrize("place", ["here", "session"])


def there(place: str, request: pytest.FixtureRequest) -> None:
    """Run the data sets that follow in the program's process, or in a session's."""
    if place == "session":
        request.getfixturevalue("session")
        request.getfixturevalue("context")


def stage_time(data: dict[str, Any], name: str) -> float:
    """Return the seconds that are known of a stage's tasks."""
    [stage] = [one for one in data["stages"] if one["name"] == name]
    return float(stage["spent_s"].get("total", 0.0))


def checked(rows: Any) -> dict[str, Any]:
    """Return figures of the last run whose counts agree with each other and with the text."""
    data: dict[str, Any] = rows.get_stats_summary()
    text = rows.stats()
    for stage in data["stages"]:
        ended = stage["tasks_done"] + stage["tasks_failed"] + stage["tasks_cancelled"]
        assert stage["tasks_started"] == ended, "none is left under way"
        for count, word in ((stage["tasks_failed"], "failed"), (stage["tasks_cancelled"], "cancelled")):
            line = next(line for line in text.splitlines() if f" {stage['name']}:" in line)
            assert (f"{count} {word}" in line) == bool(count)
    assert data["outcome"] in text
    assert "under way" not in text
    for one in why(rows._last.stats).stages:
        assert sum(one.shares.as_data().values()) == pytest.approx(1.0 if stage_time(data, one.name) else 0.0)
    return data


@PLACES
def test_stats_of_a_run_to_its_end(place: str, request: pytest.FixtureRequest) -> None:
    there(place, request)
    rows = skate.data.range(100, override_num_blocks=5).map(doubled).materialize()
    data = checked(rows)
    assert data["outcome"] == "finished"
    assert data["stages"][0]["tasks_done"] == 5
    assert re.match(
        r"ran for \d+\.\d\d s .* and finished\n  0 ReadRange->Map\(doubled\): 5 tasks, 100 rows in",
        rows.stats(),
    )


@PLACES
def test_stats_of_a_limit(place: str, request: pytest.FixtureRequest) -> None:
    """Tasks that a limit cancels are not failures, and the rows that they read count."""
    there(place, request)
    rows = (
        skate.data.range(100_000, override_num_blocks=50).map(doubled).limit(10).map_batches(Pass().__call__)
    )
    assert len(rows.take_all()) == 10
    data = checked(rows)
    assert data["outcome"] == "finished"
    assert [stage["tasks_failed"] for stage in data["stages"]] == [0] * len(data["stages"])
    assert data["stages"][0]["rows_in"] >= 10
    assert "passes rows on" in rows.stats()
    assert "No task" not in rows.why().text


@PLACES
def test_stats_of_a_failure(place: str, request: pytest.FixtureRequest) -> None:
    there(place, request)

    def bad(row: dict[str, int]) -> dict[str, int]:
        if row["id"] == 30:
            raise ValueError("thirty")
        return row

    rows = skate.data.range(100, override_num_blocks=10).map(bad)
    with pytest.raises(ValueError, match="thirty"):
        rows.take_all()
    data = checked(rows)
    assert data["outcome"] == "was ended by ValueError: thirty"
    assert data["stages"][0]["tasks_failed"] == 1


@PLACES
def test_stats_of_a_consumer_that_stops(place: str, request: pytest.FixtureRequest) -> None:
    there(place, request)
    rows = skate.data.range(1_000, override_num_blocks=50).map(doubled)
    for _ in rows.iter_batches(batch_size=10, prefetch_batches=0):
        break
    data = checked(rows)
    assert data["outcome"] == "was stopped before its end, as no more rows were asked for"
    assert data["stages"][0]["tasks_failed"] == 0


def test_stats_of_a_run_that_is_interrupted() -> None:
    def interrupted(row: dict[str, int]) -> dict[str, int]:
        raise KeyboardInterrupt

    rows = skate.data.range(100, override_num_blocks=10).map(interrupted)
    with pytest.raises(KeyboardInterrupt):
        rows.take_all()
    assert checked(rows)["outcome"] == "was ended by KeyboardInterrupt"


def test_a_run_without_tasks_has_no_limit() -> None:
    rows = skate.data.from_items([1, 2])
    assert len(rows.take_all()) == 2
    assert rows.why().limit == "nothing"
    assert "passed on, without a task" in str(rows.why())
    assert "under way" not in rows.stats()


def test_stats_before_a_run_are_empty() -> None:
    rows = skate.data.range(3)
    assert rows.stats() == ""
    assert rows.get_stats_summary() == {}
    for call in (rows.why, rows.timeline, rows.plot_run):
        with pytest.raises(RuntimeError, match="run the data set first"):
            call()
