"""``ray.data.preprocessors.concatenator``."""

from __future__ import annotations

from skate._ray._missing import missing
from skate.data.preprocessors import Concatenator

__all__ = ["Concatenator"]


def __getattr__(name: str) -> object:
    return missing(__name__, name)
