"""``ray.data.preprocessors.torch``."""

from __future__ import annotations

from skate._ray._missing import missing
from skate.data.preprocessors import TorchVisionPreprocessor

__all__ = ["TorchVisionPreprocessor"]


def __getattr__(name: str) -> object:
    return missing(__name__, name)
