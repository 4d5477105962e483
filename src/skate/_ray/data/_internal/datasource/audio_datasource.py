"""``ray.data._internal.datasource.audio_datasource``."""

from __future__ import annotations

from skate._ray._missing import missing
from skate.data._io.readers.audio import AudioDatasource

__all__ = ["AudioDatasource"]


def __getattr__(name: str) -> object:
    return missing(__name__, name)
