"""Rows, their columns, and the options of questions."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from skate.util.state import common
from skate.util.state.columns import Row
from skate.util.state.common import (
    ActorState,
    GetApiOptions,
    GetLogOptions,
    JobState,
    ListApiOptions,
    NodeState,
    ObjectState,
    SummaryApiOptions,
    TaskState,
    WorkerState,
)

KINDS = [
    one for one in vars(common).values() if isinstance(one, type) and issubclass(one, Row) and one is not Row
]


def job(**more: Any) -> JobState:
    return JobState(type="DRIVER", job_id="01", entrypoint="app.py", **more)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_columns_of_every_kind(kind: type[Row]) -> None:
    names = [one.name for one in dataclasses.fields(kind)]  # type: ignore[arg-type]
    assert kind.list_columns() == names
    assert kind.columns() == kind.detail_columns() == set(names)
    assert kind.base_columns() < set(names) or kind.base_columns() == set(names)
    assert kind.filterable_columns() <= set(names)
    assert kind.list_columns(detail=False) == [name for name in names if name in kind.base_columns()]


def test_what_is_detail_and_what_can_be_filtered_by() -> None:
    assert "call_site" not in TaskState.base_columns()
    assert {"task_id", "state", "name"} <= TaskState.base_columns() & TaskState.filterable_columns()
    assert "exit_detail" in WorkerState.detail_columns() - WorkerState.filterable_columns()
    assert "labels" not in NodeState.filterable_columns()


def test_a_row_is_read_as_attributes_and_as_a_dict() -> None:
    row = job(status="RUNNING")
    assert row.status == row["status"] == row.get("status") == row.asdict()["status"] == "RUNNING"
    assert row.get("colour") is None and row.get("colour", 3) == 3
    with pytest.raises(KeyError, match="colour"):
        row["colour"]
    with pytest.raises(KeyError):
        row["asdict"]


def test_what_people_read() -> None:
    times = TaskState.humanify(
        {"creation_time_ms": 0, "name": "f", "start_time_ms": None, "state": "FINISHED"}
    )
    assert str(times["creation_time_ms"]).startswith(("1970-01-01", "1969-12-31"))
    assert (times["start_time_ms"], times["name"]) == (None, "f")
    assert ObjectState.humanify({"object_size": 3 * 2**20}) == {"object_size": "3.000 MiB"}
    assert ObjectState.humanify({"object_size": 10}) == {"object_size": "10.000 B"}
    assert WorkerState.humanify({"worker_launch_time_ms": -1}) == {"worker_launch_time_ms": ""}
    found = NodeState.humanify({"resources_total": {"CPU": 2.0, "memory": 2**30}})
    assert found == {"resources_total": {"CPU": 2.0, "memory": "1.000 GiB"}}
    events = TaskState.humanify({"events": [{"state": "RUNNING", "created_ms": 0}]})["events"]
    assert "1970" in events[0]["created_ms"] or "1969" in events[0]["created_ms"]


def test_json_types_of_a_job() -> None:
    found = JobState.schema_dict()
    assert (found["type"], found["start_time"]) == ("string", "integer")


def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match="'=' or '!=', got '<'"):
        ListApiOptions(filters=[("pid", "<", 3)])
    with pytest.raises(ValueError, match="timeout takes seconds above 0"):
        GetApiOptions(timeout=0)
    with pytest.raises(ValueError, match="predicate"):
        SummaryApiOptions(filters=[("pid", ">", 3)])
    assert ListApiOptions(filters=None).filters == []


def test_filters_that_no_row_can_pass() -> None:
    assert not ListApiOptions(
        filters=[("a", "=", 1), ("a", "!=", 2), ("b", "=", 2)]
    ).has_conflicting_filters()
    with pytest.warns(UserWarning, match="no row can have a = 1 and a = 2"):
        assert ListApiOptions(filters=[("a", "=", 1), ("a", "=", 2)]).has_conflicting_filters()


def test_options_of_logs() -> None:
    assert GetLogOptions(30, pid="7", lines="3").lines == 3  # type: ignore[arg-type]
    for wrong, text in (
        ({}, "which log"), ({"pid": 1, "media_type": "pipe"}, "media_type"), ({"pid": 1, "suffix": "log"}, "suffix"),
        ({"pid": 1, "node_id": "a", "node_ip": "b"}, "give one"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=text):
            GetLogOptions(30, **wrong)  # type: ignore[arg-type]


def test_why_an_actor_is_dead() -> None:
    row = ActorState("a", "A", "DEAD", "01", None, None, None, "n")
    assert row.why_dead is None
    row.death_cause = {"actor_died_error_context": {"error_message": "it was killed"}}
    assert row.why_dead == "it was killed"
