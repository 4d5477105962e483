"""``ray.data.datasource.datasink``."""

from __future__ import annotations

from skate._ray._missing import missing
from skate.data.datasource import Datasink, DummyOutputDatasink, WriteResult

__all__ = ["Datasink", "DummyOutputDatasink", "WriteResult"]


def __getattr__(name: str) -> object:
    return missing(__name__, name)
