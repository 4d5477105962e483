"""``ray.data.preprocessors.normalizer``."""

from __future__ import annotations

from skate._ray._missing import missing
from skate.data.preprocessors import Normalizer

__all__ = ["Normalizer"]


def __getattr__(name: str) -> object:
    return missing(__name__, name)
