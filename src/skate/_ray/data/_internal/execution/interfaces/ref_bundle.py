"""``ray.data._internal.execution.interfaces.ref_bundle``."""

from __future__ import annotations

from skate._ray._missing import missing
from skate.data.dataset import RefBundle

__all__ = ["RefBundle"]


def __getattr__(name: str) -> object:
    return missing(__name__, name)
