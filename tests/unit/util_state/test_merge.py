"""What processes told, put together: who runs what, who holds what, which rows pass a filter."""

from __future__ import annotations

from typing import Any

import pytest

from skate._base import ids
from skate.util.state import merge
from skate.util.state.common import TaskState

OWNER = b"owner___"
NODE = "node"
JOB = ids.JobID.from_int(3).hex()
ACTOR = b"a" * ids.ACTOR_ID_SIZE


def task(seq: int, state: str = "SUBMITTED_TO_WORKER", **more: Any) -> dict[str, Any]:
    row = {
        "task_id": ids.task_id(OWNER, seq).hex(), "made": float(seq), "state": state, "worker_id": "w1",
        "actor_id": "", "requirement": "", "attempt": 0, "name": f"f{seq}", "type": "NORMAL_TASK",
        "function": "f", "job_id": JOB, "parent": "", "resources": {"CPU": 5000}, "environment": "",
        "call_site": "", "owner_pid": 1,
    }  # fmt: skip
    return row | more


def worker(name: str = "w1", pid: int = 17, **more: Any) -> dict[str, Any]:
    row = {
        "worker_id": name, "pid": pid, "worker_type": "WORKER", "state": "READY", "job": "driver",
        "times": [1.0, 2.0, 3.0, 0.0],
    }  # fmt: skip
    return row | more


def actor(**more: Any) -> dict[str, Any]:
    row = {
        "actor_id": ACTOR.hex(), "class_name": "A", "state": "ALIVE", "job": "driver", "name": "", "node_id": NODE,
        "worker_id": "w1", "ray_namespace": "ns", "environment": "", "required_resources": {}, "death_cause": "",
        "is_detached": False, "repr_name": "", "num_restarts": 0, "call_site": "", "requirement": "",
        "times": [1.0, 2.0, 0.0], "max_concurrency": 1, "parent": "", "placement": {"CPU": 1.0}, "owner": "w1",
    }  # fmt: skip
    return row | more


JOBS = [{"driver": "driver", "job_id": JOB}]


def states(*rows: dict[str, Any], begun: int | None = None, actors: Any = ()) -> list[tuple[str, str]]:
    word = None if begun is None else (OWNER.hex(), begun)
    found = merge.tasks(rows, [worker(begun=word)], actors, JOBS, NODE)
    return [(row.name, row.state) for row in found if row.type != "ACTOR_CREATION_TASK"]


def test_of_the_tasks_sent_to_a_worker_the_one_begun_last_runs() -> None:
    assert states(task(2), task(1), task(3), begun=2) == [
        ("f1", "SUBMITTED_TO_WORKER"),
        ("f2", "RUNNING"),
        ("f3", "SUBMITTED_TO_WORKER"),
    ]
    assert states(task(1)) == [("f1", "SUBMITTED_TO_WORKER")]


def test_an_actor_that_runs_several_at_a_time_runs_the_first_ones() -> None:
    calls = [task(seq, actor_id=ACTOR.hex(), type="ACTOR_TASK") for seq in (1, 2, 3)]
    found = states(*calls, actors=[actor(max_concurrency=2)])
    assert [state for _, state in found] == ["RUNNING", "RUNNING", "SUBMITTED_TO_WORKER"]


def test_a_task_that_ran_again_is_one() -> None:
    rows = [task(1, "FINISHED"), task(1, "SUBMITTED_TO_WORKER", attempt=1)]
    (found,) = merge.tasks(rows, [], [], JOBS, NODE)
    assert (found.attempt_number, found.state) == (1, "SUBMITTED_TO_WORKER")


def test_the_columns_of_a_task() -> None:
    row = task(1, "FAILED", start=2.5, end=4.0, error_type="ValueError", error_message="boom")
    (found,) = merge.tasks([row], [worker()], [], JOBS, NODE)
    assert (found.creation_time_ms, found.start_time_ms, found.end_time_ms) == (1000, 2500, 4000)
    assert (found.worker_pid, found.node_id) == (17, NODE)
    assert found.required_resources == {"CPU": 0.5}
    assert (found.error_type, found.error_message) == ("ValueError", "boom")
    assert [event["state"] for event in found.events or ()] == ["PENDING_ARGS_AVAIL", "RUNNING", "FAILED"]
    assert found.actor_id is None
    (event,) = merge.timeline([found])
    assert (event["ts"], event["dur"], event["tid"], event["cname"]) == (
        2_500_000,
        1_500_000,
        "worker 17",
        "terrible",
    )


def test_what_has_not_ended_is_no_part_of_the_timeline() -> None:
    assert merge.timeline(merge.tasks([task(1)], [worker()], [], JOBS, NODE)) == []


@pytest.mark.parametrize(
    ("state", "times", "expected", "end"),
    [
        ("ALIVE", [1.0, 2.0, 0.0], "FINISHED", 2000),
        ("DEAD", [1.0, 2.0, 5.0], "FINISHED", 2000),
        ("DEAD", [1.0, 0.0, 5.0], "FAILED", 5000),
        ("PENDING_CREATION", [1.0, 0.0, 0.0], "PENDING_NODE_ASSIGNMENT", None),
    ],
)
def test_the_creation_of_an_actor_is_a_task(state: str, times: Any, expected: str, end: int | None) -> None:
    row = actor(state=state, times=times, death_cause="it raised")
    (found,) = merge.tasks([], [worker()], [row], JOBS, NODE)
    assert (found.name, found.state, found.end_time_ms) == ("A.__init__", expected, end)
    assert found.job_id == JOB
    assert found.error_message == ("it raised" if expected == "FAILED" else None)


def test_a_dead_actor_tells_why() -> None:
    (found,) = merge.actors(
        [actor(state="DEAD", death_cause="killed", times=[1.0, 0.0, 3.0])], [worker()], JOBS
    )
    assert found.pid is None
    assert found.death_cause is not None
    context = found.death_cause["actor_died_error_context"]
    assert (context["error_message"], context["never_started"], context["pid"]) == ("killed", True, 17)
    (alive,) = merge.actors([actor(death_cause="it was killed before")], [worker()], JOBS)
    assert (alive.pid, alive.death_cause, alive.job_id) == (17, None, JOB)


def held(number: int, pid: int, **more: Any) -> dict[str, Any]:
    row = {
        "object_id": ids.object_id(OWNER, number).hex(), "pid": pid, "status": "FINISHED", "inline_size": 10,
        "reference_type": "LOCAL_REFERENCE", "call_site": "", "owned": True, "local": 1, "pins": 0,
        "borrowers": [], "process": "p", "received": "",
    }  # fmt: skip
    return row | more


def test_objects_are_told_of_by_each_process_that_holds_them() -> None:
    one, two = ids.object_id(OWNER, 1).hex(), ids.object_id(OWNER, 2).hex()
    stored = [{"object_id": one, "size": 4096, "where": "memory", "type": "ndarray", "readers": ["w1", "w2"]}]
    found = merge.objects(
        [held(1, 17), held(2, 17, status="PENDING"), held(3, 18)],
        stored,
        [worker(), worker("w2", 18, worker_type="DRIVER")],
        {one[:28]: 2},
    )
    assert [(row.object_id, row.pid, row.object_size, row.where) for row in found] == [
        (one, 17, 4096, "memory"),
        (two, 17, None, "inline"),
        (ids.object_id(OWNER, 3).hex(), 18, 10, "inline"),
        (one, 18, 4096, "memory"),
    ]
    assert [row.reference_type for row in found][-1] == "PINNED_IN_MEMORY"
    assert [row.type for row in found] == ["WORKER", "WORKER", "DRIVER", "DRIVER"]
    assert [row.attempt_number for row in found] == [3, 1, 1, 3]


def test_workers_that_live_and_that_ended() -> None:
    running = merge.tasks([task(1)], [worker(begun=(OWNER.hex(), 1))], [], JOBS, NODE)
    dead = worker("w0", 16, state="DEAD", exit_type="SYSTEM_ERROR", times=[0.0, 0.0, 1.0, 9.0])
    acts = worker("w2", 18, state="ACTOR") | {"name": "A"}
    found = merge.workers([worker(), acts, worker("w3", 0)], [dead], running, JOBS, NODE)
    assert [(row.worker_id, row.is_alive, row.running) for row in found] == [
        ("w0", False, None), ("w1", True, "f1"), ("w2", True, "A"),
    ]  # fmt: skip
    assert (found[0].worker_launch_time_ms, found[0].end_time_ms) == (-1, 9000)


# ---------------------------------------------------------------------- choosing


ROWS = merge.tasks([task(n, name=name) for n, name in enumerate(["f", "g", "F"])], [], [], JOBS, NODE)
IDS = [row.task_id for row in ROWS]


@pytest.mark.parametrize(
    ("filters", "chosen"),
    [
        (None, "012"),
        ([("name", "=", "f")], "02"),
        ([("name", "!=", "f")], "1"),
        ([("task_id", "=", IDS[1].upper())], "1"),
        ([("name", "=", "f"), ("task_id", "!=", IDS[0])], "2"),
        ([("name", "=", "nothing")], ""),
    ],
)
def test_filters_compare_as_people_write(filters: Any, chosen: str) -> None:
    found = merge.select(TaskState, ROWS, filters, 10)
    assert "".join(str(IDS.index(row.task_id)) for row in found) == chosen


def test_only_so_many() -> None:
    assert len(merge.select(TaskState, ROWS, None, 2)) == 2


def test_a_filter_on_nothing() -> None:
    with pytest.raises(ValueError, match="there is no column 'nonsense'; there are task_id, "):
        merge.select(TaskState, ROWS, [("nonsense", "=", 1)], 2)
    with pytest.raises(ValueError):
        merge.select(TaskState, ROWS, [("name", "<", 1)], 2)  # type: ignore[list-item]
