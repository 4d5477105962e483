"""Columns of values that Arrow has no type for: each cell is a pickle."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from skate.data._block.errors import ArrowConversionError


class PickledScalar(pa.ExtensionScalar):  # type: ignore[misc]
    """A cell of a column of pickled values."""

    def as_py(self, **_: Any) -> Any:
        """Return the value, or None."""
        return None if self.value is None else pickle.loads(self.value.as_py())


class PickledArray(pa.ExtensionArray):  # type: ignore[misc]
    """A column of pickled values."""

    def to_pylist(self, **_: Any) -> list[Any]:
        """Return the values; None for nulls."""
        loads = pickle.loads
        return [None if cell is None else loads(cell) for cell in self.storage.to_pylist()]

    def to_numpy(self, zero_copy_only: bool = False, writable: bool = False) -> Any:
        """Return an array of objects."""
        from skate.data._block.numpy_cells import object_array

        return object_array(self.to_pylist())


class PickledType(pa.ExtensionType):  # type: ignore[misc]
    """Any Python value, pickled: what rows hold when Arrow has no type for it.

    The type is not registered with Arrow: a file that says that its column is of this type yields bytes,
    because unpickling what a stranger wrote runs the stranger's code. Blocks that travel between processes by
    pickle keep it; who reads a file of our own, such as a spilled block, calls ``restore``.
    """

    def __init__(self) -> None:
        super().__init__(pa.large_binary(), "skate.object")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type: pa.DataType, serialized: bytes) -> PickledType:
        return cls()

    def __arrow_ext_class__(self) -> type[PickledArray]:
        return PickledArray

    def __arrow_ext_scalar_class__(self) -> type[PickledScalar]:
        return PickledScalar

    def __reduce__(self) -> tuple[Any, ...]:
        return PickledType, ()

    def __hash__(self) -> int:
        return hash("skate.object")

    def __str__(self) -> str:
        return "object"


def _pickle(value: Any) -> bytes:
    """Return the pickle of a value, of functions and classes of ``__main__`` by value."""
    try:
        if type(value).__module__ != "__main__":
            return pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    except Exception:  # the other pickler takes more, and its error is the better one
        pass
    from skate import cloudpickle

    return cloudpickle.dumps(value)


def pickled(values: Sequence[Any], column: str = "") -> pa.Array:
    """Return a column of pickled values.

    Args:
        values: the values; None becomes null.
        column: its name, for the error.

    Raises:
        ArrowConversionError: a value cannot be pickled; a TypeError.
    """
    cells: list[bytes | None] = []
    for number, value in enumerate(values):
        try:
            cells.append(None if value is None else _pickle(value))
        except Exception as error:
            raise ArrowConversionError(
                f"row {number} holds a {type(value).__qualname__}, which Arrow has no type for and which "
                f"cannot be pickled ({error}). Return numbers, text, bytes, arrays, lists or dicts",
                column,
            ) from error
    storage = pa.array(cells, pa.large_binary())
    return pa.ExtensionArray.from_storage(PickledType(), storage)


def is_pickled(type_: pa.DataType) -> bool:
    """Tell whether a column of this type holds pickled values."""
    return isinstance(type_, PickledType)


def restore(block: pa.Table) -> pa.Table:
    """Return a block that was read from an Arrow file of our own with its columns of pickled values.

    Never call it on what users read: see ``PickledType``.
    """
    for number, field in enumerate(block.schema):
        if (field.metadata or {}).get(b"ARROW:extension:name") == b"skate.object":
            chunks = [
                pa.ExtensionArray.from_storage(PickledType(), chunk) for chunk in block.column(number).chunks
            ]
            column = pa.chunked_array(chunks, PickledType())
            block = block.set_column(number, pa.field(field.name, PickledType()), column)
    return block


def pickled_columns(block: pa.Table) -> dict[str, int]:
    """Return the number of pickled cells of each column that has any, so that they can be counted.

    Example:
        >>> pickled_columns(from_rows([{"x": 1, "y": object()}]))
        {'y': 1}
    """
    return {
        field.name: len(column) - column.null_count
        for field, column in zip(block.schema, block.columns, strict=True)
        if isinstance(field.type, PickledType)
    }
