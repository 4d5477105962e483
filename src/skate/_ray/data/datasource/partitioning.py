"""``ray.data.datasource.partitioning``."""

from __future__ import annotations

from skate._ray._missing import missing
from skate.data.datasource import Partitioning, PartitionStyle, PathPartitionFilter, PathPartitionParser

__all__ = ["PartitionStyle", "Partitioning", "PathPartitionFilter", "PathPartitionParser"]


def __getattr__(name: str) -> object:
    return missing(__name__, name)
