"""``ray.internal``: the older name of ``ray._private.internal_api``."""

from __future__ import annotations

from skate._ray._missing import missing
from skate._ray._private.internal_api import free, memory_summary

__all__ = ["free", "memory_summary"]


def __getattr__(name: str) -> object:
    return missing(__name__, name)
