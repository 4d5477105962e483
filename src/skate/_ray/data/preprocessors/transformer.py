"""``ray.data.preprocessors.transformer``."""

from __future__ import annotations

from skate._ray._missing import missing
from skate.data.preprocessors import PowerTransformer

__all__ = ["PowerTransformer"]


def __getattr__(name: str) -> object:
    return missing(__name__, name)
