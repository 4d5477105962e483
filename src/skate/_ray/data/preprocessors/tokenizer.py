"""``ray.data.preprocessors.tokenizer``."""

from __future__ import annotations

from skate._ray._missing import missing
from skate.data.preprocessors import Tokenizer

__all__ = ["Tokenizer"]


def __getattr__(name: str) -> object:
    return missing(__name__, name)
