"""Columns as arrays of numpy, and back."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from pyarrow import types

from skate.data._block import tensors
from skate.data._block.columns import from_values, to_values
from skate.data._block.numpy_cells import as_ndarray, is_array_like, object_array

__all__ = ["from_ndarray", "is_array_like", "to_ndarray"]


def to_ndarray(column: pa.ChunkedArray, writable: bool = False) -> Any:
    """Return a column as an array with one element a row.

    Numbers, times and tensors without nulls in one chunk are not copied. Integers with nulls become float64
    with NaN; booleans with nulls, text, bytes, lists (as arrays), structs and pickled values are arrays of
    objects.

    Args:
        column: the values.
        writable: copy what could not be written to.
    """
    made = _to_ndarray(column)
    return _writable(made) if writable else made


def _to_ndarray(column: pa.ChunkedArray) -> Any:
    type_ = column.type
    if tensors.is_tensor(type_):
        return tensors.to_ndarray(column)
    if (
        types.is_null(type_)
        or isinstance(type_, pa.BaseExtensionType)
        or types.is_struct(type_)
        or types.is_map(type_)
    ):
        return object_array(to_values(column))
    if types.is_dictionary(type_):
        column = column.cast(type_.value_type)
    if column.num_chunks == 1:
        return column.chunk(0).to_numpy(zero_copy_only=False)
    return column.to_numpy()


def _writable(array: Any) -> Any:
    """Return an array, and arrays inside it, that can be written to."""
    import numpy as np

    if array.dtype != object:
        return array if array.flags.writeable else array.copy()
    if not array.flags.writeable:
        array = array.copy()
    for number, cell in enumerate(array):
        if isinstance(cell, np.ndarray) and not cell.flags.writeable:
            array[number] = cell.copy()
    return array


def from_ndarray(values: Any, column: str = "") -> pa.Array | pa.ChunkedArray | None:
    """Return a column of an array (of numpy, torch, ...) with one element a row; None if it has no dimension.

    Numbers, times and tensors that lie in order are not copied. NaN stays NaN, NaT becomes null.
    """
    array = as_ndarray(values)
    if array.ndim == 0:
        return None
    if array.dtype.kind in "OUSVc":
        if array.ndim == 1 and array.dtype.kind in "OUS":
            return from_values(array.tolist(), column)
        return from_values(list(array), column)
    if array.ndim > 1:
        return tensors.from_ndarray(array)
    return pa.array(array)
