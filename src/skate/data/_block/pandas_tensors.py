"""Columns of arrays in data frames: an extension array of pandas. Importing this module imports pandas."""

from __future__ import annotations

import builtins
import operator
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pandas.api.extensions import ExtensionArray, ExtensionDtype, register_extension_dtype

from skate.data._block import tensors
from skate.data._block.numpy_cells import as_ndarray, object_array

_NAME = re.compile(r"^TensorDtype\(shape=\((?P<shape>[^)]*)\), dtype=(?P<dtype>\w+)\)$")


@register_extension_dtype
class TensorDtype(ExtensionDtype):  # type: ignore[misc]
    """The dtype of columns of arrays.

    Args:
        shape: of the array in each row; with None for lengths that differ between rows.
        dtype: of the values.

    Example:
        >>> pd.Series(TensorArray(np.zeros((3, 2, 2)))).dtype
        TensorDtype(shape=(2, 2), dtype=float64)
    """

    base = None
    #: The value that stands for a missing array.
    na_value = None
    #: The class of an element.
    type = np.ndarray

    def __init__(self, shape: tuple[int | None, ...], dtype: Any) -> None:
        self._shape = tuple(shape)
        self._dtype = np.dtype(dtype)

    @property
    def name(self) -> str:
        """The name: ``"TensorDtype(shape=(2, 2), dtype=float64)"``."""
        return f"TensorDtype(shape={self._shape}, dtype={self._dtype})"

    @property
    def element_dtype(self) -> np.dtype[Any]:
        """The dtype of the values."""
        return self._dtype  # type: ignore[no-any-return]

    @property
    def element_shape(self) -> tuple[int | None, ...]:
        """The shape of the array in each row."""
        return self._shape

    @property
    def is_variable_shaped(self) -> bool:
        """Whether arrays differ in shape."""
        return None in self._shape

    @classmethod
    def construct_array_type(cls) -> builtins.type[TensorArray]:
        """Return ``TensorArray``."""
        return TensorArray

    @classmethod
    def construct_from_string(cls, string: str) -> TensorDtype:
        """Return the dtype of a name.

        Raises:
            TypeError: it is no such name.
        """
        found = _NAME.match(string) if isinstance(string, str) else None
        if found is None:
            raise TypeError(f"Cannot construct a 'TensorDtype' from {string!r}")
        parts = [part.strip() for part in found["shape"].split(",") if part.strip()]
        return cls(tuple(None if part == "None" else int(part) for part in parts), found["dtype"])

    def __from_arrow__(self, array: pa.Array | pa.ChunkedArray) -> TensorArray:
        return TensorArray(tensors.to_ndarray(array))

    def __repr__(self) -> str:
        return self.name

    def __eq__(self, other: object) -> bool:
        if isinstance(other, str):
            return other == self.name
        return isinstance(other, TensorDtype) and (other._shape, other._dtype) == (self._shape, self._dtype)

    def __hash__(self) -> int:
        return hash((self._shape, self._dtype))


def _applied(function: Callable[[Any, Any], Any], left: Any, right: Any) -> TensorArray:
    """Return the result of an operator; row by row where shapes differ, None where one is missing."""
    columns = [side._values if isinstance(side, TensorArray) else side for side in (left, right)]
    by_rows = [isinstance(side, np.ndarray) and side.dtype == object and side.ndim == 1 for side in columns]
    if not any(by_rows):
        return TensorArray(function(*columns))
    rows = len(columns[by_rows.index(True)])
    spread = [
        side if isinstance(source, TensorArray) or is_rows else [side] * rows
        for side, source, is_rows in zip(columns, (left, right), by_rows, strict=True)
    ]
    pairs = zip(*spread, strict=True)
    return TensorArray([None if a is None or b is None else function(a, b) for a, b in pairs])


def _operation(name: str) -> Callable[[TensorArray, Any], TensorArray]:
    """Return a method that applies an operator array by array."""
    function = getattr(operator, name)

    def method(self: TensorArray, other: Any) -> Any:
        if isinstance(other, (pd.Series, pd.Index, pd.DataFrame)):
            return NotImplemented
        return _applied(function, self, other)

    method.__name__ = f"__{name}__"
    return method


def _reflected(name: str) -> Callable[[TensorArray, Any], TensorArray]:
    """Return a method that applies an operator with the array on its right."""
    function = getattr(operator, name)

    def method(self: TensorArray, other: Any) -> TensorArray:
        return _applied(function, other, self)

    method.__name__ = f"__r{name}__"
    return method


class TensorArray(ExtensionArray):  # type: ignore[misc]
    """A column of arrays for data frames. Blocks take it as a column of tensors.

    Args:
        values: an array whose first dimension counts the rows, or arrays, one a row; None stands for a
            missing one.

    Example:
        >>> frame = pd.DataFrame({"image": TensorArray(np.zeros((3, 8, 8), np.uint8))})
        >>> frame["image"][0].shape
        (8, 8)
    """

    def __init__(self, values: Any) -> None:
        if isinstance(values, TensorArray):
            values = values._values
        elif isinstance(values, np.ndarray) and values.dtype != object:
            if values.ndim == 0:
                raise TypeError(
                    "TensorArray takes an array with a dimension for the rows, not a single value"
                )
        else:
            values = _gathered(list(values))
        self._values: Any = values

    @classmethod
    def _from_sequence(cls, scalars: Any, *, dtype: Any = None, copy: bool = False) -> TensorArray:
        made = cls(scalars)
        return made.copy() if copy else made

    @classmethod
    def _concat_same_type(cls, to_concat: Sequence[TensorArray]) -> TensorArray:
        return cls([cell for part in to_concat for cell in part._values])

    @property
    def dtype(self) -> TensorDtype:
        """The ``TensorDtype``."""
        if self._values.dtype != object:
            return TensorDtype(self._values.shape[1:], self._values.dtype)
        cells = [cell for cell in self._values if cell is not None]
        if not cells:
            return TensorDtype((None,), np.float64)
        shapes = {cell.shape for cell in cells}
        dimensions = max(map(len, shapes))
        shape: tuple[int | None, ...] = (None,) * max(1, dimensions)
        if len(shapes) == 1:
            shape = cells[0].shape
        return TensorDtype(shape, np.result_type(*cells))

    @property
    def is_variable_shaped(self) -> bool:
        """Whether arrays differ in shape."""
        return self.dtype.is_variable_shaped

    @property
    def nbytes(self) -> int:
        """Bytes of the values."""
        if self._values.dtype != object:
            return int(self._values.nbytes)
        return sum(cell.nbytes for cell in self._values if cell is not None)

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """The dtype of ``to_numpy()``."""
        return self._values.dtype  # type: ignore[no-any-return]

    @property
    def numpy_ndim(self) -> int:
        """The number of dimensions of ``to_numpy()``."""
        return int(self._values.ndim)

    @property
    def numpy_shape(self) -> tuple[int, ...]:
        """The shape of ``to_numpy()``."""
        return tuple(self._values.shape)

    @property
    def numpy_size(self) -> int:
        """The number of elements of ``to_numpy()``."""
        return int(self._values.size)

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, item: Any) -> Any:
        item = pd.api.indexers.check_array_indexer(self, item)
        if isinstance(item, (int, np.integer)):
            return self._values[item]
        return TensorArray(self._values[item])

    def __setitem__(self, key: Any, value: Any) -> None:
        key = pd.api.indexers.check_array_indexer(self, key)
        self._values[key] = value._values if isinstance(value, TensorArray) else value

    def isna(self) -> Any:
        """Return for each row whether it has no array."""
        if self._values.dtype != object:
            return np.zeros(len(self), dtype=bool)
        return np.array([cell is None for cell in self._values], dtype=bool)

    def take(self, indices: Any, allow_fill: bool = False, fill_value: Any = None) -> TensorArray:
        """Return rows by their numbers.

        Args:
            indices: row numbers.
            allow_fill: -1 stands for a missing row, not for the last.
            fill_value: the array of missing rows; None: they stay missing.

        Raises:
            IndexError: a number is out of range.
        """
        indices = np.asarray(indices, dtype=np.intp)
        if not allow_fill:
            return TensorArray(self._values.take(indices, axis=0))
        if (indices < -1).any():
            raise ValueError("row numbers below -1 cannot be taken with allow_fill=True")
        if not (indices == -1).any():
            return TensorArray(self._values.take(indices, axis=0))
        fill = None if pd.api.types.is_scalar(fill_value) and pd.isna(fill_value) else fill_value
        return TensorArray([fill if number == -1 else self._values[number] for number in indices.tolist()])

    def copy(self) -> TensorArray:
        """Return a copy that shares no memory."""
        if self._values.dtype != object:
            return TensorArray(self._values.copy())
        return TensorArray([cell if cell is None else cell.copy() for cell in self._values])

    def to_numpy(self, dtype: Any = None, copy: bool = False, na_value: Any = None) -> Any:
        """Return an array of the shape (rows, ...), or of objects if arrays differ in shape.

        Args:
            dtype: of the values; None: as they are.
            copy: share no memory.
            na_value: accepted for pandas' sake.
        """
        values = self._values if dtype is None or np.dtype(dtype).kind == "O" else self._values.astype(dtype)
        return values.copy() if copy else values

    def astype(self, dtype: Any, copy: bool = True) -> Any:
        """Return the arrays with values of another dtype, or as objects or text."""
        if isinstance(dtype, TensorDtype):
            return self._with_values_of(dtype.element_dtype)
        dtype = pd.api.types.pandas_dtype(dtype)
        if isinstance(dtype, ExtensionDtype):
            return super().astype(dtype, copy=copy)
        if dtype.kind == "O":
            return object_array(list(self._values))
        if dtype.kind in "US":
            return np.array([str(cell) for cell in self._values], dtype=dtype)
        return self._with_values_of(dtype)

    def _with_values_of(self, dtype: Any) -> TensorArray:
        if self._values.dtype != object:
            return TensorArray(self._values.astype(dtype))
        return TensorArray([None if cell is None else cell.astype(dtype) for cell in self._values])

    def all(self, axis: Any = None, out: Any = None, keepdims: bool = False) -> Any:
        """Return whether all values are true; along an axis, as numpy does."""
        return self._values.all(axis=axis, out=out, keepdims=keepdims)

    def any(self, axis: Any = None, out: Any = None, keepdims: bool = False) -> Any:
        """Return whether any value is true; along an axis, as numpy does."""
        return self._values.any(axis=axis, out=out, keepdims=keepdims)

    def _reduce(self, name: str, *, skipna: bool = True, keepdims: bool = False, **kwargs: Any) -> Any:
        """Return the sum, mean, least, ... array of all rows."""
        if name not in ("sum", "mean", "min", "max", "prod", "std", "var", "all", "any"):
            raise TypeError(f"arrays have no {name}")
        return getattr(np, name)(self._values, axis=0, keepdims=keepdims)

    def equals(self, other: object) -> bool:
        """Tell whether another column holds the same arrays in the same rows."""
        if not isinstance(other, TensorArray) or len(other) != len(self):
            return False
        pairs = zip(self._values, other._values, strict=True)
        return all(
            a is b is None or (a is not None and b is not None and np.array_equal(a, b)) for a, b in pairs
        )

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return self.to_numpy(dtype, copy=bool(copy))

    def __arrow_array__(self, type: Any = None) -> pa.Array:
        return self.to_arrow_tensor()

    def to_arrow_tensor(self) -> pa.Array:
        """Return the column of a block."""
        if self._values.dtype != object:
            if self._values.ndim == 1:
                made = tensors.from_cells([np.asarray(value) for value in self._values])
            else:
                made = tensors.from_ndarray(self._values)
        else:
            made = tensors.from_cells(list(self._values)) if len(self) else None
        if made is None:
            raise TypeError(f"arrays of {self._values.dtype} have no type in Arrow")
        return made

    def _formatter(self, boxed: bool = False) -> Callable[[Any], str]:
        return lambda cell: "None" if cell is None else np.array2string(np.asarray(cell), threshold=8)

    __add__, __radd__ = _operation("add"), _reflected("add")
    __sub__, __rsub__ = _operation("sub"), _reflected("sub")
    __mul__, __rmul__ = _operation("mul"), _reflected("mul")
    __truediv__, __rtruediv__ = _operation("truediv"), _reflected("truediv")
    __floordiv__, __rfloordiv__ = _operation("floordiv"), _reflected("floordiv")
    __mod__, __rmod__ = _operation("mod"), _reflected("mod")
    __and__, __or__ = _operation("and_"), _operation("or_")
    __eq__, __ne__ = _operation("eq"), _operation("ne")
    __lt__, __le__ = _operation("lt"), _operation("le")
    __gt__, __ge__ = _operation("gt"), _operation("ge")
    __hash__ = None  # type: ignore[assignment]


def _gathered(cells: list[Any]) -> Any:
    """Return arrays, one a row, as one array if they are of one shape, else as an array of objects."""
    arrays = [None if cell is None or cell is pd.NA else as_ndarray(cell) for cell in cells]
    present = [array for array in arrays if array is not None]
    if present and len(present) == len(arrays) and len({array.shape for array in present}) == 1:
        return np.stack(present)
    return object_array(arrays)
