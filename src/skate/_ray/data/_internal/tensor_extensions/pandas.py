"""``ray.data._internal.tensor_extensions.pandas``."""

from __future__ import annotations

from skate._ray._missing import missing
from skate.data import extensions

_NAMES = (
    "TensorArray",
    "TensorDtype",
    "column_needs_tensor_extension",
)


def __getattr__(name: str) -> object:
    return getattr(extensions, name) if name in _NAMES else missing(__name__, name)
