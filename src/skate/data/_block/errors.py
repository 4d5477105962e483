"""Errors of blocks."""

from __future__ import annotations

from typing import Any

from skate.data.exceptions import SchemaMismatchError


class SchemaConflictError(SchemaMismatchError):
    """Blocks of one data set have types in a column that no common type can hold.

    Attributes:
        column: name of the column; fields of a struct follow with dots: ``"box.left"``.
        left: the type seen first.
        right: the type that does not go with it.

    Example:
        >>> unify_schemas([pa.schema({"x": pa.int64()}), pa.schema({"x": pa.string()})])
        Traceback (most recent call last):
        SchemaConflictError: column 'x' is int64 in one block and string in another ...
    """

    def __init__(self, column: str, left: Any, right: Any, detail: str = "") -> None:
        self.column = column
        self.left = left
        self.right = right
        self.detail = detail
        super().__init__(column, left, right, detail)

    def __str__(self) -> str:
        reason = f" ({self.detail})" if self.detail else ""
        return (
            f"column {self.column!r} is {self.left} in one block and {self.right} in another{reason}: "
            f"no common type holds both. Make the function or the files agree, or cast the column, as in "
            f"with_column({self.column!r}, col({self.column!r}).cast(...))"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return SchemaConflictError, (self.column, self.left, self.right, self.detail)


class ArrowConversionError(TypeError):
    """A value has no place in a column: Arrow has no type for it, and it cannot be pickled.

    Args:
        data_str: what is wrong, or the value as text.
        column_name: name of the column.
        pa_type: the column's type, if it is known.
    """

    def __init__(self, data_str: str, column_name: str | None = None, pa_type: Any = None) -> None:
        self.data_str = data_str
        self.column_name = column_name
        self.pa_type = pa_type
        super().__init__(data_str, column_name, pa_type)

    def __str__(self) -> str:
        column = "" if self.column_name is None else f"column {self.column_name!r}: "
        type_ = "" if self.pa_type is None else f" (type {self.pa_type})"
        return f"{column}{self.data_str}{type_}"
