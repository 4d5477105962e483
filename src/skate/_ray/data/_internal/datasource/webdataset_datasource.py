"""``ray.data._internal.datasource.webdataset_datasource``."""

from __future__ import annotations

from skate._ray._missing import missing
from skate.data._io.readers.webdataset import WebDatasetDatasource

__all__ = ["WebDatasetDatasource"]


def __getattr__(name: str) -> object:
    return missing(__name__, name)
