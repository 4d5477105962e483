"""``ray.data._internal.datasource.sql_datasource``."""

from __future__ import annotations

from skate._ray._missing import missing
from skate.data._io.readers.sql import SQLDatasource

__all__ = ["SQLDatasource"]


def __getattr__(name: str) -> object:
    return missing(__name__, name)
