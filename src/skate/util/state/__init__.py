"""Reports the state of the session: its tasks, actors, objects and workers, and what each does.

Each function asks the processes when it is called. Without a call nothing is collected, except the last few
thousand finished calls of each process.
"""

from __future__ import annotations

from skate.util.state.api import (
    get_actor,
    get_job,
    get_node,
    get_objects,
    get_placement_group,
    get_task,
    get_worker,
    list_actors,
    list_cluster_events,
    list_jobs,
    list_nodes,
    list_objects,
    list_placement_groups,
    list_runtime_envs,
    list_tasks,
    list_workers,
    summarize_actors,
    summarize_objects,
    summarize_tasks,
    why,
)
from skate.util.state.client import StateApiClient
from skate.util.state.exception import RayStateApiException
from skate.util.state.logs import get_log, list_logs

__all__ = [
    "RayStateApiException",
    "StateApiClient",
    "get_actor",
    "get_job",
    "get_log",
    "get_node",
    "get_objects",
    "get_placement_group",
    "get_task",
    "get_worker",
    "list_actors",
    "list_cluster_events",
    "list_jobs",
    "list_logs",
    "list_nodes",
    "list_objects",
    "list_placement_groups",
    "list_runtime_envs",
    "list_tasks",
    "list_workers",
    "summarize_actors",
    "summarize_objects",
    "summarize_tasks",
    "why",
]
