"""Defines the rows of the state API, and exports the other names of Ray's module.

Times are milliseconds since 1970. Columns that Ray does not have come last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from skate.util.state.columns import (
    Row,
    column,
    duration,
    events,
    launch_time,
    memory,
    resources,
    timestamp,
)
from skate.util.state.options import (
    GetApiOptions,
    GetLogOptions,
    ListApiOptions,
    StateResource,
    SummaryApiOptions,
    SummaryResource,
)
from skate.util.state.summaries import ActorSummaries, ObjectSummaries, StateSummary, TaskSummaries

__all__ = [
    "ActorState",
    "ActorSummaries",
    "ClusterEventState",
    "GetApiOptions",
    "GetLogOptions",
    "JobState",
    "ListApiOptions",
    "NodeState",
    "ObjectState",
    "ObjectSummaries",
    "PlacementGroupState",
    "Row",
    "RuntimeEnvState",
    "StateResource",
    "StateSummary",
    "SummaryApiOptions",
    "SummaryResource",
    "TaskState",
    "TaskSummaries",
    "WorkerState",
]


@dataclass
class TaskState(Row):
    """One task, actor call, or constructor of an actor."""

    task_id: str = column()
    #: How often it was begun before.
    attempt_number: int = column()
    name: str = column()
    #: PENDING_ARGS_AVAIL, PENDING_NODE_ASSIGNMENT, SUBMITTED_TO_WORKER, RUNNING, FINISHED, FAILED.
    state: str = column()
    job_id: str | None = column()
    actor_id: str | None = column()
    #: NORMAL_TASK, ACTOR_TASK or ACTOR_CREATION_TASK.
    type: str = column()
    func_or_class_name: str = column()
    #: The task that called it, or the driver's stand-in: see ``TaskID.for_driver_task``.
    parent_task_id: str | None = column()
    node_id: str | None = column(None)
    worker_id: str | None = column(None)
    worker_pid: int | None = column(None)
    error_type: str | None = column(None)
    language: str | None = column("PYTHON", detail=True)
    required_resources: dict[str, float] | None = column(detail=True, filterable=False)
    #: ``{"serialized_runtime_env": JSON}``.
    runtime_env_info: dict[str, Any] | None = column(detail=True, filterable=False)
    #: None: this version has no placement groups yet.
    placement_group_id: str | None = column(detail=True)
    #: ``{"state": ..., "created_ms": ...}`` of each state whose beginning is known.
    events: list[dict[str, Any]] | None = column(detail=True, filterable=False, shown=events)
    #: None: nothing is recorded inside of calls.
    profiling_data: dict[str, Any] | None = column(detail=True, filterable=False)
    creation_time_ms: int | None = column(detail=True, filterable=False, shown=timestamp)
    start_time_ms: int | None = column(detail=True, filterable=False, shown=timestamp)
    end_time_ms: int | None = column(detail=True, filterable=False, shown=timestamp)
    #: The log of the process that ran it.
    task_log_info: dict[str, Any] | None = column(detail=True, filterable=False)
    error_message: str | None = column(detail=True, filterable=False)
    is_debugger_paused: bool | None = column(detail=True)
    #: Where it was called: file, line, function.
    call_site: str | None = column(detail=True, filterable=False)
    label_selector: dict[str, str] | None = column(detail=True, filterable=False)
    fallback_strategy: list[dict[str, Any]] | None = column(detail=True, filterable=False)
    #: The process that made the call.
    owner_pid: int | None = column(detail=True)


@dataclass
class ActorState(Row):
    """One actor, living or remembered."""

    actor_id: str = column()
    class_name: str = column()
    #: PENDING_CREATION, ALIVE, RESTARTING, DEAD.
    state: str = column()
    job_id: str | None = column()
    name: str | None = column()
    node_id: str | None = column()
    pid: int | None = column()
    ray_namespace: str | None = column()
    #: JSON.
    serialized_runtime_env: str | None = column(detail=True, filterable=False)
    required_resources: dict[str, float] | None = column(detail=True, filterable=False)
    #: ``{"actor_died_error_context": {"error_message": ...}}``; None: it lives.
    death_cause: dict[str, Any] | None = column(detail=True, filterable=False)
    is_detached: bool | None = column(detail=True, filterable=False)
    #: None: this version has no placement groups yet.
    placement_group_id: str | None = column(detail=True)
    #: The value of its class's ``__repr__`` after the constructor; empty: the class has none of its own.
    repr_name: str | None = column(detail=True)
    num_restarts: int = column(0, detail=True, filterable=False)
    #: 0: actors are restarted for no other reason than the end of their process, so far.
    num_restarts_due_to_lineage_reconstruction: int = column(0, detail=True, filterable=False)
    num_restarts_due_to_node_preemption: int = column(0, detail=True, filterable=False)
    #: Where it was created: file, line, function.
    call_site: str | None = column(detail=True, filterable=False)
    label_selector: dict[str, str] | None = column(detail=True, filterable=False)
    fallback_strategy: list[dict[str, Any]] | None = column(detail=True, filterable=False)
    worker_id: str | None = column(detail=True)
    #: When it was created, alive for the first time, and dead.
    creation_time_ms: int | None = column(detail=True, filterable=False, shown=timestamp)
    start_time_ms: int | None = column(detail=True, filterable=False, shown=timestamp)
    end_time_ms: int | None = column(detail=True, filterable=False, shown=timestamp)

    @property
    def why_dead(self) -> str | None:
        """The text of ``death_cause``; None: it lives."""
        context = (self.death_cause or {}).get("actor_died_error_context") or {}
        found: str | None = context.get("error_message")
        return found


@dataclass
class ObjectState(Row):
    """One process's hold of one object."""

    object_id: str = column()
    #: Bytes; None if that is not known yet.
    object_size: int | None = column(shown=memory)
    #: PENDING, FINISHED, FAILED.
    task_status: str = column()
    #: How often the task that makes it was begun, this time included.
    attempt_number: int = column()
    #: LOCAL_REFERENCE, USED_BY_PENDING_TASK, BORROWED, ACTOR_HANDLE, PINNED_IN_MEMORY (a reader's view).
    reference_type: str = column()
    call_site: str = column()
    #: DRIVER or WORKER.
    type: str = column()
    pid: int = column()
    ip: str = column("127.0.0.1")
    #: memory, disk, or inline: in its owner.
    where: str = column("inline")
    #: The type of the value, if it is in shared memory.
    label: str | None = column(None)
    owned: bool = column(True)
    #: Refs in this process.
    local_refs: int = column(0)
    #: How many calls in flight and values around it keep it.
    pins: int = column(0)
    #: Processes that borrow it.
    borrowers: int = column(0)
    #: Of one that is not owned: the task or method to which a ref to it came first.
    received: str = column("")
    process: str = column("")


@dataclass
class WorkerState(Row):
    """One process, living or remembered."""

    worker_id: str = column()
    is_alive: bool = column()
    #: DRIVER or WORKER.
    worker_type: str = column()
    #: How it ended: SYSTEM_ERROR, INTENDED_SYSTEM_EXIT, USER_ERROR, INTENDED_USER_EXIT, NODE_OUT_OF_MEMORY.
    #: None: it lives.
    exit_type: str | None = column()
    node_id: str | None = column()
    ip: str = column()
    pid: int = column()
    #: Its exit report.
    exit_detail: str | None = column(detail=True, filterable=False)
    #: When it was requested, forked, ready, and dead; -1, or 0 for the last two: not known, or not yet.
    worker_launch_time_ms: int | None = column(-1, detail=True, filterable=False, shown=launch_time)
    worker_launched_time_ms: int | None = column(-1, detail=True, filterable=False, shown=launch_time)
    start_time_ms: int | None = column(0, detail=True, filterable=False, shown=timestamp)
    end_time_ms: int | None = column(0, detail=True, filterable=False, shown=timestamp)
    debugger_port: int | None = column(detail=True)
    num_paused_threads: int | None = column(0, detail=True)
    #: STARTING, IDLE, LEASED, ACTOR, CONNECTED, DEAD.
    state: str = column("")
    job_id: str | None = column(None)
    actor_id: str | None = column(None)
    #: The name of the running task.
    running: str | None = column(None)
    #: Proportional memory, bytes.
    memory: int | None = column(None, shown=memory)
    resources: dict[str, float] = column(factory=dict, filterable=False)


@dataclass
class NodeState(Row):
    """One machine."""

    node_id: str = column()
    node_ip: str = column()
    is_head_node: bool = column()
    #: ALIVE or DEAD.
    state: str = column()
    state_message: str | None = column(filterable=False)
    node_name: str = column()
    resources_total: dict[str, float] = column(filterable=False, shown=resources)
    labels: dict[str, str] = column(filterable=False)
    start_time_ms: int | None = column(detail=True, filterable=False, shown=timestamp)
    end_time_ms: int | None = column(detail=True, filterable=False, shown=timestamp)
    resources_available: dict[str, float] = column(factory=dict, filterable=False, shown=resources)


@dataclass
class RuntimeEnvState(Row):
    """One environment that a job, task or actor of the session named."""

    runtime_env: dict[str, Any] = column()
    #: True if workers can have it now.
    success: bool = column()
    #: How long its preparation took; None: it needed none, or is not done.
    creation_time_ms: float | None = column(filterable=False, shown=duration)
    node_id: str = column()
    #: The number of workers in it.
    ref_cnt: int | None = column(detail=True, filterable=False)
    #: Why its preparation failed.
    error: str | None = column(detail=True)
    #: new, preparing, ready, failed.
    state: str = column("")


@dataclass
class JobState(Row):
    """One driver."""

    #: DRIVER.
    type: str = column()
    job_id: str | None = column()
    #: None: this version has no job submission yet.
    submission_id: str | None = column(None)
    #: Its id, pid and address.
    driver_info: dict[str, Any] | None = column(None, filterable=False)
    #: RUNNING or SUCCEEDED: no process reports how a driver ended.
    status: str = column("RUNNING")
    entrypoint: str = column("", filterable=False)
    message: str | None = column(None, filterable=False)
    error_type: str | None = column(None, filterable=False)
    start_time: int | None = column(detail=True, filterable=False, shown=timestamp)
    end_time: int | None = column(detail=True, filterable=False, shown=timestamp)
    #: Of its ``JobConfig``.
    metadata: dict[str, str] | None = column(detail=True, filterable=False)
    runtime_env: dict[str, Any] | None = column(detail=True, filterable=False)
    driver_agent_http_address: str | None = column(detail=True, filterable=False)
    driver_node_id: str | None = column(detail=True, filterable=False)
    driver_exit_code: int | None = column(detail=True, filterable=False)

    @classmethod
    def schema_dict(cls) -> dict[str, Any]:
        """Return the JSON type of each column with a single type."""
        kinds = {"str": "string", "int": "integer", "bool": "boolean"}
        annotations = {name: str(kind).partition(" ")[0] for name, kind in cls.__annotations__.items()}
        return {name: kinds[kind] for name, kind in annotations.items() if kind in kinds}


@dataclass
class PlacementGroupState(Row):
    """One placement group: resources that are reserved together."""

    placement_group_id: str = column()
    name: str = column()
    creator_job_id: str = column()
    #: PENDING, CREATED, REMOVED, RESCHEDULING.
    state: str = column()
    bundles: list[dict[str, Any]] | None = column(detail=True, filterable=False)
    is_detached: bool | None = column(detail=True)
    stats: dict[str, Any] | None = column(detail=True, filterable=False)
    topology_strategy: dict[str, str] | None = column(detail=True, filterable=False)
    topology_assignments: dict[str, str] | None = column(detail=True, filterable=False)


@dataclass
class ClusterEventState(Row):
    """One event of the session: a process died, memory ran short, a job began."""

    #: INFO, WARNING or ERROR.
    severity: str = column()
    #: Local time: ``2026-11-26 17:05:31``.
    time: str = column(filterable=False)
    #: ACTORS, DEADLOCK, JOBS, MEMORY, NODES, OBJECT_STORE, RUNTIME_ENV, WORKERS.
    source_type: str = column()
    message: str = column(filterable=False)
    event_id: str = column()
    custom_fields: dict[str, Any] | None = column(detail=True, filterable=False)
