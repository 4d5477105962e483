"""The order of rows: several keys, each ascending or descending, nulls last, NaN before null, stable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from skate.data._block import arrow_compute as pc
from skate.data._block.kernels.arrays import column_of, counter, is_nested, plain


@dataclass(frozen=True, slots=True)
class SortKey:
    """A column to sort by.

    Attributes:
        name: the column.
        descending: from large to small; nulls come last in either direction.
    """

    name: str
    descending: bool = False

    @property
    def order(self) -> str:
        """The direction's name in pyarrow."""
        return "descending" if self.descending else "ascending"


def sort_keys(key: str | Sequence[str], descending: bool | Sequence[bool] = False) -> tuple[SortKey, ...]:
    """Return the keys that a user named.

    Args:
        key: a column or several.
        descending: one direction for all, or one for each.

    Raises:
        ValueError: there is no key, a key is not a name, or the number of directions is not that of the
        keys.

    Example:
        >>> sort_keys(["a", "b"], [True, False])
        (SortKey(name='a', descending=True), SortKey(name='b', descending=False))
    """
    names = [key] if isinstance(key, str) else list(key or ())
    if not names:
        raise ValueError("sort needs a column: sort('name') or sort(['first', 'second'])")
    for name in names:
        if not isinstance(name, str):
            raise ValueError(f"sort takes names of columns, not {name!r} of type {type(name).__name__}")
    directions = [descending] * len(names) if isinstance(descending, bool) else list(descending)
    if len(directions) != len(names):
        raise ValueError(
            f"sort got {len(directions)} directions in descending= for {len(names)} keys {names}; give one "
            "bool, or one for each key"
        )
    return tuple(SortKey(name, bool(direction)) for name, direction in zip(names, directions, strict=True))


def key_column(table: pa.Table, name: str, verb: str) -> pa.ChunkedArray:
    """Return a column that rows are compared by.

    Raises:
        MissingColumnError: there is no such column.
    """
    return plain(column_of(table, name, verb))


def sort_indices(table: pa.Table, keys: Sequence[SortKey]) -> pa.Array:
    """Return row numbers in the order of the keys; equal rows keep their order.

    Raises:
        ValueError: a column is missing.
        TypeError: values of a key have no order, such as lists.
    """
    columns: dict[str, pa.ChunkedArray] = {}
    orders: list[tuple[str, str]] = []
    for number, key in enumerate(keys):
        column = key_column(table, key.name, "sort")
        if is_nested(column.type):
            raise TypeError(f"sort: values of column {key.name!r} are {column.type}, which has no order")
        if pa.types.is_null(column.type):
            continue  # all rows are equal
        columns[str(number)] = column
        orders.append((str(number), key.order))
    if not columns:
        return counter(table.num_rows)
    if len(columns) == 1:
        (column,) = columns.values()
        if column.num_chunks == 1:
            return pc.array_sort_indices(column.chunk(0), order=orders[0][1])
    return pc.sort_indices(pa.table(columns), sort_keys=orders)


def is_identity(indices: pa.Array) -> bool:
    """Say whether row numbers are 0, 1, 2, ...: there is nothing to move."""
    if len(indices) == 0:
        return True
    if indices[0].as_py() != 0 or indices[-1].as_py() != len(indices) - 1:
        return False
    return bool(pc.all(pc.equal(indices, counter(len(indices)))).as_py())
