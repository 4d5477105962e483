"""``ray.data.preprocessors.encoder``."""

from __future__ import annotations

from skate._ray._missing import missing
from skate.data.preprocessors import Categorizer, LabelEncoder, MultiHotEncoder, OneHotEncoder, OrdinalEncoder

__all__ = ["Categorizer", "LabelEncoder", "MultiHotEncoder", "OneHotEncoder", "OrdinalEncoder"]


def __getattr__(name: str) -> object:
    return missing(__name__, name)
