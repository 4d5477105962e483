"""Small helpers over numpy that several modules of blocks share; imports numpy when called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def object_array(values: Sequence[Any]) -> Any:
    """Return a one-dimensional array of objects; numpy itself would look inside lists and arrays."""
    import numpy as np

    made = np.empty(len(values), dtype=object)
    for number, value in enumerate(values):
        made[number] = value
    return made


def known_times(array: Any) -> Any:
    """Return an array of numpy's times in a unit that Arrow has: hours and the like become seconds."""
    import numpy as np

    if array.dtype.kind not in "mM" or np.datetime_data(array.dtype)[0] in ("s", "ms", "us", "ns"):
        return array
    if array.dtype == np.dtype("datetime64[D]"):
        return array
    return array.astype(f"{array.dtype.kind}8[s]")


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
    """Return an array-like value as an array in the byte order of this machine.

    Those of torch are detached from their graph and copied to the CPU.
    """
    import numpy as np

    if hasattr(value, "detach") and hasattr(value, "cpu"):
        value = value.detach().cpu()
    array = np.asarray(value)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return known_times(array)
