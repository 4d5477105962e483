"""Blocks as data frames of pandas, and back; pandas is imported when a frame is asked for or came."""

from __future__ import annotations

import sys
from typing import Any

import pyarrow as pa

from skate.data._block import ndarrays
from skate.data._block.columns import from_values
from skate.data._block.numpy_cells import object_array
from skate.data._block.schemas import NO_COLUMNS
from skate.data._block.tables import LARGE_COLUMN_BYTES


def is_frame(value: Any) -> bool:
    """Tell whether a value is a data frame of pandas, without importing pandas."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(value, pandas.DataFrame)


def is_extension_array(value: Any) -> bool:
    """Tell whether a value is a Series, an Index or an array of pandas, without importing pandas."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(
        value, (pandas.Series, pandas.Index, pandas.api.extensions.ExtensionArray)
    )


def to_frame(block: pa.Table, writable: bool = False) -> Any:
    """Return a block as a data frame.

    Columns have Arrow's types (``int64[pyarrow]``), without copies; those of tensors and of pickled values
    are columns of objects, dictionaries are categories.

    Args:
        block: the rows.
        writable: arrays in the cells of tensor columns can be written to; the frame itself always can.
    """
    import pandas as pd

    columns: dict[str, Any] = {}
    for field, column in zip(block.schema, block.columns, strict=True):
        if field.name == NO_COLUMNS:
            continue
        if isinstance(field.type, pa.BaseExtensionType):
            cells = ndarrays.to_ndarray(column, writable)
            if cells.dtype != object or cells.ndim > 1:
                cells = object_array(list(cells))
            columns[field.name] = cells
        elif pa.types.is_dictionary(field.type):
            columns[field.name] = column.to_pandas().array  # categories, which methods of pandas know
        else:
            columns[field.name] = pd.arrays.ArrowExtensionArray(column)
    # Arrays, not Series, which pandas would align: a third of the time.
    return pd.DataFrame(columns, index=pd.RangeIndex(block.num_rows), copy=False)


def from_frame(frame: Any) -> pa.Table:
    """Return a block of a data frame; its index is left out, NaN, NaT and NA become null.

    Names of columns that are no strings become strings.
    """
    columns = {str(name): from_series(series, str(name)) for name, series in frame.items()}
    if not columns and len(frame):
        return pa.table({NO_COLUMNS: pa.nulls(len(frame))})
    return pa.table(columns)


def from_series(values: Any, column: str = "") -> pa.Array | pa.ChunkedArray:
    """Return a column of a Series, an Index, or an extension array of pandas."""
    import pandas as pd

    array = values if isinstance(values, pd.api.extensions.ExtensionArray) else values.array
    if isinstance(array.dtype, pd.ArrowDtype):
        return array.__arrow_array__()
    if hasattr(array, "to_arrow_tensor"):  # ``TensorArray`` of ``extensions``
        return array.to_arrow_tensor()
    if values.dtype == object:
        missing = pd.isna(values)
        return from_values(
            [None if gone else value for value, gone in zip(values, missing, strict=True)], column
        )
    made = pa.array(values if hasattr(values, "array") else pd.Series(values), from_pandas=True)
    return _familiar(made)


def _familiar(made: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Return text of pandas, which has 64-bit offsets, as text has elsewhere, if it is small."""
    type_ = made.type
    if made.nbytes >= LARGE_COLUMN_BYTES:
        return made
    if pa.types.is_large_string(type_):
        return made.cast(pa.string())
    if pa.types.is_dictionary(type_) and pa.types.is_large_string(type_.value_type):
        return made.cast(pa.dictionary(type_.index_type, pa.string(), type_.ordered))
    return made
