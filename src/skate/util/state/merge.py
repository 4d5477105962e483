"""Merges the answers of a session's processes. Decisions only: lists of plain rows in, rows out."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

from skate._base import ids
from skate._base.resources import to_float
from skate._scheduling import requirements
from skate._scheduling.labels import written
from skate.util.state.columns import Row, timestamp
from skate.util.state.common import (
    ActorState,
    ClusterEventState,
    JobState,
    NodeState,
    ObjectState,
    RuntimeEnvState,
    TaskState,
    WorkerState,
)
from skate.util.state.options import check_filters
from skate.util.state.summaries import StateSummary

R = TypeVar("R", bound=Row)

Plain = dict[str, Any]

#: The address of all processes, in a session on one machine.
_HERE = "127.0.0.1"


def tasks(
    owners: Sequence[Plain],
    workers: Sequence[Plain],
    actors: Sequence[Plain],
    jobs: Sequence[Plain],
    node: str,
) -> list[TaskState]:
    """Return all tasks, the newest last. Of those sent to a worker, the one begun last is running."""
    pids = {row["worker_id"]: row["pid"] for row in workers}
    begun = {row["worker_id"]: row.get("begun") for row in workers}
    width = {row["actor_id"]: row["max_concurrency"] for row in actors}
    stopped = {task for row in workers for task in row.get("stopped_tasks", ())}
    room: Counter[str] = Counter()
    found = []
    once = {row["task_id"]: row for row in owners}  # a lost object that is made again is reported twice
    for row in sorted(once.values(), key=lambda one: one["made"]):
        state, worker, actor = row["state"], row["worker_id"], row["actor_id"]
        if state == "SUBMITTED_TO_WORKER":
            if width.get(actor, 1) > 1:  # it runs several calls at a time: the first ones
                room[actor] += 1
                running = room[actor] <= width[actor]
            else:
                last = begun.get(worker)
                running = last is not None and _task_of(*last) == row["task_id"]
            state = "RUNNING" if running else state
        selector, fallbacks = _requirement(row["requirement"])
        found.append(
            TaskState(
                task_id=row["task_id"],
                attempt_number=row["attempt"],
                name=row["name"],
                state=state,
                type=row["type"],
                func_or_class_name=row["function"],
                job_id=row["job_id"],
                actor_id=actor or None,
                parent_task_id=row["parent"] or _driver_task(row["job_id"]),
                node_id=node if worker else None,
                worker_id=worker or None,
                worker_pid=pids.get(worker),
                required_resources=to_float(row["resources"]),
                placement_group_id=_group(row["requirement"]),
                runtime_env_info=_environment(row["environment"]),
                events=_events((("PENDING_ARGS_AVAIL", row["made"]), ("RUNNING", row.get("start")),
                                (state, row.get("end")))),
                creation_time_ms=_ms(row["made"]),
                start_time_ms=_ms(row.get("start")),
                end_time_ms=_ms(row.get("end")),
                task_log_info=_log(worker),
                error_type=row.get("error_type"),
                error_message=row.get("error_message"),
                is_debugger_paused=row["task_id"] in stopped,
                call_site=row["call_site"] or None,
                label_selector=selector,
                fallback_strategy=fallbacks,
                owner_pid=row["owner_pid"],
            )
        )  # fmt: skip
    hosts = {row["actor_id"]: row["worker_id"] for row in workers
             if row.get("actor_id") and row.get("state") != "DEAD"}  # fmt: skip
    constructors = [_constructor(row, hosts, pids, jobs, node) for row in actors]
    return sorted([*found, *constructors], key=lambda row: row.creation_time_ms or 0)


def _constructor(
    row: Plain, hosts: Mapping[str, str], pids: Mapping[str, int], jobs: Sequence[Plain], node: str
) -> TaskState:
    """Return the creation of an actor as a task. ``hosts``: the worker of each actor."""
    created, alive, dead = row["times"]
    over = bool(alive or row["state"] == "DEAD")
    begun = "RUNNING" if row["actor_id"] in hosts else "PENDING_NODE_ASSIGNMENT"
    state = ("FINISHED" if alive else "FAILED") if over else begun
    worker = row["worker_id"] or hosts.get(row["actor_id"], "")
    end = (alive or dead) if over else 0.0
    job = next((one["job_id"] for one in jobs if one["driver"] == row["job"]), "")
    selector, fallbacks = _requirement(row["requirement"])
    actor_id = ids.ActorID.from_hex(row["actor_id"])
    return TaskState(
        task_id=ids.TaskID.for_actor_creation_task(actor_id).hex(),
        attempt_number=row["num_restarts"],
        name=f"{row['class_name']}.__init__",
        state=state,
        type="ACTOR_CREATION_TASK",
        func_or_class_name=row["class_name"],
        job_id=job or None,
        actor_id=row["actor_id"],
        parent_task_id=row["parent"] or _driver_task(job),
        node_id=node if worker else None,
        worker_id=worker or None,
        worker_pid=pids.get(worker),
        error_type="ActorDiedError" if state == "FAILED" else None,
        required_resources=row["placement"],
        placement_group_id=_group(row["requirement"]),
        runtime_env_info=_environment(row["environment"]),
        events=_events((("PENDING_ARGS_AVAIL", created), (state, end))),
        creation_time_ms=_ms(created or None),
        end_time_ms=_ms(end or None),
        task_log_info=_log(worker),
        error_message=row["death_cause"] if state == "FAILED" else None,
        is_debugger_paused=False,
        call_site=row["call_site"] or None,
        label_selector=selector,
        fallback_strategy=fallbacks,
        owner_pid=pids.get(row["owner"]),
    )


def _driver_task(job_id: str) -> str | None:
    return ids.TaskID.for_driver_task(ids.JobID.from_hex(job_id)).hex() if job_id else None


def _requirement(packed: str) -> tuple[Plain | None, list[Plain] | None]:
    """Return ``label_selector`` and ``fallback_strategy`` as a program writes them."""
    found = requirements.decode(bytes.fromhex(packed))
    if found is None:
        return None, None
    first, *others = [written(conditions) for conditions in found.alternatives]
    return first or None, [{"label_selector": one} for one in others] or None


def _group(packed: str) -> str | None:
    """Return the id of the placement group in which a task or an actor runs."""
    return requirements.group_of(bytes.fromhex(packed))[0].hex() or None


def _environment(shown: str) -> Plain | None:
    return {"serialized_runtime_env": shown} if shown else None


def _log(worker: str) -> Plain | None:
    name = f"worker-{worker}.log"
    return {"stdout_file": name, "stderr_file": name} if worker else None


def _events(times: Iterable[tuple[str, float | None]]) -> list[Plain]:
    return [{"state": state, "created_ms": _ms(seconds)} for state, seconds in times if seconds]


def _task_of(owner: str, seq: int) -> str:
    return owner + seq.to_bytes(6, "big").hex()


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)


def actors(rows: Sequence[Plain], workers: Sequence[Plain], jobs: Sequence[Plain]) -> list[ActorState]:
    """Return all actors."""
    pids = {row["worker_id"]: row["pid"] for row in workers}
    job_ids = {row["driver"]: row["job_id"] for row in jobs}
    found = []
    for row in rows:
        selector, fallbacks = _requirement(row["requirement"])
        created, alive, dead = row["times"]
        cause = None
        if row["death_cause"] and row["state"] in ("DEAD", "RESTARTING"):
            cause = {
                "actor_died_error_context": {
                    "error_message": row["death_cause"],
                    "actor_id": row["actor_id"],
                    "class_name": row["class_name"],
                    "name": row["name"],
                    "ray_namespace": row["ray_namespace"],
                    "pid": pids.get(row["worker_id"], 0),
                    "node_ip_address": _HERE,
                    "never_started": not alive,
                }
            }
        found.append(
            ActorState(
                actor_id=row["actor_id"],
                class_name=row["class_name"],
                state=row["state"],
                job_id=job_ids.get(row["job"]),
                name=row["name"] or None,
                node_id=row["node_id"] or None,
                pid=pids.get(row["worker_id"]) if row["state"] == "ALIVE" else None,
                ray_namespace=row["ray_namespace"],
                serialized_runtime_env=row["environment"] or "{}",
                required_resources=row["required_resources"],
                placement_group_id=_group(row["requirement"]),
                death_cause=cause,
                is_detached=row["is_detached"],
                repr_name=row["repr_name"],
                num_restarts=row["num_restarts"],
                call_site=row["call_site"] or None,
                label_selector=selector,
                fallback_strategy=fallbacks,
                worker_id=row["worker_id"] or None,
                creation_time_ms=_ms(created or None),
                start_time_ms=_ms(alive or None),
                end_time_ms=_ms(dead or None),
            )
        )
    return found


def objects(
    holders: Sequence[Plain], stored: Sequence[Plain], workers: Sequence[Plain], attempts: Mapping[str, int]
) -> list[ObjectState]:
    """Return a row for each object and each process that has refs to it or reads it."""
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
                attempt_number=attempts.get(row["object_id"][: 2 * ids.TASK_ID_SIZE], 0) + 1,
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
                received=row["received"],
                process=row["process"],
            )
        )
    for object_id, place in places.items():
        for reader in place["readers"]:
            pid = pids.get(reader, 0)
            if pid not in known[object_id]:
                found.append(
                    ObjectState(
                        object_id=object_id,
                        object_size=place["size"],
                        task_status="FINISHED",
                        attempt_number=attempts.get(object_id[: 2 * ids.TASK_ID_SIZE], 0) + 1,
                        reference_type="PINNED_IN_MEMORY",
                        call_site="",
                        type=kinds.get(pid, "WORKER"),
                        pid=pid,
                        where=place["where"],
                        label=place["type"],
                        owned=False,
                    )
                )
    return found


def workers(
    rows: Sequence[Plain],
    dead: Sequence[Plain],
    running: Iterable[TaskState],
    jobs: Sequence[Plain],
    node: str,
) -> list[WorkerState]:
    """Return all processes except the runtime's own: first the ended ones, the newest of them last."""
    job_ids = {row["driver"]: row["job_id"] for row in jobs}
    names = {task.worker_id: task.name for task in running if task.state == "RUNNING"}
    found = []
    for row in (*dead, *rows):
        if not row["pid"]:
            continue  # it is not forked yet, or its fork failed
        asked, forked, ready, ended = row["times"]
        alive = row["state"] != "DEAD"
        found.append(
            WorkerState(
                worker_id=row["worker_id"],
                is_alive=alive,
                worker_type=row["worker_type"],
                exit_type=row.get("exit_type"),
                node_id=node,
                ip=_HERE,
                pid=row["pid"],
                exit_detail=row.get("exit_detail"),
                worker_launch_time_ms=_ms(asked) or -1,
                worker_launched_time_ms=_ms(forked) or -1,
                start_time_ms=_ms(ready),
                end_time_ms=_ms(ended),
                state=row["state"],
                job_id=job_ids.get(row["job"]),
                actor_id=row.get("actor_id") or None,
                running=names.get(row["worker_id"]) if alive else None,
                resources=row.get("resources") or {},
            )
        )
        if alive and found[-1].running is None and row["state"] == "ACTOR":
            found[-1].running = row.get("name") or None
    return found


def nodes(rows: Sequence[Plain]) -> list[NodeState]:
    """Return the machines."""
    return [
        NodeState(
            node_id=row["node_id"],
            node_ip=_HERE,
            is_head_node=True,
            state="ALIVE",
            state_message=None,
            node_name=row["hostname"],
            resources_total=row["total"],
            labels=row["labels"],
            start_time_ms=_ms(row["started"]),
            resources_available=row["available"],
        )
        for row in rows
    ]


def jobs(rows: Sequence[Plain], node: str) -> list[JobState]:
    """Return all drivers, running and ended."""
    return [
        JobState(
            type="DRIVER",
            job_id=row["job_id"],
            driver_info={"id": row["job_id"], "node_ip_address": _HERE, "pid": str(row.get("pid", ""))},
            status=row["status"],
            entrypoint=row["entrypoint"],
            start_time=_ms(row["start_time"]),
            end_time=_ms(row["end_time"]),
            metadata=row.get("metadata") or {},
            runtime_env=row.get("runtime_env") or {},
            driver_node_id=node,
        )
        for row in rows
    ]


def runtime_envs(rows: Sequence[Plain], node: str) -> list[RuntimeEnvState]:
    """Return the environments that programs named."""
    return [
        RuntimeEnvState(
            runtime_env=row["runtime_env"],
            success=row["state"] == "ready",
            creation_time_ms=_ms(row["took"]),
            node_id=node,
            ref_cnt=row["workers"],
            error=row["error"],
            state=row["state"],
        )
        for row in rows
    ]


def cluster_events(rows: Sequence[Plain]) -> list[ClusterEventState]:
    """Return the events of the session, the newest last."""
    found = []
    for row in sorted(rows, key=lambda one: one["time"]):
        name = f"{row['time']} {row['source_type']} {row['message']}"
        found.append(
            ClusterEventState(
                severity=row["severity"],
                time=timestamp(row["time"] * 1000).partition(".")[0],
                source_type=row["source_type"],
                message=row["message"],
                event_id=hashlib.blake2b(name.encode(), digest_size=18).hexdigest(),
            )
        )
    return found


def select(
    kind: type[R], rows: Sequence[R], filters: Iterable[tuple[str, str, Any]] | None, limit: int
) -> list[R]:
    """Return the rows that pass all filters, at most ``limit``.

    Raises:
        ValueError: a filter names no column, or its predicate is not "=" or "!=".
    """
    chosen = list(rows)
    wanted = list(filters or ())
    check_filters(wanted)
    for name, predicate, value in wanted:
        if name not in kind.columns():
            raise ValueError(f"there is no column {name!r}; there are {', '.join(kind.list_columns())}")
        chosen = [row for row in chosen if _equal(row[name], value) == (predicate == "=")]
    return chosen[:limit]


#: The columns of a count of calls, by the column of a list to which each belongs.
_COUNTED_BY = {"name": "name", "func_or_class_name": "function", "type": "type", "state": "state"}


def can_be_counted(filters: Iterable[tuple[str, str, Any]] | None) -> bool:
    """Tell whether counts of calls have all columns that filters name."""
    return all(name in _COUNTED_BY for name, _, _ in filters or ())


def counted(rows: Iterable[Plain], filters: Iterable[tuple[str, str, Any]] | None = None) -> list[Plain]:
    """Return a row for each name and state that passes the filters, from the counts of processes."""
    found = [
        {"name": row["name"], "function": row["function"], "type": row["type"], "state": state,
         "count": count}
        for row in rows for state, count in row.items() if state.isupper() and count
    ]  # fmt: skip
    for name, predicate, value in filters or ():
        found = [row for row in found if _equal(row[_COUNTED_BY[name]], value) == (predicate == "=")]
    return found


def what_is_missing(kind: type[Row], number: int) -> str:
    """Return the remark for a list that lacks ``number`` rows."""
    if kind is TaskState:
        return (
            f"{number:,} more calls have finished and are no longer remembered (each process remembers 5,000 "
            "that succeeded and 5,000 that failed): `skate summary tasks` and summarize_tasks() count all"
        )
    return f"{number:,} more objects were too many to tell: ask for one with a filter on object_id"


def _equal(found: Any, value: Any) -> bool:
    """Compare loosely: ``("pid", "=", "17")`` finds 17, and case does not count."""
    return bool(found == value or str(found).lower() == str(value).lower())


def as_summary(summary: StateSummary) -> Plain:
    """Return a summary in Ray's form: plain data under "cluster"."""
    found: Plain = asdict(summary)["node_id_to_summary"]
    return found


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
