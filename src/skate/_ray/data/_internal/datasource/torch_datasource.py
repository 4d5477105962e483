"""``ray.data._internal.datasource.torch_datasource``."""

from __future__ import annotations

from skate._ray._missing import missing
from skate.data._io.readers.memory import TorchDatasource

__all__ = ["TorchDatasource"]


def __getattr__(name: str) -> object:
    return missing(__name__, name)
