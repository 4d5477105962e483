"""``ray.data.datasource.datasource``."""

from __future__ import annotations

from skate._ray._missing import missing
from skate.data.block import BlockMetadata
from skate.data.datasource import Datasource, ReadTask

__all__ = ["BlockMetadata", "Datasource", "ReadTask"]


def __getattr__(name: str) -> object:
    return missing(__name__, name)
