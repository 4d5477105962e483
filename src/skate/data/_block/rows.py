"""Rows to blocks and back. A row is a dict."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, cast

import pyarrow as pa

from skate.data._block.columns import from_values, to_values
from skate.data._block.objects import pickled_columns
from skate.data._block.schemas import NO_COLUMNS
from skate.data._block.tables import no_columns

__all__ = ["from_rows", "iter_rows", "pickled_columns"]

#: Rows that are converted at a time: the first few for who takes only one, then more.
_FIRST_ROWS = 64
_MORE_ROWS = 4096


def from_rows(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Return a block of rows.

    Args:
        rows: dicts from column to value. Keys that a row lacks are null. Values of one column may mix int and
            float, which become float; other mixtures and values that Arrow has no type for are pickled each,
            and ``pickled_columns`` counts them.

    Raises:
        TypeError: a row is no dict, a key is no string, or a value cannot be pickled.

    Example:
        >>> from_rows([{"x": 1}, {"x": None, "y": "a"}]).to_pylist()
        [{'x': 1, 'y': None}, {'x': None, 'y': 'a'}]
    """
    if not rows:
        return pa.table({})
    _check_kinds(rows)
    names = list(rows[0])
    if set(map(len, rows)) == {len(names)}:
        try:
            columns = [[row[name] for row in rows] for name in names]
        except KeyError:
            names, columns = _uneven(rows)
    else:
        names, columns = _uneven(rows)
    for name in names:
        if not isinstance(name, str):
            kind = type(name).__name__
            raise TypeError(f"the key {name!r} of a row is of type {kind}: names of columns are str")
    if not names:
        return no_columns(len(rows))
    return pa.table(dict(zip(names, map(from_values, columns, names), strict=True)))


def _check_kinds(rows: Sequence[Any]) -> None:
    kinds = set(map(type, rows))
    if kinds == {dict}:
        return
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise TypeError(
                f"row {number} is of type {type(row).__name__}, not a dict of columns: {row!r:.100}"
            )


def _uneven(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[Any]]]:
    """Return names and values of the columns of rows with different keys, in order of appearance."""
    names: dict[str, None] = {}
    for row in rows:
        names.update(dict.fromkeys(row))
    return list(names), [[row.get(name) for row in rows] for name in names]


def iter_rows(block: pa.Table) -> Iterator[dict[str, Any]]:
    """Yield the rows of a block as dicts.

    Rows are converted some thousand at a time, so the block is never held twice.

    Example:
        >>> list(iter_rows(pa.table({"x": [1, None]})))
        [{'x': 1}, {'x': None}]
    """
    names = [name for name in block.column_names if name != NO_COLUMNS]
    if not names:
        for _ in range(block.num_rows):
            yield {}
        return
    if len(names) < block.num_columns:
        block = block.select(names)
    start, count = 0, _FIRST_ROWS
    make = _maker(len(names))(*names)
    while start < block.num_rows:
        yield from map(make, *map(to_values, block.slice(start, count).columns))
        start += count
        count = _MORE_ROWS


@lru_cache(maxsize=256)
def _maker(count: int) -> Callable[..., Callable[..., dict[str, Any]]]:
    """Return a function of names that returns a function of as many values that returns a dict.

    A dict display in generated code takes a third of the time of ``dict(zip(names, values))``, which is most
    of the time of a row. The code holds no text of the user's.
    """
    names = [f"n{number}" for number in range(count)]
    values = [f"v{number}" for number in range(count)]
    items = ", ".join(f"{name}: {value}" for name, value in zip(names, values, strict=True))
    code = f"lambda {', '.join(names)}: lambda {', '.join(values)}: {{{items}}}"
    return cast("Callable[..., Callable[..., dict[str, Any]]]", eval(code))  # noqa: S307
