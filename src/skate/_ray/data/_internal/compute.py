"""``ray.data._internal.compute``."""

from __future__ import annotations

from skate._ray._missing import missing
from skate.data.compute import ActorPoolStrategy, ComputeStrategy, TaskPoolStrategy

__all__ = ["ActorPoolStrategy", "ComputeStrategy", "TaskPoolStrategy"]


def __getattr__(name: str) -> object:
    return missing(__name__, name)
