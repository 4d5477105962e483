"""What the processes of a session told, put together. Decisions only: lists of plain rows in, rows out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from skate.util.state.common import ActorState, ObjectState, Row, TaskState, WorkerState

R = TypeVar("R", bound=Row)

Plain = dict[str, Any]


def tasks(
    owners: Sequence[Plain], workers: Sequence[Plain], actors: Sequence[Plain], node: str
) -> list[TaskState]:
    """Return all tasks, the newest last. Of those sent to a worker, the one begun last is running."""
    pids = {row["worker_id"]: row["pid"] for row in workers}
    begun = {row["worker_id"]: row.get("begun") for row in workers}
    width = {row["actor_id"]: row["max_concurrency"] for row in actors}
    stopped = {task for row in workers for task in row.get("stopped_tasks", ())}
    room: Counter[str] = Counter()
    found = []
    for row in sorted(owners, key=lambda one: one["made"]):
        state, worker, actor = row["state"], row["worker_id"], row["actor_id"]
        if state == "SUBMITTED_TO_WORKER":
            if width.get(actor, 1) > 1:  # it runs several at a time: the first ones
                room[actor] += 1
                running = room[actor] <= width[actor]
            else:
                word = begun.get(worker)
                running = word is not None and _task_of(*word) == row["task_id"]
            state = "RUNNING" if running else state
        found.append(
            TaskState(
                task_id=row["task_id"],
                name=row["name"],
                state=state,
                type=row["type"],
                func_or_class_name=row["name"].rpartition(".")[0] or row["name"] if actor else row["name"],
                job_id=row["job_id"],
                actor_id=actor or None,
                node_id=node if worker else None,
                worker_id=worker or None,
                worker_pid=pids.get(worker),
                creation_time_ms=_ms(row["made"]),
                start_time_ms=_ms(row.get("start")),
                end_time_ms=_ms(row.get("end")),
                error_type=row.get("error_type"),
                error_message=row.get("error_message"),
                call_site=row["call_site"] or None,
                owner_pid=row["owner_pid"],
                is_debugger_paused=row["task_id"] in stopped,
            )
        )
    return found


def _task_of(owner: str, seq: int) -> str:
    return owner + seq.to_bytes(6, "big").hex()


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)


def actors(rows: Sequence[Plain], workers: Sequence[Plain], jobs: Sequence[Plain]) -> list[ActorState]:
    """Return all actors."""
    pids = {row["worker_id"]: row["pid"] for row in workers}
    job_ids = {row["driver"]: row["job_id"] for row in jobs}
    return [
        ActorState(
            actor_id=row["actor_id"],
            class_name=row["class_name"],
            state=row["state"],
            name=row["name"] or None,
            job_id=job_ids.get(row["job"]),
            node_id=row["node_id"] or None,
            pid=pids.get(row["worker_id"]) if row["state"] == "ALIVE" else None,
            ray_namespace=row["ray_namespace"],
            death_cause=row["death_cause"] or None,
            is_detached=row["is_detached"],
            num_restarts=row["num_restarts"],
            required_resources=row["required_resources"],
            worker_id=row["worker_id"] or None,
        )
        for row in rows
    ]


def objects(holders: Sequence[Plain], stored: Sequence[Plain], workers: Sequence[Plain]) -> list[ObjectState]:
    """Return who holds which object: a row for each process that has refs to it or reads it."""
    places = {row["object_id"]: row for row in stored}
    kinds = {row["pid"]: row["worker_type"] for row in workers}
    pids = {row["worker_id"]: row["pid"] for row in workers}
    found: list[ObjectState] = []
    known: defaultdict[str, set[int]] = defaultdict(set)
    for row in holders:
        place = places.get(row["object_id"])
        known[row["object_id"]].add(row["pid"])
        size = (
            place["size"]
            if place is not None
            else row["inline_size"]
            if row["status"] == "FINISHED"
            else None
        )
        found.append(
            ObjectState(
                object_id=row["object_id"],
                object_size=size,
                task_status=row["status"],
                reference_type=row["reference_type"],
                call_site=row["call_site"],
                type=kinds.get(row["pid"], "WORKER"),
                pid=row["pid"],
                where=place["where"] if place is not None else "inline",
                label=place["type"] if place is not None else None,
                owned=row["owned"],
                local_refs=row["local"],
                pins=row["pins"],
                borrowers=len(row["borrowers"]),
                process=row["process"],
            )
        )
    for object_id, place in places.items():
        for reader in place["readers"]:
            pid = pids.get(reader, 0)
            if pid not in known[object_id]:
                found.append(
                    ObjectState(
                        object_id,
                        place["size"],
                        "FINISHED",
                        "PINNED_IN_MEMORY",
                        "",
                        kinds.get(pid, "WORKER"),
                        pid,
                        place["where"],
                        place["type"],
                        owned=False,
                    )
                )
    return found


def workers(
    rows: Sequence[Plain], running: Iterable[TaskState], jobs: Sequence[Plain], node: str
) -> list[WorkerState]:
    """Return all processes but the runtime's own."""
    job_ids = {row["driver"]: row["job_id"] for row in jobs}
    names = {task.worker_id: task.name for task in running if task.state == "RUNNING"}
    return [
        WorkerState(
            worker_id=row["worker_id"],
            worker_type=row["worker_type"],
            pid=row["pid"],
            is_alive=True,
            state=row["state"],
            node_id=node,
            job_id=job_ids.get(row["job"]),
            actor_id=row.get("actor_id") or None,
            running=names.get(row["worker_id"])
            or (row.get("name") if row["state"] == "ACTOR" else None)
            or None,
            resources=row.get("resources") or {},
        )
        for row in rows
    ]


def select(rows: Sequence[R], filters: Iterable[tuple[str, str, Any]] | None, limit: int) -> list[R]:
    """Return the rows that pass all filters, at most ``limit``.

    Raises:
        ValueError: a filter names no column, or its predicate is not "=" or "!=".
    """
    chosen = list(rows)
    for name, predicate, value in filters or ():
        if rows and name not in type(rows[0]).columns():
            raise ValueError(f"there is no column {name!r}; there are {', '.join(type(rows[0]).columns())}")
        if predicate not in ("=", "!="):
            raise ValueError(f"a filter's predicate is '=' or '!=', got {predicate!r}")
        wanted = predicate == "="
        chosen = [row for row in chosen if _equal(row[name], value) == wanted]
    return chosen[:limit]


def _equal(found: Any, value: Any) -> bool:
    """Compare as people write: ``("pid", "=", "17")`` finds 17, case does not count."""
    return bool(found == value or str(found).lower() == str(value).lower())


def summarize(rows: Sequence[Row], by: str) -> dict[str, dict[str, Any]]:
    """Return for each name how many rows are in which state."""
    summary: dict[str, dict[str, Any]] = {}
    for row in rows:
        name = row[by]
        entry = summary.setdefault(name, {"type": row.get("type"), "state_counts": Counter()})
        entry["state_counts"][row["state"]] += 1
    return {
        name: {"func_or_class_name": name, "type": entry["type"], "state_counts": dict(entry["state_counts"])}
        for name, entry in summary.items()
    }


def by_call_site(rows: Sequence[ObjectState]) -> dict[str, dict[str, Any]]:
    """Return for each line of code what it made that is still held: objects, bytes, holders."""
    summary: dict[str, dict[str, Any]] = {}
    for row in rows:
        if not row.owned or row.reference_type == "ACTOR_HANDLE":
            continue
        entry = summary.setdefault(
            row.call_site or "(not known)",
            {"total_objects": 0, "total_size_mb": 0.0, "total_num_workers": 0, "ref_type_counts": Counter(),
             "task_state_counts": Counter(), "pids": set()},
        )  # fmt: skip
        entry["total_objects"] += 1
        entry["total_size_mb"] += (row.object_size or 0) / 1e6
        entry["ref_type_counts"][row.reference_type] += 1
        entry["task_state_counts"][row.task_status] += 1
        entry["pids"].add(row.pid)
    for entry in summary.values():
        entry["total_num_workers"] = len(entry.pop("pids"))
        entry["ref_type_counts"] = dict(entry["ref_type_counts"])
        entry["task_state_counts"] = dict(entry["task_state_counts"])
    return dict(sorted(summary.items(), key=lambda item: -item[1]["total_size_mb"]))


def timeline(rows: Sequence[TaskState]) -> list[Plain]:
    """Return the finished calls as events of a Chrome trace, a line for each worker."""
    return [
        {
            "name": row.name,
            "cat": "task" if row.type == "NORMAL_TASK" else "actor call",
            "ph": "X",
            "ts": row.start_time_ms * 1000,
            "dur": max(1, (row.end_time_ms - row.start_time_ms) * 1000),
            "pid": row.node_id or "node",
            "tid": f"worker {row.worker_pid or row.worker_id}",
            "args": {"task_id": row.task_id, "state": row.state, "called at": row.call_site},
            **({"cname": "terrible"} if row.state == "FAILED" else {}),
        }
        for row in rows
        if row.start_time_ms is not None and row.end_time_ms is not None and row.worker_id is not None
    ]
