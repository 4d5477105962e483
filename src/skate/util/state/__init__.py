"""The state of the session: which tasks, actors, objects, workers there are, and what each does.

Everything is asked for when it is called: nothing is collected while nobody looks, apart from the last
few thousand finished calls of each process.
"""

from __future__ import annotations

from skate.util.state.api import (
    get_actor,
    get_job,
    get_node,
    get_objects,
    get_task,
    get_worker,
    list_actors,
    list_jobs,
    list_nodes,
    list_objects,
    list_runtime_envs,
    list_tasks,
    list_workers,
    summarize_actors,
    summarize_objects,
    summarize_tasks,
    why,
)
from skate.util.state.exception import RayStateApiException

__all__ = [
    "RayStateApiException",
    "get_actor",
    "get_job",
    "get_node",
    "get_objects",
    "get_task",
    "get_worker",
    "list_actors",
    "list_jobs",
    "list_nodes",
    "list_objects",
    "list_runtime_envs",
    "list_tasks",
    "list_workers",
    "summarize_actors",
    "summarize_objects",
    "summarize_tasks",
    "why",
]
