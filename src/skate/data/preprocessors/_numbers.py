"""Columns of tables as numbers and vectors."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from skate.data._block import arrow_compute as pc
from skate.data._block import tensors
from skate.data._block.kernels.arrays import column_of, plain


def numbers(table: pa.Table, name: str, owner: str) -> pa.ChunkedArray:
    """Return a column as float64.

    Args:
        table: the rows.
        name: of the column.
        owner: name of the preprocessor, for errors.

    Raises:
        MissingColumnError: there is no such column.
        TypeError: it has no numbers.
    """
    column = column_of(table, name, owner)
    type_ = column.type
    is_number = (
        pa.types.is_integer(type_)
        or pa.types.is_floating(type_)
        or pa.types.is_boolean(type_)
        or pa.types.is_decimal(type_)
        or pa.types.is_null(type_)
        or pa.types.is_dictionary(type_)
    )
    if not is_number:
        raise TypeError(f"{owner}: the column {name!r} has the type {type_}, but it takes numbers")
    values = plain(column)
    return pc.cast(values, pa.float64(), safe=False)


def scaled(column: pa.ChunkedArray, centre: float | None, scale: float | None) -> pa.ChunkedArray:
    """Return ``(column - centre) / scale``; a scale of 0 counts as 1, and without a scale all is null."""
    if centre is None or scale is None:
        return pa.chunked_array([pa.nulls(len(column), pa.float64())])
    moved = pc.subtract(column, float(centre)) if centre else column
    return pc.divide(moved, float(scale)) if scale else moved


def vectors(array: Any) -> pa.Array:
    """Return a column of the rows of a two-dimensional array."""
    import numpy as np

    made = tensors.from_ndarray(np.ascontiguousarray(array))
    if made is None:
        raise TypeError(f"there are no columns of vectors of {array.dtype}")
    return made
