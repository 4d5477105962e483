"""Types of columns, one class for those of Arrow, numpy and Python, as ``ray.data.datatype`` has it."""

from __future__ import annotations

import builtins
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa
from pyarrow import types

from skate.data._block import tensors
from skate.data._block.columns import from_values
from skate.data._block.objects import PickledType, is_pickled

if TYPE_CHECKING:
    import numpy as np

__all__ = ["DataType", "TypeCategory"]


class TypeCategory(str, Enum):
    """Families of types, for ``DataType.is_of``."""

    LIST = "list"
    LARGE_LIST = "large_list"
    STRUCT = "struct"
    MAP = "map"
    TENSOR = "tensor"
    TEMPORAL = "temporal"


_PYTHON_TO_ARROW: dict[type, pa.DataType] = {
    bool: pa.bool_(),
    int: pa.int64(),
    float: pa.float64(),
    str: pa.string(),
    bytes: pa.binary(),
    type(None): pa.null(),
}

_TEMPORAL = {
    "timestamp": lambda unit, tz: pa.timestamp(unit or "us", tz),
    "date32": lambda unit, tz: pa.date32(),
    "date64": lambda unit, tz: pa.date64(),
    "time32": lambda unit, tz: pa.time32(unit or "ms"),
    "time64": lambda unit, tz: pa.time64(unit or "us"),
    "duration": lambda unit, tz: pa.duration(unit or "us"),
}


@dataclass(frozen=True, repr=False)
class DataType:
    """The type of a column: a type of Arrow, a dtype of numpy, or a class of Python.

    Make one by the class methods. Two types are equal if what they wrap is equal.

    Args:
        _physical_dtype: a ``pyarrow.DataType``, a ``numpy.dtype``, or a class.

    Raises:
        TypeError: it is none of these.

    Example:
        >>> DataType.int64()
        DataType(arrow:int64)
        >>> DataType.from_numpy("float32").to_arrow_dtype()
        DataType(float)
        >>> DataType.list(DataType.string()).is_list_type()
        True
    """

    _physical_dtype: Any

    def __post_init__(self) -> None:
        if not (self.is_arrow_type() or self.is_python_type() or self.is_numpy_type()):
            raise TypeError(
                "DataType wraps a pyarrow.DataType, a numpy.dtype or a class, not "
                f"{self._physical_dtype!r} of type "
                f"{type(self._physical_dtype).__name__}"
            )

    # what it is

    def is_arrow_type(self) -> builtins.bool:
        """Tell whether it is a type of Arrow."""
        return isinstance(self._physical_dtype, pa.DataType)

    def is_numpy_type(self) -> builtins.bool:
        """Tell whether it is a dtype of numpy."""
        kind = type(self._physical_dtype)
        return kind.__module__.startswith("numpy") and hasattr(self._physical_dtype, "itemsize")

    def is_python_type(self) -> builtins.bool:
        """Tell whether it is a class of Python."""
        return isinstance(self._physical_dtype, type)

    # conversions

    def to_arrow_dtype(self, values: Any = None) -> pa.DataType:
        """Return the type of Arrow.

        Args:
            values: values of the column, from which the type follows if this is a class that has no one type.
        """
        if self.is_arrow_type():
            return self._physical_dtype
        if self.is_numpy_type():
            return _numpy_to_arrow(self._physical_dtype)
        if values is not None and len(values):
            return from_values(list(values)).type
        return _PYTHON_TO_ARROW.get(self._physical_dtype, PickledType())

    def to_numpy_dtype(self) -> np.dtype[Any]:
        """Return the dtype of numpy; that of objects if numpy has no other for the values."""
        import numpy as np

        if self.is_numpy_type():
            return cast("np.dtype[Any]", self._physical_dtype)
        type_ = self.to_arrow_dtype()
        if tensors.is_tensor(type_):
            return np.dtype(object)
        try:
            found: np.dtype[Any] = np.dtype(type_.to_pandas_dtype())
        except (NotImplementedError, TypeError):
            return np.dtype(object)
        return found

    def to_python_type(self) -> type:
        """Return the class of Python.

        Raises:
            ValueError: this is a type of Arrow or numpy.
        """
        if self.is_python_type():
            return cast("type", self._physical_dtype)
        raise ValueError(f"{self!r} is no class of Python: use to_arrow_dtype() or to_numpy_dtype()")

    def to_cudf_type(self) -> Any:
        """Raise NotImplementedError: blocks on GPUs are left out."""
        raise NotImplementedError("blocks of cudf are left out of skate.data: use to_arrow_dtype()")

    # makers

    @classmethod
    def from_arrow(cls, arrow_type: pa.DataType) -> DataType:
        """Return the type of a type of Arrow."""
        return cls(arrow_type)

    @classmethod
    def from_numpy(cls, numpy_dtype: Any) -> DataType:
        """Return the type of a dtype of numpy, or of its name: ``"int32"``."""
        import numpy as np

        return cls(np.dtype(numpy_dtype))

    @classmethod
    def from_dtype(cls, dtype: Any) -> DataType:
        """Return the type of a type of Arrow, a dtype of numpy or of pandas, or a class of Python."""
        if isinstance(dtype, cls):
            return dtype
        if isinstance(dtype, (pa.DataType, type)):
            return cls(dtype)
        arrow = getattr(dtype, "pyarrow_dtype", None)
        return cls(arrow) if arrow is not None else cls.from_numpy(dtype)

    @classmethod
    def from_cudf(cls, cudf_dtype: Any) -> DataType:
        """Raise NotImplementedError: blocks on GPUs are left out."""
        raise NotImplementedError("blocks of cudf are left out of skate.data: use from_arrow")

    @classmethod
    def infer_dtype(cls, value: Any) -> DataType:
        """Return the type that a column of this value has; the value's class if it would be pickled."""
        type_ = from_values([value]).type
        return cls(type(value)) if is_pickled(type_) else cls(type_)

    @classmethod
    def binary(cls) -> DataType:
        """Return the type of bytes."""
        return cls(pa.binary())

    @classmethod
    def bool(cls) -> DataType:
        """Return the type of truth values."""
        return cls(pa.bool_())

    @classmethod
    def string(cls) -> DataType:
        """Return the type of text."""
        return cls(pa.string())

    @classmethod
    def int8(cls) -> DataType:
        """Return the type of integers of 8 bits."""
        return cls(pa.int8())

    @classmethod
    def int16(cls) -> DataType:
        """Return the type of integers of 16 bits."""
        return cls(pa.int16())

    @classmethod
    def int32(cls) -> DataType:
        """Return the type of integers of 32 bits."""
        return cls(pa.int32())

    @classmethod
    def int64(cls) -> DataType:
        """Return the type of integers of 64 bits."""
        return cls(pa.int64())

    @classmethod
    def uint8(cls) -> DataType:
        """Return the type of integers of 8 bits without a sign."""
        return cls(pa.uint8())

    @classmethod
    def uint16(cls) -> DataType:
        """Return the type of integers of 16 bits without a sign."""
        return cls(pa.uint16())

    @classmethod
    def uint32(cls) -> DataType:
        """Return the type of integers of 32 bits without a sign."""
        return cls(pa.uint32())

    @classmethod
    def uint64(cls) -> DataType:
        """Return the type of integers of 64 bits without a sign."""
        return cls(pa.uint64())

    @classmethod
    def float32(cls) -> DataType:
        """Return the type of floating-point numbers of 32 bits."""
        return cls(pa.float32())

    @classmethod
    def float64(cls) -> DataType:
        """Return the type of floating-point numbers of 64 bits."""
        return cls(pa.float64())

    @classmethod
    def list(cls, value_type: DataType) -> DataType:
        """Return the type of lists of values of a type."""
        return cls(pa.list_(value_type.to_arrow_dtype()))

    @classmethod
    def large_list(cls, value_type: DataType) -> DataType:
        """Return the type of lists of values of a type, of more than two thousand million values a block."""
        return cls(pa.large_list(value_type.to_arrow_dtype()))

    @classmethod
    def fixed_size_list(cls, value_type: DataType, list_size: int) -> DataType:
        """Return the type of lists of a number of values of a type."""
        return cls(pa.list_(value_type.to_arrow_dtype(), list_size))

    @classmethod
    def struct(cls, fields: Any) -> DataType:
        """Return the type of dicts.

        Args:
            fields: pairs of a name and a type, or a dict.
        """
        pairs = fields.items() if isinstance(fields, dict) else fields
        return cls(pa.struct([(name, type_.to_arrow_dtype()) for name, type_ in pairs]))

    @classmethod
    def map(cls, key_type: DataType, value_type: DataType) -> DataType:
        """Return the type of lists of pairs of a key and a value."""
        return cls(pa.map_(key_type.to_arrow_dtype(), value_type.to_arrow_dtype()))

    @classmethod
    def tensor(cls, shape: tuple[int, ...], dtype: DataType) -> DataType:
        """Return the type of arrays of one shape.

        Args:
            shape: of the array in each row.
            dtype: of its values.
        """
        return cls(pa.fixed_shape_tensor(dtype.to_arrow_dtype(), [int(length) for length in shape]))

    @classmethod
    def variable_shaped_tensor(cls, dtype: DataType, ndim: int = 2) -> DataType:
        """Return the type of arrays of several shapes.

        Args:
            dtype: of the values.
            ndim: accepted for Ray's sake: arrays may have any number of dimensions.
        """
        return cls(tensors.RaggedTensorType(dtype.to_arrow_dtype()))

    @classmethod
    def temporal(cls, temporal_type: str, unit: str | None = None, tz: str | None = None) -> DataType:
        """Return a type of times.

        Args:
            temporal_type: ``"timestamp"``, ``"date32"``, ``"date64"``, ``"time32"``, ``"time64"`` or
                ``"duration"``.
            unit: ``"s"``, ``"ms"``, ``"us"`` or ``"ns"``; None: us, or ms for time32.
            tz: time zone of timestamps.

        Raises:
            ValueError: there is no such type.
        """
        maker = _TEMPORAL.get(temporal_type)
        if maker is None:
            raise ValueError(f"temporal_type={temporal_type!r} is none of {', '.join(_TEMPORAL)}")
        return cls(maker(unit, tz))

    # questions

    def is_of(self, category: TypeCategory | str) -> builtins.bool:
        """Tell whether the type is of a family: ``"list"``, ``"large_list"``, ``"struct"``, ``"map"``, ...

        Raises:
            ValueError: there is no such family.
        """
        category = TypeCategory(category)
        type_ = self._arrow()
        if category is TypeCategory.LARGE_LIST:
            return type_ is not None and types.is_large_list(type_)
        return {
            TypeCategory.LIST: self.is_list_type,
            TypeCategory.STRUCT: self.is_struct_type,
            TypeCategory.MAP: self.is_map_type,
            TypeCategory.TENSOR: self.is_tensor_type,
            TypeCategory.TEMPORAL: self.is_temporal_type,
        }[category]()

    def is_list_type(self) -> builtins.bool:
        """Tell whether values are lists, of any kind."""
        type_ = self._arrow()
        return type_ is not None and (
            types.is_list(type_) or types.is_large_list(type_) or types.is_fixed_size_list(type_)
        )

    def is_struct_type(self) -> builtins.bool:
        """Tell whether values are dicts with fields that are known."""
        return self._is(types.is_struct)

    def is_map_type(self) -> builtins.bool:
        """Tell whether values are lists of pairs."""
        return self._is(types.is_map)

    def is_nested_type(self) -> builtins.bool:
        """Tell whether values hold values."""
        return self._is(types.is_nested)

    def is_tensor_type(self) -> builtins.bool:
        """Tell whether values are arrays."""
        return self._is(tensors.is_tensor)

    def is_temporal_type(self) -> builtins.bool:
        """Tell whether values are times, dates or durations."""
        return self._is(types.is_temporal)

    def is_string_type(self) -> builtins.bool:
        """Tell whether values are text."""
        return self._is(types.is_string) or self._is(types.is_large_string)

    def is_binary_type(self) -> builtins.bool:
        """Tell whether values are bytes."""
        kinds = (types.is_binary, types.is_large_binary, types.is_fixed_size_binary)
        return any(map(self._is, kinds))

    def is_boolean_type(self) -> builtins.bool:
        """Tell whether values are truth values."""
        return self._is(types.is_boolean)

    def is_integer_type(self) -> builtins.bool:
        """Tell whether values are integers."""
        return self._is(types.is_integer)

    def is_uint64_type(self) -> builtins.bool:
        """Tell whether values are integers of 64 bits without a sign."""
        return self._is(types.is_uint64)

    def is_floating_type(self) -> builtins.bool:
        """Tell whether values are floating-point numbers."""
        return self._is(types.is_floating)

    def is_numerical_type(self) -> builtins.bool:
        """Tell whether values are integers, floating-point numbers or decimals."""
        return self._is(types.is_integer) or self._is(types.is_floating) or self._is(types.is_decimal)

    def is_null_type(self) -> builtins.bool:
        """Tell whether all values are null."""
        return self._is(types.is_null)

    def _arrow(self) -> pa.DataType | None:
        """Return the type of Arrow, or None for classes that have no one type."""
        if self.is_python_type():
            return _PYTHON_TO_ARROW.get(self._physical_dtype)
        try:
            return self.to_arrow_dtype()
        except (pa.ArrowException, NotImplementedError):
            return None

    def _is(self, question: Any) -> builtins.bool:
        type_ = self._arrow()
        return type_ is not None and builtins.bool(question(type_))

    def __repr__(self) -> str:
        if self.is_arrow_type():
            return f"DataType(arrow:{self._physical_dtype})"
        if self.is_numpy_type():
            return f"DataType(numpy:{self._physical_dtype})"
        return f"DataType(python:{self._physical_dtype.__name__})"


def _numpy_to_arrow(dtype: Any) -> pa.DataType:
    """Return the type of Arrow for a dtype of numpy: text for U, bytes for S, pickled values for objects."""
    if dtype.kind == "U":
        return pa.string()
    if dtype.kind == "S":
        return pa.binary()
    if dtype.kind in "Oc":
        return PickledType()
    return pa.from_numpy_dtype(dtype)
