"""``ray.data._internal.tensor_extensions.arrow``."""

from __future__ import annotations

from skate._ray._missing import missing
from skate.data import extensions

_NAMES = (
    "ArrowConversionError",
    "ArrowTensorArray",
    "ArrowTensorType",
    "ArrowTensorTypeV2",
    "ArrowVariableShapedTensorArray",
    "ArrowVariableShapedTensorType",
    "create_arrow_fixed_shape_tensor_type",
    "get_arrow_extension_tensor_types",
)


def __getattr__(name: str) -> object:
    return getattr(extensions, name) if name in _NAMES else missing(__name__, name)
