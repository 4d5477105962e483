"""``ray.data._internal.datasource.numpy_datasource``."""

from __future__ import annotations

from skate._ray._missing import missing
from skate.data._io.readers.numpy import NumpyDatasource

__all__ = ["NumpyDatasource"]


def __getattr__(name: str) -> object:
    return missing(__name__, name)
