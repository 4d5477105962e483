"""``ray.data._internal.datasource.csv_datasource``."""

from __future__ import annotations

from skate._ray._missing import missing
from skate.data._io.readers.csv import CSVDatasource

__all__ = ["CSVDatasource"]


def __getattr__(name: str) -> object:
    return missing(__name__, name)
