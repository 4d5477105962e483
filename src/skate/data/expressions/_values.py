"""Values of expressions while they are evaluated: columns, or one scalar for all rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from skate.data._block.kernels.arrays import plain

Value = Any
"""pa.Array, pa.ChunkedArray, or pa.Scalar, which stands for as many equal values as there are rows."""

Column = Any
"""pa.Array or pa.ChunkedArray."""

_PYTHON_TYPES = {
    int: pa.int64(),
    float: pa.float64(),
    str: pa.string(),
    bool: pa.bool_(),
    bytes: pa.binary(),
}


@dataclass(frozen=True, slots=True)
class RowPlace:
    """Where the rows of a block are, for expressions that number rows or draw for them.

    Attributes:
        task_id: name of the task that holds the rows, the same in every run of a plan.
        first_row: the block's first row, counted within the task.
    """

    task_id: str = "0.0"
    first_row: int = 0


def arrow_type(target: Any) -> pa.DataType:
    """Return the type that a user named: a pyarrow type, a DataType, a numpy dtype, a Python type, or a name.

    Raises:
        TypeError: it names no type.

    Example:
        >>> arrow_type(int), arrow_type("float32")
        (DataType(int64), DataType(float))
    """
    if isinstance(target, pa.DataType):
        return target
    convert = getattr(target, "to_arrow_dtype", None)
    if convert is not None:
        return convert()
    try:
        if isinstance(target, type) and target in _PYTHON_TYPES:
            return _PYTHON_TYPES[target]
        if isinstance(target, str):
            return pa.type_for_alias(target)
        return pa.from_numpy_dtype(target)
    except (ValueError, TypeError, pa.ArrowException) as error:
        raise TypeError(
            f"{target!r} names no type; give a pyarrow type, a DataType, a Python type such as int, or a "
            "name such as 'int64'"
        ) from error


def is_scalar(value: Value) -> bool:
    """Say whether a value is one scalar for all rows."""
    return isinstance(value, pa.Scalar)


def typed(value: Value, type_: pa.DataType) -> Value:
    """Give a value without any type (all null) a type; leave others as they are."""
    if not pa.types.is_null(value.type):
        return value
    return pa.scalar(None, type_) if is_scalar(value) else value.cast(type_)


def decoded(value: Value) -> Value:
    """Return a value without dictionaries, views and extension types."""
    if is_scalar(value):
        return value.cast(value.type.value_type) if pa.types.is_dictionary(value.type) else value
    return plain(value)


def as_column(value: Value, num_rows: int) -> Column:
    """Return a column; a scalar is repeated."""
    if not is_scalar(value):
        return value
    if pa.types.is_null(value.type):
        return pa.nulls(num_rows)
    try:
        return pa.repeat(value, num_rows)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        return pa.array([value.as_py()] * num_rows, value.type)
