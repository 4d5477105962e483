"""``ray.data._internal.datasource.image_datasource``."""

from __future__ import annotations

from skate._ray._missing import missing
from skate.data._io.readers.images import ImageDatasource

__all__ = ["ImageDatasource"]


def __getattr__(name: str) -> object:
    return missing(__name__, name)
