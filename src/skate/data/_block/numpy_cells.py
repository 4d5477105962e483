"""Small helpers over numpy that several modules of blocks share; imports numpy when called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def object_array(values: Sequence[Any]) -> Any:
    """Return a one-dimensional array of objects; numpy itself would look inside lists and arrays."""
    import numpy as np

    made = np.empty(len(values), dtype=object)
    made[:] = values if not _is_nested(values) else None
    if _is_nested(values):
        for number, value in enumerate(values):
            made[number] = value
    return made


def _is_nested(values: Sequence[Any]) -> bool:
    """Tell whether assigning the values at once would spread them over further dimensions."""
    return any(hasattr(value, "__len__") and not isinstance(value, (str, bytes)) for value in values)


def is_array_like(kind: type) -> bool:
    """Tell whether values of a type are arrays: of numpy, torch, jax, or of pandas (a Series)."""
    if kind.__module__ == "numpy":
        return kind.__name__ in ("ndarray", "memmap", "matrix")
    return (
        hasattr(kind, "__array__")
        and hasattr(kind, "shape")
        and hasattr(kind, "dtype")
        and not hasattr(kind, "columns")
        and not _is_numpy_scalar(kind)
    )


def _is_numpy_scalar(kind: type) -> bool:
    return any(base.__module__ == "numpy" and base.__name__ == "generic" for base in kind.__mro__)


def as_ndarray(value: Any) -> Any:
    """Return an array-like value as an array in the byte order of this machine; of torch: detached, on the CPU."""
    import numpy as np

    if hasattr(value, "detach") and hasattr(value, "cpu"):
        value = value.detach().cpu()
    array = np.asarray(value)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return array
