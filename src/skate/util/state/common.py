"""Rows of the state API, with Ray's names. Each can be read as attributes and as ``row["name"]``."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any


@dataclass
class Row:
    """What all rows can do."""

    def __getitem__(self, name: str) -> Any:
        if name not in self.columns():
            raise KeyError(name)
        return getattr(self, name)

    def get(self, name: str, default: Any = None) -> Any:
        """Return a column, or the default if there is none of that name."""
        return getattr(self, name) if name in self.columns() else default

    def asdict(self) -> dict[str, Any]:
        """Return all columns as a dict."""
        return asdict(self)

    @classmethod
    def columns(cls) -> list[str]:
        """Return the names of all columns."""
        return [one.name for one in fields(cls)]


@dataclass
class TaskState(Row):
    """One task or actor call. Times are milliseconds since 1970."""

    task_id: str
    name: str
    #: PENDING_ARGS_AVAIL, PENDING_NODE_ASSIGNMENT, SUBMITTED_TO_WORKER, RUNNING, FINISHED, FAILED.
    state: str
    #: NORMAL_TASK or ACTOR_TASK.
    type: str
    func_or_class_name: str
    job_id: str
    actor_id: str | None = None
    node_id: str | None = None
    worker_id: str | None = None
    worker_pid: int | None = None
    creation_time_ms: int | None = None
    start_time_ms: int | None = None
    end_time_ms: int | None = None
    error_type: str | None = None
    error_message: str | None = None
    #: Where it was called: file, line, function.
    call_site: str | None = None
    #: The process that made the call.
    owner_pid: int | None = None
    #: It is stopped at a breakpoint.
    is_debugger_paused: bool | None = None


@dataclass
class ActorState(Row):
    """One actor, living or remembered."""

    actor_id: str
    class_name: str
    #: PENDING_CREATION, ALIVE, RESTARTING, DEAD.
    state: str
    name: str | None
    job_id: str | None
    node_id: str | None
    pid: int | None
    ray_namespace: str | None
    death_cause: str | None
    is_detached: bool
    num_restarts: int
    required_resources: dict[str, float] = field(default_factory=dict)
    worker_id: str | None = None


@dataclass
class ObjectState(Row):
    """One process's hold of one object."""

    object_id: str
    #: Bytes; None if that is not known yet.
    object_size: int | None
    #: PENDING, FINISHED, FAILED.
    task_status: str
    #: LOCAL_REFERENCE, USED_BY_PENDING_TASK, BORROWED, ACTOR_HANDLE, PINNED_IN_MEMORY (a reader's view).
    reference_type: str
    call_site: str
    #: DRIVER or WORKER.
    type: str
    pid: int
    #: memory, disk, or inline: in its owner.
    where: str = "inline"
    #: What the value is, if it is in shared memory.
    label: str | None = None
    owned: bool = True
    #: Refs in this process.
    local_refs: int = 0
    #: What else keeps it there: calls in flight, values around it.
    pins: int = 0
    #: Processes that borrow it.
    borrowers: int = 0
    process: str = ""


@dataclass
class WorkerState(Row):
    """One process."""

    worker_id: str
    #: DRIVER or WORKER.
    worker_type: str
    pid: int
    is_alive: bool
    #: STARTING, IDLE, LEASED, ACTOR, CONNECTED.
    state: str
    node_id: str | None = None
    job_id: str | None = None
    actor_id: str | None = None
    #: What it runs.
    running: str | None = None
    #: Proportional memory, bytes.
    memory: int | None = None
    start_time_ms: int | None = None
    resources: dict[str, float] = field(default_factory=dict)


@dataclass
class NodeState(Row):
    """One machine."""

    node_id: str
    node_ip: str
    is_head_node: bool
    state: str
    node_name: str
    resources_total: dict[str, float] = field(default_factory=dict)
    resources_available: dict[str, float] = field(default_factory=dict)


@dataclass
class RuntimeEnvState(Row):
    """One environment that a job, task or actor of the session named."""

    runtime_env: dict[str, Any]
    #: Whether workers can have it now.
    success: bool
    #: How long its preparation took; None: it needed none, or is not done.
    creation_time_ms: int | None
    node_id: str
    #: Workers that live in it.
    ref_cnt: int | None = None
    #: Why its preparation failed.
    error: str | None = None
    #: new, preparing, ready, failed.
    state: str = ""


@dataclass
class JobState(Row):
    """One driver. Times are milliseconds since 1970."""

    job_id: str
    type: str
    status: str
    entrypoint: str
    start_time: int | None = None
    end_time: int | None = None
    driver_info: dict[str, Any] | None = None
