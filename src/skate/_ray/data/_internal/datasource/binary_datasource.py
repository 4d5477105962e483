"""``ray.data._internal.datasource.binary_datasource``."""

from __future__ import annotations

from skate._ray._missing import missing
from skate.data._io.readers.binary import BinaryDatasource

__all__ = ["BinaryDatasource"]


def __getattr__(name: str) -> object:
    return missing(__name__, name)
