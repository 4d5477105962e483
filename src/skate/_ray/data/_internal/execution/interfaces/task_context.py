"""``ray.data._internal.execution.interfaces.task_context``: what ``Datasink.write`` is given."""

from __future__ import annotations

from skate._ray._missing import missing
from skate.data.datasink import WriteContext

__all__ = ["TaskContext"]

TaskContext = WriteContext


def __getattr__(name: str) -> object:
    return missing(__name__, name)
