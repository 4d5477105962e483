"""Provides ``StateApiClient``, the state API as an object."""

from __future__ import annotations

from operator import methodcaller
from typing import Any

from skate import api
from skate._base.version import VERSION
from skate._launch.observe import find
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
from skate.util.state.options import (
    GetApiOptions,
    ListApiOptions,
    StateResource,
    SummaryApiOptions,
    SummaryResource,
    wanted_id,
)
from skate.util.state.source import connected
from skate.util.state.summaries import ActorSummaries, ObjectSummaries, StateSummary, TaskSummaries

_KINDS: dict[StateResource, tuple[type[Row], str, Any]] = {
    StateResource.ACTORS: (ActorState, "actor_id", methodcaller("actors")),
    StateResource.CLUSTER_EVENTS: (ClusterEventState, "event_id", methodcaller("cluster_events")),
    StateResource.JOBS: (JobState, "job_id", methodcaller("jobs")),
    StateResource.NODES: (NodeState, "node_id", methodcaller("nodes")),
    StateResource.OBJECTS: (ObjectState, "object_id", methodcaller("objects")),
    StateResource.PLACEMENT_GROUPS: (
        PlacementGroupState,
        "placement_group_id",
        methodcaller("placement_groups"),
    ),
    StateResource.RUNTIME_ENVS: (RuntimeEnvState, "", methodcaller("runtime_envs")),
    StateResource.TASKS: (TaskState, "task_id", methodcaller("tasks")),
    StateResource.WORKERS: (WorkerState, "worker_id", methodcaller("workers")),
}


class StateApiClient:
    """Asks one session. ``list_tasks`` and the like do the same, a function each.

    Args:
        address: a session's folder; None: this process's session, else the one that runs here.
        cookies, headers: accepted as in Ray; nothing here goes over HTTP.

    Example:
        >>> client = StateApiClient()
        >>> client.list(StateResource.TASKS, ListApiOptions(limit=10), raise_on_missing_output=False)
    """

    def __init__(
        self,
        address: str | None = None,
        cookies: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        self._address = address

    def get_address(self) -> str:
        """Return the session's folder.

        Raises:
            ServerUnavailable: there is no session.
        """
        return str(self._folder())

    @translated
    def _folder(self) -> str:
        if self._address in (None, "auto") and api.is_initialized():
            return str(api.session_context()["gcs_address"]).removesuffix("/control.sock")
        return find(self._address)

    def get_version(self) -> str:
        """Return skate's version."""
        return VERSION

    @translated
    def list(
        self,
        resource: StateResource,
        options: ListApiOptions,
        raise_on_missing_output: bool,
        _explain: bool = False,
    ) -> list[Any]:
        """Return rows of one kind.

        Raises:
            RayStateApiException: there is no session, or a filter is wrong.
        """
        if options.has_conflicting_filters():
            return []
        kind, _, read = _KINDS[resource]
        with connected(self._address) as state:
            wanted = wanted_id(options.filters, "object_id")
            rows = state.objects(wanted) if resource is StateResource.OBJECTS else read(state)
            return merge.select(kind, rows, options.filters, options.limit)

    @translated
    def get(
        self, resource: StateResource, id: str, options: GetApiOptions | None, _explain: bool = False
    ) -> Any:
        """Return the row of that id, or None; for an object, the rows of all its holders.

        Raises:
            RayStateApiException: there is no session, or things of this kind have no ids.
        """
        kind, name, read = _KINDS[resource]
        if not name:
            raise ValueError(f"{resource.value} have no ids: list them, with filters")
        with connected(self._address) as state:
            rows = state.objects(id) if resource is StateResource.OBJECTS else read(state)
            found = merge.select(kind, rows, [(name, "=", id)], 10_000)
        if resource is StateResource.OBJECTS:
            return found
        return found[0] if found else None

    @translated
    def summary(
        self,
        resource: SummaryResource,
        options: SummaryApiOptions | None,
        raise_on_missing_output: bool,
        _explain: bool = False,
    ) -> dict[str, Any]:
        """Return counts: see ``summarize_tasks`` and the others.

        Raises:
            RayStateApiException: there is no session, or a filter is wrong.
        """
        options = options or SummaryApiOptions()
        kind, _, read = _KINDS[StateResource(resource.value)]
        with connected(self._address) as state:
            counted = options.summary_by in (None, "func_name") and merge.can_be_counted(options.filters)
            if resource is SummaryResource.TASKS and counted:
                return merge.as_summary(StateSummary({"cluster": state.task_summaries(options.filters)}))
            rows = merge.select(kind, read(state), options.filters, 10**9)
            if resource is SummaryResource.ACTORS:
                found: Any = ActorSummaries.to_summary(actors=rows)
            elif resource is SummaryResource.OBJECTS:
                found = ObjectSummaries.to_summary(objects=rows)
            elif options.summary_by in (None, "func_name"):
                found = TaskSummaries.to_summary_by_func_name(tasks=rows)
            elif options.summary_by == "lineage":
                found = TaskSummaries.to_summary_by_lineage(tasks=rows, actors=state.actors())
            else:
                raise ValueError(f"summary_by is 'func_name' or 'lineage', got {options.summary_by!r}")
        return merge.as_summary(StateSummary({"cluster": found}))
