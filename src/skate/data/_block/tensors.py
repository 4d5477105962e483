"""Columns of arrays.

Arrays of one shape are Arrow's canonical ``fixed_shape_tensor``; arrays of several shapes, also with
different numbers of dimensions, are ``skate.ragged``: all values one after the other, and the shape of each.
Both become numpy arrays without a copy. ``adopt`` makes them of the tensor columns that Ray wrote into
parquet files.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import prod
from typing import Any

import pyarrow as pa

from skate.data._block.numpy_cells import as_ndarray, object_array

#: Kinds of numpy's dtypes that Arrow has a fixed-width type for.
_TENSOR_KINDS = "biufmM"


class RaggedTensorScalar(pa.ExtensionScalar):  # type: ignore[misc]
    """A cell of a column of arrays of several shapes."""

    def as_py(self, **_: Any) -> Any:
        """Return the array, or None."""
        if self.value is None or not self.value.is_valid:
            return None
        values = _values_to_numpy(self.value["values"].values)
        return values.reshape(self.value["shape"].as_py())


class RaggedTensorArray(pa.ExtensionArray):  # type: ignore[misc]
    """A column of arrays of several shapes."""

    def to_pylist(self, **_: Any) -> list[Any]:
        """Return the arrays; None for nulls."""
        return cells(self)

    def to_numpy(self, zero_copy_only: bool = False, writable: bool = False) -> Any:
        """Return an array of arrays."""
        return object_array(cells(self))


class RaggedTensorType(pa.ExtensionType):  # type: ignore[misc]
    """Arrays of several shapes, of one type of values.

    Args:
        value_type: Arrow's type of the values.
    """

    def __init__(self, value_type: pa.DataType, storage: pa.DataType | None = None) -> None:
        self._value_type = value_type
        super().__init__(
            storage or pa.struct([("values", pa.large_list(value_type)), ("shape", pa.list_(pa.int32()))]),
            "skate.ragged",
        )

    @property
    def value_type(self) -> pa.DataType:
        """Arrow's type of the values."""
        return self._value_type

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type: pa.DataType, serialized: bytes) -> RaggedTensorType:
        return cls(storage_type.field("values").type.value_type, storage_type)

    def __arrow_ext_class__(self) -> type[RaggedTensorArray]:
        return RaggedTensorArray

    def __arrow_ext_scalar_class__(self) -> type[RaggedTensorScalar]:
        return RaggedTensorScalar

    def __reduce__(self) -> tuple[Any, ...]:
        return RaggedTensorType, (self._value_type, self.storage_type)

    def __hash__(self) -> int:
        return hash(("skate.ragged", self._value_type))

    def __str__(self) -> str:
        return f"ragged_tensor[{self._value_type}]"


def register() -> None:
    """Tell Arrow about ``skate.ragged``, so that files and streams give it back; called once, on import."""
    try:
        pa.register_extension_type(RaggedTensorType(pa.int64()))
    except pa.ArrowKeyError:  # a second import of this module in one process
        pass


register()


def is_fixed(type_: pa.DataType) -> bool:
    """Tell whether a column of this type holds arrays of one shape."""
    return isinstance(type_, pa.FixedShapeTensorType)


def is_ragged(type_: pa.DataType) -> bool:
    """Tell whether a column of this type holds arrays of several shapes."""
    return isinstance(type_, RaggedTensorType)


def is_tensor(type_: pa.DataType) -> bool:
    """Tell whether a column of this type holds arrays."""
    return isinstance(type_, (pa.FixedShapeTensorType, RaggedTensorType))


def value_type(type_: pa.DataType) -> pa.DataType:
    """Return Arrow's type of the values of a tensor column."""
    return type_.value_type


# from numpy


def from_ndarray(array: Any) -> pa.Array | None:
    """Return a column of an array whose first dimension counts the rows.

    Args:
        array: an array of two or more dimensions; values that lie in order are not copied.

    Returns:
        the column; None if Arrow has no fixed-width type for the values (text, objects, complex numbers).
    """
    if array.dtype.kind not in _TENSOR_KINDS:
        return None
    import numpy as np

    rows, shape = array.shape[0], array.shape[1:]
    size = prod(shape)
    if size == 0:
        return _ragged(pa.array(np.empty(0, array.dtype)), [0] * rows, [shape] * rows, None)
    return _fixed(np.ascontiguousarray(array).reshape(-1), shape, None)


def from_cells(values: Sequence[Any]) -> pa.Array | None:
    """Return a column of arrays, one a row.

    Args:
        values: arrays (of numpy, torch, ...) and None; types of values are promoted as numpy does.

    Returns:
        the column; None if Arrow has no fixed-width type for the values.
    """
    import numpy as np

    arrays = [None if value is None else as_ndarray(value) for value in values]
    present = [array for array in arrays if array is not None]
    dtypes = {array.dtype for array in present}
    if any(dtype.kind not in _TENSOR_KINDS for dtype in dtypes):
        return None
    try:
        dtype = next(iter(dtypes)) if len(dtypes) == 1 else np.result_type(*dtypes)
    except TypeError:  # dates and numbers
        return None
    if dtype.kind not in _TENSOR_KINDS:
        return None
    shapes = {array.shape for array in present}
    has_nulls = len(present) < len(arrays)
    if len(shapes) == 1:
        (shape,) = shapes
        # A null takes as much memory as an array in a column of one shape: not if most are null.
        if shape and prod(shape) and 2 * len(present) >= len(arrays):
            if not has_nulls:
                return _fixed(_stack(present, shape, dtype), shape, None)
            flat = np.zeros((len(arrays), *shape), dtype)
            valid = [array is not None for array in arrays]
            flat[valid] = present
            return _fixed(flat.reshape(-1), shape, valid)
    flat = np.concatenate([array.ravel() for array in present], dtype=dtype)
    sizes = [0 if array is None else array.size for array in arrays]
    all_shapes = [() if array is None else array.shape for array in arrays]
    return _ragged(
        pa.array(flat), sizes, all_shapes, [array is not None for array in arrays] if has_nulls else None
    )


def _stack(arrays: Sequence[Any], shape: tuple[int, ...], dtype: Any) -> Any:
    """Return the values of arrays of one shape, one after the other."""
    import numpy as np

    if len(arrays) == 1:
        return np.ascontiguousarray(arrays[0], dtype).reshape(-1)
    made = np.empty((len(arrays), *shape), dtype)
    np.stack(arrays, out=made, casting="unsafe")
    return made.reshape(-1)


def _validity(valid: Sequence[bool] | None) -> tuple[pa.Buffer | None, int]:
    """Return the bitmap of valid rows, and the number of the others."""
    if valid is None:
        return None, 0
    return pa.array(valid, pa.bool_()).buffers()[1], valid.count(False)


def _fixed(flat: Any, shape: tuple[int, ...], valid: Sequence[bool] | None) -> pa.Array:
    """Return a column of arrays of one shape from all their values."""
    values = pa.array(flat)
    type_ = pa.fixed_shape_tensor(values.type, [int(length) for length in shape])
    bitmap, nulls = _validity(valid)
    rows = len(values) // type_.storage_type.list_size
    storage = pa.Array.from_buffers(type_.storage_type, rows, [bitmap], nulls, children=[values])
    return pa.ExtensionArray.from_storage(type_, storage)


def _ragged(
    values: pa.Array, sizes: Sequence[int], shapes: Sequence[tuple[int, ...]], valid: Sequence[bool] | None
) -> pa.Array:
    """Return a column of arrays of several shapes from all their values."""
    from itertools import accumulate

    type_ = RaggedTensorType(values.type)
    offsets = pa.array([0, *accumulate(sizes)], pa.int64())
    lists = pa.Array.from_buffers(
        pa.large_list(values.type), len(sizes), [None, offsets.buffers()[1]], 0, children=[values]
    )
    shape = pa.array(shapes, pa.list_(pa.int32()))
    bitmap, nulls = _validity(valid)
    storage = pa.Array.from_buffers(type_.storage_type, len(sizes), [bitmap], nulls, children=[lists, shape])
    return pa.ExtensionArray.from_storage(type_, storage)


# to numpy


def _values_to_numpy(values: pa.Array) -> Any:
    """Return flat values as an array; only booleans and values with nulls are copied."""
    return values.to_numpy(zero_copy_only=False)


def _fixed_to_ndarray(array: pa.Array) -> Any:
    """Return a column of arrays of one shape as one array; rows of nulls hold what lies there."""
    type_, storage = array.type, array.storage
    size = type_.storage_type.list_size
    shape = tuple(type_.shape)
    flat = _values_to_numpy(storage.values.slice(storage.offset * size, len(storage) * size))
    made = flat.reshape(len(storage), *shape)
    permutation = type_.permutation
    if permutation and list(permutation) != list(range(len(shape))):
        made = made.transpose(0, *(axis + 1 for axis in permutation))
    return made


def cells(array: pa.Array) -> list[Any]:
    """Return the arrays of a tensor column, one a row: views of the column's memory, None for nulls."""
    if is_fixed(array.type):
        made = list(_fixed_to_ndarray(array))
        if array.null_count:
            return [
                cell if valid else None
                for cell, valid in zip(made, array.is_valid().to_pylist(), strict=True)
            ]
        return made
    storage = array.storage
    lists, shapes = storage.field("values"), storage.field("shape")
    offsets = lists.offsets.to_pylist()
    flat = _values_to_numpy(lists.values)
    return [
        flat[start:stop].reshape(shape or ()) if valid else None
        for start, stop, shape, valid in zip(
            offsets[:-1], offsets[1:], shapes.to_pylist(), array.is_valid().to_pylist(), strict=True
        )
    ]


def to_ndarray(column: pa.Array | pa.ChunkedArray) -> Any:
    """Return a tensor column as an array: of the shape (rows, ...) if all are of one shape, else of objects.

    Values are not copied if the column is of one chunk; then the array cannot be written to.
    """
    if isinstance(column, pa.ChunkedArray):
        if column.num_chunks == 1:
            column = column.chunk(0)
        elif is_fixed(column.type) and not column.null_count and column.num_chunks:
            import numpy as np

            return np.concatenate([_fixed_to_ndarray(chunk) for chunk in column.chunks])
        elif column.num_chunks:
            return object_array([cell for chunk in column.chunks for cell in cells(chunk)])
        else:
            column = pa.ExtensionArray.from_storage(column.type, pa.array([], column.type.storage_type))
    if is_fixed(column.type) and not column.null_count:
        return _fixed_to_ndarray(column)
    return object_array(cells(column))


# changes of type


def promoted(left: pa.DataType, right: pa.DataType) -> pa.DataType | None:
    """Return the type that numpy gives values of two types, numbers or booleans; None for others."""
    if not all(pa.types.is_primitive(type_) and not pa.types.is_temporal(type_) for type_ in (left, right)):
        return None
    import numpy as np

    return pa.from_numpy_dtype(np.result_type(left.to_pandas_dtype(), right.to_pandas_dtype()))


def cast(column: pa.ChunkedArray, target: pa.DataType) -> pa.ChunkedArray:
    """Return a tensor column as another tensor type: promoted values, or ragged instead of fixed."""
    return pa.chunked_array([_cast_chunk(chunk, target) for chunk in column.chunks], target)


def _cast_chunk(array: pa.Array, target: pa.DataType) -> pa.Array:
    source = array.type
    if source == target:
        return array
    storage = array.storage
    if is_fixed(source) and is_fixed(target):
        if source.shape != target.shape:
            raise ValueError(f"arrays of shape {tuple(source.shape)} are not of shape {tuple(target.shape)}")
        made = storage.cast(target.storage_type, safe=False)
    elif is_fixed(source):
        if source.permutation:
            return from_cells_as(cells(array), target)
        size = source.storage_type.list_size
        values = storage.values.slice(storage.offset * size, len(storage) * size)
        valid = array.is_valid().to_pylist() if array.null_count else None
        made = _ragged(
            values.cast(target.value_type, safe=False),
            [size] * len(array),
            [tuple(source.shape)] * len(array),
            valid,
        ).storage
    elif is_ragged(target):
        made = storage.cast(target.storage_type, safe=False)
    else:
        return from_cells_as(cells(array), target)
    return pa.ExtensionArray.from_storage(target, made)


def from_cells_as(values: Sequence[Any], target: pa.DataType) -> pa.Array:
    """Return a column of a tensor type from arrays, one a row.

    Raises:
        ValueError: the arrays do not fit the type.
    """
    import numpy as np

    dtype = np.dtype(target.value_type.to_pandas_dtype())
    arrays = [None if value is None else np.asarray(value).astype(dtype, copy=False) for value in values]
    shapes = {array.shape for array in arrays if array is not None}
    has_nulls = any(array is None for array in arrays)
    valid = [array is not None for array in arrays] if has_nulls else None
    if is_fixed(target):
        shape = tuple(target.shape)
        if shapes - {shape}:
            raise ValueError(f"arrays of shape {sorted(shapes - {shape})[0]} are not of shape {shape}")
        flat = np.zeros((len(arrays), *shape), dtype)
        for number, array in enumerate(arrays):
            if array is not None:
                flat[number] = array
        return _fixed(flat.reshape(-1), shape, valid)
    parts = [array.ravel() for array in arrays if array is not None]
    made = pa.array(np.concatenate(parts) if parts else np.empty(0, dtype)).cast(target.value_type)
    sizes = [0 if array is None else array.size for array in arrays]
    return _ragged(made, sizes, [() if array is None else array.shape for array in arrays], valid)


# Ray's files

_RAY_FIXED = ("ray.data.arrow_tensor", "ray.data.arrow_tensor_v2")
_RAY_RAGGED = "ray.data.arrow_variable_shaped_tensor"


def adopt(block: pa.Table) -> pa.Table:
    """Return a table that came from a file with the tensor columns that Ray wrote as tensor columns of ours.

    Columns that are pickled stay bytes: who trusts the file unpickles them.

    Example:
        >>> adopt(pyarrow.parquet.read_table("written_by_ray.parquet")).schema
    """
    for number, field in enumerate(block.schema):
        name, metadata = _extension(field)
        if name in _RAY_FIXED:
            made = _adopt_fixed(_storage(block.column(number)), json.loads(metadata))
        elif name == _RAY_RAGGED:
            made = _adopt_ragged(_storage(block.column(number)))
        else:
            continue
        block = block.set_column(number, pa.field(field.name, made.type, field.nullable), made)
    return block


def adopted_schema(schema: pa.Schema) -> pa.Schema:
    """Return the schema that ``adopt`` gives tables of a schema."""
    if not any(_extension(field)[0].startswith("ray.data.") for field in schema):
        return schema
    return adopt(schema.empty_table()).schema


def _extension(field: pa.Field) -> tuple[str, bytes]:
    """Return name and metadata of a field's extension type, registered or not; ``""`` if it has none."""
    if isinstance(field.type, pa.ExtensionType):  # those of Python, as Ray's are
        serialized = field.type.__arrow_ext_serialize__()
        return field.type.extension_name, serialized
    metadata = field.metadata or {}
    return metadata.get(b"ARROW:extension:name", b"").decode(), metadata.get(b"ARROW:extension:metadata", b"")


def _storage(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column without its extension type."""
    if not isinstance(column.type, pa.BaseExtensionType):
        return column
    return pa.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)


def _adopt_fixed(column: pa.ChunkedArray, shape: Sequence[int]) -> pa.ChunkedArray:
    """Return lists of values as arrays of a shape."""
    size = prod(shape)
    value = column.type.value_type
    if size == 0 or not shape:
        ragged = [
            _ragged(
                chunk.flatten(),
                [size if valid else 0 for valid in chunk.is_valid().to_pylist()],
                [tuple(shape)] * len(chunk),
                chunk.is_valid().to_pylist() if chunk.null_count else None,
            )
            for chunk in column.chunks
        ]
        return pa.chunked_array(ragged, RaggedTensorType(value))
    type_ = pa.fixed_shape_tensor(value, list(shape))
    chunks = []
    for chunk in column.chunks:
        if chunk.null_count:
            storage = chunk.cast(type_.storage_type)
        else:  # the values of all rows lie one after the other
            storage = pa.FixedSizeListArray.from_arrays(chunk.flatten(), size).cast(type_.storage_type)
        chunks.append(pa.ExtensionArray.from_storage(type_, storage))
    return pa.chunked_array(chunks, type_)


def _adopt_ragged(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return structs of values and a shape as arrays."""
    value = column.type.field("data").type.value_type
    chunks = []
    for chunk in column.chunks:
        lists = chunk.field("data").cast(pa.large_list(value))
        shapes = chunk.field("shape").cast(pa.list_(pa.int32()))
        bitmap, nulls = _validity(chunk.is_valid().to_pylist() if chunk.null_count else None)
        type_ = RaggedTensorType(value)
        storage = pa.Array.from_buffers(
            type_.storage_type, len(chunk), [bitmap], nulls, children=[lists, shapes]
        )
        chunks.append(pa.ExtensionArray.from_storage(type_, storage))
    return pa.chunked_array(chunks, RaggedTensorType(value))
