"""``ray.data._internal.datasource.json_datasource``."""

from __future__ import annotations

from skate._ray._missing import missing
from skate.data._io.readers.json import JSONDatasource

__all__ = ["ArrowJSONDatasource", "JSONDatasource"]


class ArrowJSONDatasource(JSONDatasource):
    """Rows of JSON files."""


def __getattr__(name: str) -> object:
    return missing(__name__, name)
