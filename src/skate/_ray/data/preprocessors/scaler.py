"""``ray.data.preprocessors.scaler``."""

from __future__ import annotations

from skate._ray._missing import missing
from skate.data.preprocessors import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler

__all__ = ["MaxAbsScaler", "MinMaxScaler", "RobustScaler", "StandardScaler"]


def __getattr__(name: str) -> object:
    return missing(__name__, name)
