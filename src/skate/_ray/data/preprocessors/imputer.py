"""``ray.data.preprocessors.imputer``."""

from __future__ import annotations

from skate._ray._missing import missing
from skate.data.preprocessors import SimpleImputer

__all__ = ["SimpleImputer"]


def __getattr__(name: str) -> object:
    return missing(__name__, name)
