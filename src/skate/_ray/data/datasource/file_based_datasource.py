"""``ray.data.datasource.file_based_datasource``."""

from __future__ import annotations

from skate._ray._missing import missing
from skate.data.datasource import FileBasedDatasource, FileShuffleConfig

__all__ = ["FileBasedDatasource", "FileShuffleConfig"]


def __getattr__(name: str) -> object:
    return missing(__name__, name)
