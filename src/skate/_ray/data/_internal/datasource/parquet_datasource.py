"""``ray.data._internal.datasource.parquet_datasource``."""

from __future__ import annotations

from skate._ray._missing import missing
from skate.data._io.readers.parquet import ParquetDatasource

__all__ = ["ParquetDatasource"]


def __getattr__(name: str) -> object:
    return missing(__name__, name)
