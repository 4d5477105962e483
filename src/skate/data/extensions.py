"""Columns of arrays and of objects, under the names of ``ray.data.extensions``.

Blocks hold arrays of one shape as Arrow's ``fixed_shape_tensor`` and arrays of several shapes as
``skate.ragged``; the names of Ray's types make these, and ``isinstance`` with them is true of these. Those
for pandas load pandas.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from skate.data._block import tensors
from skate.data._block.columns import from_values
from skate.data._block.errors import ArrowConversionError
from skate.data._block.numpy_cells import as_ndarray, is_array_like
from skate.data._block.objects import PickledArray, PickledScalar, PickledType, pickled

if TYPE_CHECKING:
    from skate.data._block.pandas_tensors import TensorArray as TensorArray
    from skate.data._block.pandas_tensors import TensorDtype as TensorDtype

__all__ = [
    "ArrowConversionError",
    "ArrowPythonObjectArray",
    "ArrowPythonObjectScalar",
    "ArrowPythonObjectType",
    "ArrowTensorArray",
    "ArrowTensorType",
    "ArrowTensorTypeV2",
    "ArrowVariableShapedTensorArray",
    "ArrowVariableShapedTensorType",
    "TensorArray",
    "TensorDtype",
    "column_needs_tensor_extension",
    "create_arrow_fixed_shape_tensor_type",
    "get_arrow_extension_tensor_types",
]

#: Pickled values of blocks.
ArrowPythonObjectType = PickledType
ArrowPythonObjectScalar = PickledScalar


def __getattr__(name: str) -> Any:
    if name in ("TensorArray", "TensorDtype"):
        from skate.data._block import pandas_tensors

        found = getattr(pandas_tensors, name)
        globals()[name] = found
        return found
    raise AttributeError(f"module 'skate.data.extensions' has no attribute {name!r}")


class _StandIn(type):
    """The class of names that stand for a class of pyarrow's that cannot be subclassed."""

    stands_for: type

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, cls.stands_for)


class ArrowTensorType(metaclass=_StandIn):
    """The type of columns of arrays of one shape: calling it returns Arrow's ``fixed_shape_tensor``.

    Args:
        shape: of the array in each row.
        dtype: Arrow's type of the values.

    Example:
        >>> ArrowTensorType((2, 3), pa.int64()).shape
        [2, 3]
    """

    stands_for = pa.FixedShapeTensorType

    def __new__(cls, shape: Sequence[int], dtype: pa.DataType) -> Any:  # noqa: D102
        return create_arrow_fixed_shape_tensor_type(shape, dtype)


#: Ray's type with 64-bit offsets; ours has no offsets.
ArrowTensorTypeV2 = ArrowTensorType


class ArrowVariableShapedTensorType(metaclass=_StandIn):
    """The type of columns of arrays of several shapes: calling it returns the type that blocks use.

    Args:
        dtype: Arrow's type of the values.
        ndim: accepted for Ray's sake: arrays may have any number of dimensions.
    """

    stands_for = tensors.RaggedTensorType

    def __new__(cls, dtype: pa.DataType, ndim: int = 2) -> Any:  # noqa: D102
        return tensors.RaggedTensorType(dtype)


class ArrowTensorArray(metaclass=_StandIn):
    """Columns of arrays of one shape; ``from_numpy`` makes them."""

    stands_for = pa.FixedShapeTensorArray

    @classmethod
    def from_numpy(cls, arr: Any, *, column_name: str | None = None) -> pa.Array:
        """Return a column of arrays.

        Args:
            arr: an array whose first dimension counts the rows, which is not copied if its values lie in
                order; or a list of arrays, of any shapes.
            column_name: name of the column, for errors.

        Raises:
            ArrowConversionError: Arrow has no fixed-width type for the values.

        Example:
            >>> ArrowTensorArray.from_numpy(np.zeros((3, 2, 2))).type.shape
            [2, 2]
        """
        if is_array_like(type(arr)):
            array = as_ndarray(arr)
            if array.dtype.kind != "O" and array.ndim > 1:
                made = tensors.from_ndarray(array)
            else:
                made = from_values(list(array), column_name or "")
        else:
            made = tensors.from_cells(list(arr))
        if made is None or isinstance(made, pa.ChunkedArray) or isinstance(made.type, PickledType):
            raise ArrowConversionError("the values have no fixed-width type in Arrow", column_name)
        return made


class ArrowVariableShapedTensorArray(metaclass=_StandIn):
    """Columns of arrays of several shapes; ``from_numpy`` makes them."""

    stands_for = tensors.RaggedTensorArray

    @classmethod
    def from_numpy(cls, arr: Any) -> pa.Array:
        """Return a column of arrays of any shapes.

        Args:
            arr: a sequence of arrays, one a row.

        Raises:
            ArrowConversionError: Arrow has no fixed-width type for the values.
        """
        made = tensors.from_cells(list(arr))
        if made is None:
            raise ArrowConversionError("the values have no fixed-width type in Arrow")
        if tensors.is_ragged(made.type):
            return made
        ragged = tensors.RaggedTensorType(made.type.value_type)
        return tensors.cast(pa.chunked_array([made]), ragged).chunk(0)


class ArrowPythonObjectArray(metaclass=_StandIn):
    """Columns of pickled values; ``from_objects`` makes them."""

    stands_for = PickledArray

    @staticmethod
    def from_objects(objects: Sequence[Any]) -> pa.Array:
        """Return a column of values, each of which is pickled.

        Raises:
            ArrowConversionError: a value cannot be pickled.
        """
        return pickled(list(objects))


def create_arrow_fixed_shape_tensor_type(shape: Sequence[int], dtype: pa.DataType) -> Any:
    """Return the type of columns of arrays of one shape.

    Args:
        shape: of the array in each row.
        dtype: Arrow's type of the values.
    """
    return pa.fixed_shape_tensor(dtype, [int(length) for length in shape])


def get_arrow_extension_tensor_types() -> tuple[type, ...]:
    """Return the classes of the types of columns of arrays, for ``isinstance``."""
    return (pa.FixedShapeTensorType, tensors.RaggedTensorType)


def column_needs_tensor_extension(s: Any) -> bool:
    """Tell whether a column of pandas holds arrays as objects.

    Args:
        s: a Series.
    """
    return bool(s.dtype == object and len(s) and is_array_like(type(s.iloc[0])))
