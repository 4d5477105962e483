"""Functions of expressions: what ``.str``, ``.list``, ``.struct``, ``.map``, ``.dt`` and mathematics
compute.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa

from skate.data._block import arrow_compute as pc
from skate.data._block.kernels.arrays import as_array, is_nested
from skate.data.expressions._values import Value, decoded, is_scalar, typed

Kernel = Callable[..., Value]


def _arrow(function: str, type_: pa.DataType) -> Kernel:
    """Return pyarrow's function; a column without any value counts as one of ``type_``."""

    def call(value: Value, *args: Any, **options: Any) -> Value:
        return getattr(pc, function)(typed(decoded(value), type_), *args, **options)

    return call


def _number(function: str) -> Kernel:
    def call(value: Value, *args: Any, **options: Any) -> Value:
        value = typed(decoded(value), pa.float64())
        if pa.types.is_boolean(value.type):
            value = value.cast(pa.int64())
        return getattr(pc, function)(value, *args, **options)

    return call


def _real(function: str) -> Kernel:
    def call(value: Value) -> Value:
        return getattr(pc, function)(pc.cast(typed(decoded(value), pa.float64()), pa.float64(), safe=False))

    return call


def _trim(side: str) -> Kernel:
    def call(value: Value, characters: str | None = None) -> Value:
        value = typed(decoded(value), pa.string())
        if characters is None:
            return getattr(pc, f"utf8_{side}_whitespace")(value)
        return getattr(pc, f"utf8_{side}")(value, characters)

    return call


def _pad(value: Value, width: int, fillchar: str = " ", side: str = "right") -> Value:
    functions = {"right": "utf8_rpad", "left": "utf8_lpad", "both": "utf8_center"}
    if side not in functions:
        raise ValueError(f"str.pad: side is 'left', 'right' or 'both', not {side!r}")
    return getattr(pc, functions[side])(typed(decoded(value), pa.string()), width, fillchar)


def _text_slice(value: Value, start: int = 0, stop: int | None = None, step: int = 1) -> Value:
    return pc.utf8_slice_codeunits(typed(decoded(value), pa.string()), start, stop, step)


def _lists(value: Value) -> pa.Array | None:
    """Return lists as one array with offsets; None if no row has a value."""
    value = pa.array([value.as_py()], value.type) if is_scalar(value) else as_array(decoded(value))
    if pa.types.is_null(value.type):
        return None
    if pa.types.is_fixed_size_list(value.type):
        value = value.cast(pa.list_(value.type.value_type))
    if not (pa.types.is_list(value.type) or pa.types.is_large_list(value.type)):
        raise TypeError(f".list works on lists, not on values of type {value.type}")
    return value


def _list_len(value: Value) -> Value:
    lists = _lists(value)
    return pa.nulls(len(value), pa.int32()) if lists is None else pc.list_value_length(lists)


def _list_get(value: Value, index: int) -> Value:
    lists = _lists(value)
    if lists is None:
        return pa.nulls(len(value))
    lengths = pc.list_value_length(lists).cast(pa.int64())
    place = pa.repeat(pa.scalar(index, pa.int64()), len(lists)) if index >= 0 else pc.add(lengths, index)
    inside = pc.and_(pc.greater_equal(place, 0), pc.less(place, lengths))
    starts = lists.offsets.slice(0, len(lists)).cast(pa.int64())
    place = pc.if_else(pc.fill_null(inside, False), pc.add(starts, place), pa.scalar(None, pa.int64()))
    return lists.values.take(place)


def _list_slice(
    value: Value, start: int | None = None, stop: int | None = None, step: int | None = None
) -> Value:
    lists = _lists(value)
    if lists is None:
        return value
    if (start or 0) >= 0 and (stop is None or stop >= 0) and (step or 1) >= 1:
        return pc.list_slice(lists, start or 0, stop, step or 1, return_fixed_size_list=False)
    cut = slice(start, stop, step)
    return pa.array([None if v is None else v[cut] for v in lists.to_pylist()], lists.type)


def _list_sort(value: Value, order: str = "ascending", null_placement: str = "at_end") -> Value:
    lists = _lists(value)
    if lists is None:
        return value
    table = pa.table({"g": pc.list_parent_indices(lists), "v": pc.list_flatten(lists)})
    keys = [("g", "ascending"), ("v", order)]
    if null_placement == "at_start":
        table = table.append_column("n", table["v"].is_valid())
        keys.insert(1, ("n", "ascending"))
    ordered = table["v"].take(pc.sort_indices(table, sort_keys=keys))
    return _with_lengths(
        lists, pc.fill_null(pc.list_value_length(lists), 0).cast(pa.int64()), as_array(ordered)
    )


def _list_flatten(value: Value) -> Value:
    lists = _lists(value)
    if lists is None:
        return value
    inner = _lists(pc.list_flatten(lists))
    if inner is None:
        return pa.nulls(len(lists), pa.list_(pa.null()))
    ends = pa.concat_arrays(
        [
            pa.array([0], pa.int64()),
            pc.cumulative_sum(pc.fill_null(pc.list_value_length(inner), 0).cast(pa.int64())),
        ]
    )
    lengths = pc.fill_null(pc.list_value_length(lists), 0).cast(pa.int64())
    stops = pc.cumulative_sum(lengths)
    total = pc.subtract(ends.take(stops), ends.take(pc.subtract(stops, lengths)))
    return _with_lengths(lists, total, pc.list_flatten(inner))


def _with_lengths(like: pa.Array, lengths: pa.Array, values: pa.Array) -> pa.Array:
    """Return lists of the given lengths, null where ``like`` is."""
    offsets = pa.concat_arrays([pa.array([0], pa.int64()), pc.cumulative_sum(lengths)])
    mask = like.is_null() if like.null_count else None
    if pa.types.is_large_list(like.type):
        return pa.LargeListArray.from_arrays(offsets, values, mask=mask)
    return pa.ListArray.from_arrays(offsets.cast(pa.int32()), values, mask=mask)


def _struct_field(value: Value, field: str | int) -> Value:
    value = decoded(value)
    if pa.types.is_null(value.type):
        return value
    if not pa.types.is_struct(value.type):
        raise TypeError(f".struct works on structs, not on values of type {value.type}")
    names = [value.type.field(number).name for number in range(value.type.num_fields)]
    if isinstance(field, str) and field not in names:
        raise ValueError(f"the struct has no field {field!r}; its fields are {names}")
    if isinstance(field, int) and not -len(names) <= field < len(names):
        raise ValueError(f"the struct has no field number {field}; it has {len(names)}: {names}")
    index = names.index(field) if isinstance(field, str) else field % len(names)
    return pc.struct_field(value, index)


def _map_part(part: str) -> Kernel:
    def call(value: Value) -> Value:
        value = as_array(decoded(value))
        if pa.types.is_null(value.type):
            return value
        if not pa.types.is_map(value.type):
            raise TypeError(f".map works on maps, not on values of type {value.type}")
        flat = value.keys if part == "keys" else value.items
        if value.offset:  # offsets of a slice cannot be given together with a mask
            value = pa.concat_arrays([value, value.slice(0, 0)])
            flat = value.keys if part == "keys" else value.items
        mask = value.is_null() if value.null_count else None
        return pa.ListArray.from_arrays(value.offsets, flat, mask=mask)

    return call


def _array_to_list(value: Value) -> Value:
    value = decoded(value)
    if pa.types.is_fixed_size_list(value.type):
        return value.cast(pa.list_(value.type.value_type))
    if not pa.types.is_null(value.type) and not is_nested(value.type):
        raise TypeError(f".arr works on arrays and tensors, not on values of type {value.type}")
    return value


def _time(function: str) -> Kernel:
    def call(value: Value, *args: Any, **options: Any) -> Value:
        value = typed(decoded(value), pa.timestamp("us"))
        if pa.types.is_date(value.type) and function in ("strftime", "hour", "minute", "second"):
            value = value.cast(pa.timestamp("s"))
        return getattr(pc, function)(value, *args, **options)

    return call


def _round_time(function: str) -> Kernel:
    def call(value: Value, unit: str, multiple: int = 1) -> Value:
        return getattr(pc, function)(typed(decoded(value), pa.timestamp("us")), multiple=multiple, unit=unit)

    return call


def _repeat(value: Value, n: int) -> Value:
    return pc.binary_repeat(typed(decoded(value), pa.string()), n)


_TEXT = pa.string()
_TEXT_FUNCTIONS = {
    "len": "utf8_length",
    "byte_len": "binary_length",
    "lower": "utf8_lower",
    "upper": "utf8_upper",
    "capitalize": "utf8_capitalize",
    "title": "utf8_title",
    "swapcase": "utf8_swapcase",
    "reverse": "utf8_reverse",
    "starts_with": "starts_with",
    "ends_with": "ends_with",
    "contains": "match_substring",
    "match": "match_like",
    "match_regex": "match_substring_regex",
    "find": "find_substring",
    "find_regex": "find_substring_regex",
    "count": "count_substring",
    "count_regex": "count_substring_regex",
    "replace": "replace_substring",
    "replace_regex": "replace_substring_regex",
    "replace_slice": "utf8_replace_slice",
    "split": "split_pattern",
    "split_regex": "split_pattern_regex",
    "split_whitespace": "utf8_split_whitespace",
    "extract": "extract_regex",
    "center": "utf8_center",
    "lpad": "utf8_lpad",
    "rpad": "utf8_rpad",
    "is_ascii": "string_is_ascii",
    **{
        f"is_{kind}": f"utf8_is_{kind}"
        for kind in (
            *("alnum", "alpha", "decimal", "digit", "lower"),
            *("numeric", "printable", "space", "title", "upper"),
        )
    },
}

FUNCTIONS: dict[str, Kernel] = {
    **{f"str.{name}": _arrow(function, _TEXT) for name, function in _TEXT_FUNCTIONS.items()},
    "str.strip": _trim("trim"),
    "str.lstrip": _trim("ltrim"),
    "str.rstrip": _trim("rtrim"),
    "str.pad": _pad,
    "str.slice": _text_slice,
    "str.repeat": _repeat,
    "list.len": _list_len,
    "list.get": _list_get,
    "list.slice": _list_slice,
    "list.sort": _list_sort,
    "list.flatten": _list_flatten,
    "struct.field": _struct_field,
    "map.keys": _map_part("keys"),
    "map.values": _map_part("values"),
    "arr.to_list": _array_to_list,
    **{
        f"dt.{name}": _time(name)
        for name in ("year", "month", "day", "hour", "minute", "second", "strftime", "quarter", "day_of_week")
    },
    "dt.ceil": _round_time("ceil_temporal"),
    "dt.floor": _round_time("floor_temporal"),
    "dt.round": _round_time("round_temporal"),
    **{name: _number(name) for name in ("abs", "ceil", "floor", "round", "sign", "trunc", "negate")},
    **{
        name: _real(name)
        for name in ("acos", "asin", "atan", "cos", "exp", "ln", "log10", "log2", "sin", "tan")
    },
    "sqrt": _real("sqrt"),
    "is_nan": _number("is_nan"),
}
"""Functions by name: the first argument is the value, the others are plain Python values."""
