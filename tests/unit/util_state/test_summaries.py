"""Counts of tasks, actors and objects, and the tree of what called what."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from skate.util.state import merge
from skate.util.state.summaries import ActorSummaries, NestedTaskSummary, ObjectSummaries, TaskSummaries


def task(name: str, state: str = "FINISHED", **more: Any) -> dict[str, Any]:
    base = {"task_id": name, "name": name, "func_or_class_name": name, "state": state, "type": "NORMAL_TASK",
            "actor_id": None, "parent_task_id": "driver", "creation_time_ms": 1}  # fmt: skip
    return base | more


def test_by_name() -> None:
    found = TaskSummaries.to_summary_by_func_name(
        tasks=[
            task("f"), task("f", "FAILED"), task("f"), task("A.g", type="ACTOR_TASK"),
            task("A.__init__", type="ACTOR_CREATION_TASK"),
        ]
    )  # fmt: skip
    assert isinstance(found.summary, dict)
    assert found.summary["f"].state_counts == {"FINISHED": 2, "FAILED": 1}
    assert (found.total_tasks, found.total_actor_tasks, found.total_actor_scheduled) == (3, 1, 1)
    assert found.summary_by == "func_name"


def tree(nodes: list[NestedTaskSummary]) -> list[Any]:
    return [(node.name, node.type, node.state_counts, tree(node.children)) for node in nodes]


def test_by_lineage() -> None:
    found = TaskSummaries.to_summary_by_lineage(
        tasks=[
            task("main", task_id="1", creation_time_ms=5),
            task("part", task_id="2", parent_task_id="1"),
            task("part", "RUNNING", task_id="3", parent_task_id="1"),
            task("A.g", task_id="4", type="ACTOR_TASK", actor_id="x", parent_task_id="2"),
            task("last", "FAILED", task_id="5", creation_time_ms=9),
        ],
        actors=[{"actor_id": "x", "class_name": "A", "repr_name": "A(one)"}],
    )
    assert isinstance(found.summary, list)
    done = {"FINISHED": 1}
    assert tree(found.summary) == [
        ("main", "NORMAL_TASK", {"RUNNING": 1, "FINISHED": 3}, [
            ("part", "GROUP", {"RUNNING": 1, "FINISHED": 2}, [
                ("part", "NORMAL_TASK", {"FINISHED": 2}, [("A(one)", "ACTOR", done, [("A.g", "ACTOR_TASK", done, [])])]),
                ("part", "NORMAL_TASK", {"RUNNING": 1}, []),
            ]),
        ]),
        ("last", "NORMAL_TASK", {"FAILED": 1}, []),
    ]  # fmt: skip
    assert found.summary[0].link == {"type": "task", "id": "1"}
    assert found.summary[0].timestamp == 5


def test_by_lineage_of_a_task_that_calls_itself_anew() -> None:
    """What lies deeper than a tree can be shown is counted all the same."""
    rows = [task("again", task_id=str(number), parent_task_id=str(number - 1)) for number in range(5000)]
    found = TaskSummaries.to_summary_by_lineage(tasks=rows, actors=[])
    (top,) = found.summary
    assert isinstance(top, NestedTaskSummary)
    assert top.state_counts == {"FINISHED": 5000}
    assert asdict(top)["children"]


def test_of_actors() -> None:
    rows = [
        {"class_name": "A", "state": "ALIVE"},
        {"class_name": "A", "state": "DEAD"},
        {"class_name": "B", "state": "DEAD"},
    ]
    found = ActorSummaries.to_summary(actors=rows)
    assert found.total_actors == 3 and found.summary["A"].state_counts == {"ALIVE": 1, "DEAD": 1}


def test_of_objects() -> None:
    def row(
        site: str, size: int | None, pid: int = 1, owned: bool = True, kind: str = "LOCAL_REFERENCE"
    ) -> dict[str, Any]:
        return {"call_site": site, "object_size": size, "pid": pid, "owned": owned, "reference_type": kind,
                "task_status": "FINISHED", "attempt_number": 1, "ip": "127.0.0.1"}  # fmt: skip

    found = ObjectSummaries.to_summary(
        objects=[
            row("a.py:1", 1_000_000), row("a.py:1", 2_000_000, pid=2), row("b.py:2", 5_000_000), row("", None),
            row("a.py:1", 9, owned=False), row("a.py:1", 9, kind="ACTOR_HANDLE"),
        ]
    )  # fmt: skip
    assert list(found.summary) == ["b.py:2", "a.py:1", "(not known)"]
    entry = found.summary["a.py:1"]
    assert (entry.total_objects, entry.total_size_mb, entry.total_num_workers) == (2, 3.0, 2)
    assert entry.task_attempt_number_counts == {"1": 2}
    assert (found.total_objects, found.total_size_mb, found.callsite_enabled) == (4, 8.0, True)


# ---------------------------------------------------------------------- what processes counted


def test_counts_of_several_processes_are_added_to_what_is_under_way() -> None:
    told = [
        {"name": "f", "function": "f", "type": "NORMAL_TASK", "FINISHED": 5, "FAILED": 0},
        {"name": "f", "function": "f", "type": "NORMAL_TASK", "FINISHED": 2, "FAILED": 1},
        {"name": "f", "function": "f", "type": "NORMAL_TASK", "PENDING_NODE_ASSIGNMENT": 9},
        {"name": "A.m", "function": "A.m", "type": "ACTOR_TASK", "FINISHED": 3, "FAILED": 0},
        {"name": "g", "function": "g", "type": "NORMAL_TASK", "FINISHED": 0, "FAILED": 0},
    ]
    running = {"name": "f", "func_or_class_name": "f", "type": "NORMAL_TASK", "state": "RUNNING"}
    found = TaskSummaries.to_summary_by_counts(counts=merge.counted(told), tasks=[running])
    assert isinstance(found.summary, dict)
    assert {name: one.state_counts for name, one in found.summary.items()} == {
        "f": {"RUNNING": 1, "FINISHED": 7, "FAILED": 1, "PENDING_NODE_ASSIGNMENT": 9},
        "A.m": {"FINISHED": 3},
    }
    assert (found.total_tasks, found.total_actor_tasks) == (18, 3)
    some = merge.counted(told, [("name", "=", "F"), ("state", "!=", "FINISHED")])
    assert [(row["state"], row["count"]) for row in some] == [("FAILED", 1), ("PENDING_NODE_ASSIGNMENT", 9)]


def test_what_can_be_counted() -> None:
    assert merge.can_be_counted(None) and merge.can_be_counted([("type", "=", "x"), ("state", "!=", "y")])
    assert not merge.can_be_counted([("state", "=", "x"), ("worker_id", "=", "y")])
