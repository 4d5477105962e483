"""Values of Python to columns, and back: the types that rows get.

A column's type follows from the kinds of its values, which one pass in C collects (``set(map(type,
values))``). Values of one kind become that kind's type; int and float become float; any other mixture keeps
each value, pickled.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from skate.data._block import tensors
from skate.data._block.numpy_cells import as_ndarray, is_array_like, known_times
from skate.data._block.objects import pickled

_NULL = "null"
_INT = "int"
_FLOAT = "float"
_LIST = "list"
_ARRAY = "array"
_OTHER = "other"

#: Errors that Arrow raises for values that it cannot hold.
_REFUSED = (pa.ArrowException, TypeError, ValueError, OverflowError)

#: Name of the group of kinds that mix without loss.
_GROUPS: dict[type, str] = {
    type(None): _NULL,
    bool: "bool",
    int: _INT,
    float: _FLOAT,
    str: "str",
    bytes: "bytes",
    bytearray: "bytes",
    memoryview: "bytes",
    list: _LIST,
    tuple: _LIST,
    set: _LIST,
    frozenset: _LIST,
    dict: "dict",
    datetime.datetime: "datetime",
    datetime.date: "date",
    datetime.time: "time",
    datetime.timedelta: "timedelta",
}

_NUMPY_GROUPS = {
    "b": "bool",
    "i": _INT,
    "u": _INT,
    "f": _FLOAT,
    "U": "str",
    "S": "bytes",
    "M": "datetime64",
    "m": "timedelta64",
}


def _group(kind: type) -> str:
    """Return the group of a type, and remember it."""
    known = _GROUPS.get(kind)
    if known is None:
        known = _new_group(kind)
        if len(_GROUPS) < 4096:
            _GROUPS[kind] = known
    return known


def _new_group(kind: type) -> str:
    if kind.__module__.partition(".")[0] == "numpy" and hasattr(kind, "dtype") and kind.__name__ != "ndarray":
        import numpy as np

        if issubclass(kind, np.generic):
            return _NUMPY_GROUPS.get(np.dtype(kind).kind, _OTHER)
    if kind.__module__.startswith("pandas"):
        if kind.__name__ in ("NAType", "NaTType"):
            return _NULL
        if kind.__name__ == "Timestamp":
            return "timestamp"
    if is_array_like(kind):
        return _ARRAY
    for base in (str, bytes, int, float, dict, list, tuple, set, frozenset):
        if issubclass(kind, base):
            return _GROUPS[base]
    return _OTHER


def from_values(values: Sequence[Any], column: str = "") -> pa.Array | pa.ChunkedArray:
    """Return a column of Python values.

    Args:
        values: a list; numbers, text, bytes, times, arrays, lists, sets, dicts, anything else that can be
            pickled.
        column: its name, for errors.

    Returns:
        the column; several chunks if one cannot hold the text.

    Raises:
        TypeError: a value that Arrow has no type for cannot be pickled.

    Example:
        >>> from_values([1, 2.5]).type, from_values([1, "a"]).type
        (DataType(double), object)
    """
    kinds = set(map(type, values))
    simple = _SIMPLE.get(next(iter(kinds))) if len(kinds) == 1 else None
    if simple is not None:
        try:
            return pa.array(values, simple)
        except _REFUSED:
            pass
    groups = set(map(_group, kinds))
    if _NULL in groups:
        groups.discard(_NULL)
        if any(kind is not type(None) and _group(kind) == _NULL for kind in kinds):  # of pandas: NA, NaT
            values = [None if _group(type(value)) == _NULL else value for value in values]
            kinds = set(map(type, values))
    if not groups:
        return pa.nulls(len(values))
    try:
        made = _of_groups(groups, values, kinds)
    except _REFUSED:
        made = None
    return pickled(values, column) if made is None else made


#: Types of columns whose values are all of one class.
_SIMPLE: dict[type, pa.DataType] = {
    int: pa.int64(),
    float: pa.float64(),
    str: pa.string(),
    bytes: pa.binary(),
    bool: pa.bool_(),
}


def _of_groups(
    groups: set[str], values: Sequence[Any], kinds: set[type]
) -> pa.Array | pa.ChunkedArray | None:
    """Return a column of values of some groups; None if they do not mix."""
    if len(groups) > 1:
        return _floats(values) if groups == {_INT, _FLOAT} else None
    (group,) = groups
    maker = _MAKERS.get(group)
    if maker is not None:
        return maker(values)
    if group == _OTHER and len(kinds - {type(None)}) > 1:
        return None
    return pa.array(values)


def _floats(values: Sequence[Any]) -> pa.Array | None:
    """Return integers and floats as floats; None if an integer is too large for that, as ids may be."""
    floats = [None if value is None else float(value) for value in values]
    if any(value != number and value == value for value, number in zip(values, floats, strict=True)):
        return None
    return pa.array(floats, pa.float64())


def _ints(values: Sequence[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except OverflowError:
        return pa.array(values, pa.uint64())


def _lists(values: Sequence[Any]) -> pa.Array:
    return pa.array([list(value) if isinstance(value, frozenset) else value for value in values])


def _arrays(values: Sequence[Any]) -> pa.Array:
    """Return arrays: scalars if they have no dimension, lists if they are text."""
    made = tensors.from_cells(values)
    if made is not None:
        return made
    lists = [None if value is None else as_ndarray(value).tolist() for value in values]
    return pa.array(lists)


def _datetimes(values: Sequence[Any]) -> pa.Array | None:
    """Return times in the coarsest of seconds, milliseconds and microseconds that keeps them.

    None if some have a time zone and some have none: Arrow would take the latter for UTC.
    """
    if len({value.tzinfo is None for value in values if value is not None}) > 1:
        return None
    made = pa.array(values)
    for unit in ("s", "ms"):
        try:
            return made.cast(pa.timestamp(unit, made.type.tz))
        except pa.ArrowInvalid:
            continue
    return made


def _numpy_times(values: Sequence[Any]) -> pa.Array:
    import numpy as np

    missing = (
        np.datetime64("NaT")
        if any(isinstance(value, np.datetime64) for value in values)
        else np.timedelta64("NaT")
    )
    return pa.array(known_times(np.array([missing if value is None else value for value in values])))


def _timestamps(values: Sequence[Any]) -> pa.Array:
    """Return times of pandas, which may count nanoseconds."""
    import pandas as pd

    return pa.array(pd.Series(values))


#: Functions that make a column of a group, or return None if they cannot; ``pa.array`` makes the others.
_MAKERS: dict[str, Callable[[Sequence[Any]], Any]] = {
    _INT: _ints,
    _LIST: _lists,
    _ARRAY: _arrays,
    "datetime": _datetimes,
    "datetime64": _numpy_times,
    "timedelta64": _numpy_times,
    "timestamp": _timestamps,
}


def to_values(column: pa.Array | pa.ChunkedArray) -> list[Any]:
    """Return the values of a column as Python has them: arrays for tensors, None for nulls."""
    if tensors.is_tensor(column.type):
        chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
        return [cell for chunk in chunks for cell in tensors.cells(chunk)]
    values: list[Any] = column.to_pylist()
    return values
