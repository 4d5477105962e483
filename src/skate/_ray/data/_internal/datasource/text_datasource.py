"""``ray.data._internal.datasource.text_datasource``."""

from __future__ import annotations

from skate._ray._missing import missing
from skate.data._io.readers.text import TextDatasource

__all__ = ["TextDatasource"]


def __getattr__(name: str) -> object:
    return missing(__name__, name)
