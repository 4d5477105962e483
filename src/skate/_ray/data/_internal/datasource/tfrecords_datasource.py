"""``ray.data._internal.datasource.tfrecords_datasource``."""

from __future__ import annotations

from skate._ray._missing import missing
from skate.data._io.readers.tfrecords import TFRecordDatasource

__all__ = ["TFRecordDatasource"]


def __getattr__(name: str) -> object:
    return missing(__name__, name)
