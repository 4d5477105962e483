"""``ray.data._internal.datasource.range_datasource``."""

from __future__ import annotations

from skate._ray._missing import missing
from skate.data._io.readers.memory import RangeDatasource

__all__ = ["RangeDatasource"]


def __getattr__(name: str) -> object:
    return missing(__name__, name)
