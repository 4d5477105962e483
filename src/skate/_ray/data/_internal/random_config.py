"""``ray.data._internal.random_config``."""

from __future__ import annotations

from skate._ray._missing import missing
from skate.data.seeds import RandomSeedConfig

__all__ = ["RandomSeedConfig"]


def __getattr__(name: str) -> object:
    return missing(__name__, name)
