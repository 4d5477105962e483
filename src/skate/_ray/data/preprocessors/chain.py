"""``ray.data.preprocessors.chain``."""

from __future__ import annotations

from skate._ray._missing import missing
from skate.data.preprocessors import Chain

__all__ = ["Chain"]


def __getattr__(name: str) -> object:
    return missing(__name__, name)
