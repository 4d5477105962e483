"""``ray.data._internal.datasource.video_datasource``."""

from __future__ import annotations

from skate._ray._missing import missing
from skate.data._io.readers.videos import VideoDatasource

__all__ = ["VideoDatasource"]


def __getattr__(name: str) -> object:
    return missing(__name__, name)
