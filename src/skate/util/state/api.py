"""Provides ``list_...``, ``get_...`` and ``summarize_...``: the state of the session as lists of rows."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from operator import methodcaller
from typing import Any, TypeVar

from skate.util.state import merge
from skate.util.state.columns import Row
from skate.util.state.common import (
    ActorState,
    ClusterEventState,
    JobState,
    NodeState,
    ObjectState,
    PlacementGroupState,
    RuntimeEnvState,
    TaskState,
    WorkerState,
)
from skate.util.state.exception import translated
from skate.util.state.options import DEFAULT_LIMIT, wanted_id
from skate.util.state.source import State, connected
from skate.util.state.summaries import ActorSummaries, ObjectSummaries, StateSummary, TaskSummaries

R = TypeVar("R", bound=Row)
Filters = Sequence[tuple[str, str, Any]]


def _rows(
    kind: type[R],
    address: str | None,
    filters: Filters | None,
    limit: int,
    read: Callable[[State], Sequence[R]],
    explain: bool = False,
) -> list[R]:
    with connected(address) as state:
        rows = merge.select(kind, read(state), filters, limit)
        if explain and state.dropped:
            warnings.warn(merge.what_is_missing(kind, state.dropped), UserWarning, stacklevel=4)
        return rows


@translated
def list_tasks(
    address: str | None = None,
    filters: Filters | None = None,
    limit: int = DEFAULT_LIMIT,
    timeout: int = 30,
    detail: bool = False,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> list[TaskState]:
    """Return unfinished calls of tasks and actors, and the last finished ones of each process.

    A process remembers 5,000 calls that succeeded and 5,000 that failed. ``summarize_tasks`` counts all.

    Args:
        address: a session's folder; None: this process's session, else the one that runs here.
        filters: ``[("state", "=", "RUNNING")]``; predicates are "=" and "!=".
        limit: the most rows.
        timeout, detail, raise_on_missing_output: accepted as in Ray; rows have all columns, and
            processes that do not answer within a second are left out.
        _explain: warn if there were more calls than are remembered.

    Raises:
        RayStateApiException: there is no session, or a filter is wrong.

    Example:
        >>> [task.name for task in list_tasks(filters=[("state", "=", "RUNNING")])]
        ['train']
    """
    return _rows(TaskState, address, filters, limit, methodcaller("tasks"), _explain)


@translated
def why(ref: Any = None, address: str | None = None) -> str:
    """Explain why a value is not ready yet: for what its task waits, for what that waits, and so on.

    For arguments it names the tasks that make them; for resources, their holders; for a queue, the calls
    ahead; for a running call, its process, its line, and for what it waits itself.

    Args:
        ref: an ObjectRef, a generator of refs, a CompiledDAGRef, or the id of an object or a task in hex;
            None: what the drivers of the session wait for.
        address: a session's folder; None: this process's session, else the one that runs here.

    Returns:
        Lines of text. The explanation may be a suspicion; only a certain deadlock raises (DeadlockError).

    Raises:
        RayStateApiException: there is no session.
        TypeError: ``ref`` is something else.

    Example:
        >>> print(why(ref))
        train was called 12.0 s ago at app.py:30 in main; it waits for its arguments:
          load was called 12.0 s ago at app.py:29 in main; it runs in process 4711
            ...
    """
    completed = getattr(ref, "completed", None)
    if completed is not None:
        ref = completed()
    ref = getattr(ref, "state_id", ref)
    name = "" if ref is None else ref if isinstance(ref, str) else getattr(ref, "hex", lambda: None)()
    if not isinstance(name, str):
        raise TypeError(f"why() takes an ObjectRef or an id in hex, got {type(ref).__name__} ({ref!r:.80})")
    with connected(address) as state:
        return "\n".join(state.why(name))


@translated
def list_actors(
    address: str | None = None,
    filters: Filters | None = None,
    limit: int = DEFAULT_LIMIT,
    timeout: int = 30,
    detail: bool = False,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> list[ActorState]:
    """Return actors, living and dead. See ``list_tasks`` for the arguments."""
    return _rows(ActorState, address, filters, limit, methodcaller("actors"))


@translated
def list_objects(
    address: str | None = None,
    filters: Filters | None = None,
    limit: int = DEFAULT_LIMIT,
    timeout: int = 30,
    detail: bool = False,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> list[ObjectState]:
    """Return the holders of each object, a row for each process. See ``list_tasks`` for the arguments."""
    object_id = wanted_id(filters, "object_id")
    return _rows(ObjectState, address, filters, limit, lambda state: state.objects(object_id), _explain)


@translated
def list_workers(
    address: str | None = None,
    filters: Filters | None = None,
    limit: int = DEFAULT_LIMIT,
    timeout: int = 30,
    detail: bool = False,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> list[WorkerState]:
    """Return drivers and workers. See ``list_tasks`` for the arguments."""
    return _rows(WorkerState, address, filters, limit, methodcaller("workers"))


@translated
def list_nodes(
    address: str | None = None,
    filters: Filters | None = None,
    limit: int = DEFAULT_LIMIT,
    timeout: int = 30,
    detail: bool = False,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> list[NodeState]:
    """Return machines. See ``list_tasks`` for the arguments."""
    return _rows(NodeState, address, filters, limit, methodcaller("nodes"))


@translated
def list_jobs(
    address: str | None = None,
    filters: Filters | None = None,
    limit: int = DEFAULT_LIMIT,
    timeout: int = 30,
    detail: bool = False,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> list[JobState]:
    """Return drivers, also ended ones. See ``list_tasks`` for the arguments."""
    return _rows(JobState, address, filters, limit, methodcaller("jobs"))


@translated
def list_runtime_envs(
    address: str | None = None,
    filters: Filters | None = None,
    limit: int = DEFAULT_LIMIT,
    timeout: int = 30,
    detail: bool = False,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> list[RuntimeEnvState]:
    """Return the environments named in ``runtime_env``. See ``list_tasks`` for the arguments."""
    return _rows(RuntimeEnvState, address, filters, limit, methodcaller("runtime_envs"))


@translated
def list_placement_groups(
    address: str | None = None,
    filters: Filters | None = None,
    limit: int = DEFAULT_LIMIT,
    timeout: int = 30,
    detail: bool = False,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> list[PlacementGroupState]:
    """Return placement groups, also those that were removed lately. See ``list_tasks`` for the arguments."""
    return _rows(PlacementGroupState, address, filters, limit, methodcaller("placement_groups"))


@translated
def list_cluster_events(
    address: str | None = None,
    filters: Filters | None = None,
    limit: int = DEFAULT_LIMIT,
    timeout: int = 30,
    detail: bool = False,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> list[ClusterEventState]:
    """Return recent events: processes died, actors restarted, memory ran short, jobs began and ended.

    The last thousand events of the node, and of the control store. See ``list_tasks`` for the arguments.
    """
    return _rows(ClusterEventState, address, filters, limit, methodcaller("cluster_events"))


def _one(rows: Sequence[R]) -> R | None:
    return rows[0] if rows else None


def get_task(
    id: Any, address: str | None = None, timeout: int = 30, _explain: bool = False
) -> TaskState | None:
    """Return the task of that hex id (or of that ref), or None."""
    task_id = id if isinstance(id, str) else id.task_id().hex()
    return _one(list_tasks(address, [("task_id", "=", task_id)], 1))


def get_actor(
    id: str, address: str | None = None, timeout: int = 30, _explain: bool = False
) -> ActorState | None:
    """Return the actor of that hex id, or None."""
    return _one(list_actors(address, [("actor_id", "=", id)], 1))


def get_worker(
    id: str, address: str | None = None, timeout: int = 30, _explain: bool = False
) -> WorkerState | None:
    """Return the process of that hex id, or None."""
    return _one(list_workers(address, [("worker_id", "=", id)], 1))


def get_node(
    id: str, address: str | None = None, timeout: int = 30, _explain: bool = False
) -> NodeState | None:
    """Return the machine of that hex id, or None."""
    return _one(list_nodes(address, [("node_id", "=", id)], 1))


def get_job(
    id: str, address: str | None = None, timeout: int = 30, _explain: bool = False
) -> JobState | None:
    """Return the driver of that hex job id, or None."""
    return _one(list_jobs(address, [("job_id", "=", id)], 1))


def get_placement_group(
    id: str, address: str | None = None, timeout: int = 30, _explain: bool = False
) -> PlacementGroupState | None:
    """Return None: this version has no placement groups yet."""
    return _one(list_placement_groups(address, [("placement_group_id", "=", id)], 1))


def get_objects(
    id: str, address: str | None = None, timeout: int = 30, _explain: bool = False
) -> list[ObjectState]:
    """Return the holders of the object of that hex id."""
    return list_objects(address, [("object_id", "=", id)], 10_000)


#: More than any process remembers.
_ALL = 1_000_000


def _summary(of: TaskSummaries | ActorSummaries | ObjectSummaries) -> dict[str, Any]:
    return merge.as_summary(StateSummary({"cluster": of}))


@translated
def summarize_tasks(
    address: str | None = None,
    timeout: int = 30,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> dict[str, Any]:
    """Return the number of calls of each function or method in each state.

    The numbers are exact, also of calls that ``list_tasks`` does not remember, and of those that processes
    made which have ended (of one that was killed: up to its last second).

    Example:
        >>> summarize_tasks()["cluster"]["summary"]["train"]["state_counts"]
        {'FINISHED': 3}
    """
    with connected(address) as state:
        return _summary(state.task_summaries())


def summarize_actors(
    address: str | None = None,
    timeout: int = 30,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> dict[str, Any]:
    """Return the number of actors of each class in each state."""
    return _summary(ActorSummaries.to_summary(actors=list_actors(address, limit=_ALL)))


def summarize_objects(
    address: str | None = None,
    timeout: int = 30,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> dict[str, Any]:
    """Return the objects that each line of code made and that are still held."""
    return _summary(ObjectSummaries.to_summary(objects=list_objects(address, limit=_ALL)))
