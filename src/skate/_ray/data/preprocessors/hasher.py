"""``ray.data.preprocessors.hasher``."""

from __future__ import annotations

from skate._ray._missing import missing
from skate.data.preprocessors import FeatureHasher

__all__ = ["FeatureHasher"]


def __getattr__(name: str) -> object:
    return missing(__name__, name)
