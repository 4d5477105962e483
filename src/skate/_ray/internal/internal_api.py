"""``ray.internal.internal_api``: the older name of ``ray._private.internal_api``."""

from __future__ import annotations

from skate._ray._missing import missing
from skate._ray._private.internal_api import free, global_gc, memory_summary

__all__ = ["free", "global_gc", "memory_summary"]


def __getattr__(name: str) -> object:
    return missing(__name__, name)
