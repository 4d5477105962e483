"""``ray.data.preprocessors.discretizer``."""

from __future__ import annotations

from skate._ray._missing import missing
from skate.data.preprocessors import CustomKBinsDiscretizer, UniformKBinsDiscretizer

__all__ = ["CustomKBinsDiscretizer", "UniformKBinsDiscretizer"]


def __getattr__(name: str) -> object:
    return missing(__name__, name)
