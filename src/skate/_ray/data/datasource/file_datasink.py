"""``ray.data.datasource.file_datasink``."""

from __future__ import annotations

from skate._ray._missing import missing
from skate.data.datasource import BlockBasedFileDatasink, RowBasedFileDatasink

__all__ = ["BlockBasedFileDatasink", "RowBasedFileDatasink"]


def __getattr__(name: str) -> object:
    return missing(__name__, name)
