"""``ray.data._internal.datasource``: the sources behind ``read_*``."""

from __future__ import annotations

from skate._ray._missing import below


def __getattr__(name: str) -> object:
    return below(__name__, name)
