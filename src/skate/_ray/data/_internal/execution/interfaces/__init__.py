"""``ray.data._internal.execution.interfaces``: options, and what sinks and loops over blocks are given."""

from __future__ import annotations

from skate._ray._missing import missing
from skate._ray.data._internal.execution.interfaces.task_context import TaskContext
from skate.data.dataset import RefBundle
from skate.data.execution_options import ExecutionOptions, ExecutionResources, NodeIdStr

__all__ = ["ExecutionOptions", "ExecutionResources", "NodeIdStr", "RefBundle", "TaskContext"]


def __getattr__(name: str) -> object:
    return missing(__name__, name)
