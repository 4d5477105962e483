"""``ray.data._internal.savemode``."""

from __future__ import annotations

from skate._ray._missing import missing
from skate.data.datasource import SaveMode

__all__ = ["SaveMode"]


def __getattr__(name: str) -> object:
    return missing(__name__, name)
