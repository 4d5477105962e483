"""``ray.data.preprocessors.vectorizer``."""

from __future__ import annotations

from skate._ray._missing import missing
from skate.data.preprocessors import CountVectorizer, HashingVectorizer

__all__ = ["CountVectorizer", "HashingVectorizer"]


def __getattr__(name: str) -> object:
    return missing(__name__, name)
