"""``ray.data._internal.execution.interfaces.execution_options``."""

from __future__ import annotations

from skate._ray._missing import missing
from skate.data.execution_options import ExecutionOptions, ExecutionResources

__all__ = ["ExecutionOptions", "ExecutionResources"]


def __getattr__(name: str) -> object:
    return missing(__name__, name)
