"""``ray.data.extensions.object_extension``."""

from __future__ import annotations

from skate._ray._missing import missing
from skate.data import extensions

_NAMES = (
    "ArrowPythonObjectArray",
    "ArrowPythonObjectScalar",
    "ArrowPythonObjectType",
)


def __getattr__(name: str) -> object:
    return getattr(extensions, name) if name in _NAMES else missing(__name__, name)
