"""``ray.data.datasource.filename_provider``."""

from __future__ import annotations

from skate._ray._missing import missing
from skate.data.datasource import FilenameProvider

__all__ = ["FilenameProvider"]


def __getattr__(name: str) -> object:
    return missing(__name__, name)
