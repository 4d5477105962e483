"""Operators of expressions: arithmetic, comparison, logic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa

from skate.data._block import arrow_compute as pc
from skate.data._block.kernels.arrays import as_array
from skate.data.expressions._values import Value, decoded, is_scalar, typed


def _pair(left: Value, right: Value) -> tuple[Value, Value]:
    """Return both sides; one without a type takes the other's."""
    left, right = decoded(left), decoded(right)
    return typed(left, right.type), typed(right, left.type)


def _no_types(left: Value, right: Value) -> Value | None:
    """Return the result where neither side has a type: nulls, as many as there are rows."""
    if pa.types.is_null(left.type) and pa.types.is_null(right.type):
        return right if is_scalar(left) else left
    return None


def _numbers(left: Value, right: Value) -> tuple[Value, Value]:
    left, right = _pair(left, right)
    return _no_bool(left), _no_bool(right)


def _no_bool(value: Value) -> Value:
    return value.cast(pa.int64()) if pa.types.is_boolean(value.type) else value


def _is_integer(value: Value) -> bool:
    return bool(pa.types.is_integer(value.type))


def _is_text(value: Value) -> bool:
    return bool(pa.types.is_string(value.type) or pa.types.is_large_string(value.type))


def add(left: Value, right: Value) -> Value:
    """Add numbers (integers that overflow are an error), or join texts."""
    left, right = _pair(left, right)
    if _is_text(left) and _is_text(right):
        large = pa.large_string() in (left.type, right.type)
        type_ = pa.large_string() if large else pa.string()
        return pc.binary_join_element_wise(left.cast(type_), right.cast(type_), pa.scalar("", type_))
    return _checked("add", left, right)


def subtract(left: Value, right: Value) -> Value:
    """Subtract numbers, or times."""
    return _checked("subtract", left, right)


def multiply(left: Value, right: Value) -> Value:
    """Multiply numbers."""
    return _checked("multiply", left, right)


def _checked(function: str, left: Value, right: Value) -> Value:
    left, right = _numbers(left, right)
    empty = _no_types(left, right)
    if empty is not None:
        return empty
    checked = _is_integer(left) and _is_integer(right)
    return getattr(pc, f"{function}_checked" if checked else function)(left, right)


def _as_float(value: Value) -> Value:
    if pa.types.is_integer(value.type):
        return pc.cast(value, pa.float64(), safe=False)
    return pc.cast(value, pa.float64()) if not pa.types.is_floating(value.type) else value


def divide(left: Value, right: Value) -> Value:
    """Divide as Python's ``/`` does: the result is a float; by zero it is inf or NaN."""
    left, right = _numbers(left, right)
    if pa.types.is_temporal(left.type):
        return pc.divide(left, right)
    return pc.divide(_as_float(left), _as_float(right))


def floor_divide(left: Value, right: Value) -> Value:
    """Divide as Python's ``//`` does: integers stay integers, rounded down; an integer by zero is null."""
    left, right = _numbers(left, right)
    empty = _no_types(left, right)
    if empty is not None:
        return empty
    if not (_is_integer(left) and _is_integer(right)):
        return pc.floor(pc.divide(_as_float(left), _as_float(right)))
    return _integer_division(left, right)[0]


def modulo(left: Value, right: Value) -> Value:
    """Return the rest as Python's ``%`` does, with the divisor's sign; of an integer by zero it is null."""
    left, right = _numbers(left, right)
    empty = _no_types(left, right)
    if empty is not None:
        return empty
    if _is_integer(left) and _is_integer(right):
        return _integer_division(left, right)[1]
    left, right = _as_float(left), _as_float(right)
    return pc.subtract(left, pc.multiply(pc.floor(pc.divide(left, right)), right))


def _integer_division(left: Value, right: Value) -> tuple[Value, Value]:
    right = pc.if_else(pc.equal(right, 0), pa.scalar(None, right.type), right)
    quotient = pc.divide_checked(left, right)
    rest = pc.subtract(left, pc.multiply(quotient, right))
    zero, one = pa.scalar(0, rest.type), pa.scalar(1, quotient.type)
    below = pc.and_(pc.not_equal(rest, zero), pc.xor(pc.less(rest, zero), pc.less(right, 0)))
    quotient = pc.if_else(below, pc.subtract(quotient, one), quotient)
    return quotient, pc.if_else(below, pc.add(rest, right), rest)


def power(left: Value, right: Value) -> Value:
    """Raise to a power; integers stay integers where the exponent is not negative."""
    left, right = _numbers(left, right)
    empty = _no_types(left, right)
    if empty is not None:
        return empty
    if _is_integer(left) and is_scalar(right) and _is_integer(right) and (right.as_py() or 0) >= 0:
        return pc.power_checked(left, right)
    return pc.power(_as_float(left), _as_float(right))


def _compare(function: str) -> Callable[[Value, Value], Value]:
    def compare(left: Value, right: Value) -> Value:
        left, right = _pair(left, right)
        empty = _no_types(left, right)
        if empty is not None:
            return typed(empty, pa.bool_())
        if pa.types.is_boolean(left.type) != pa.types.is_boolean(right.type):
            left, right = _no_bool(left), _no_bool(right)
        return getattr(pc, function)(left, right)

    return compare


equal = _compare("equal")
not_equal = _compare("not_equal")
less = _compare("less")
less_equal = _compare("less_equal")
greater = _compare("greater")
greater_equal = _compare("greater_equal")


def _condition(value: Value) -> Value:
    value = typed(decoded(value), pa.bool_())
    if not pa.types.is_boolean(value.type):
        raise TypeError(
            f"&, | and ~ take conditions, not values of type {value.type}; compare first: (a > 0) & b"
        )
    return value


def and_(left: Value, right: Value) -> Value:
    """And with unknowns: false and null is false."""
    return pc.and_kleene(_condition(left), _condition(right))


def or_(left: Value, right: Value) -> Value:
    """Or with unknowns: true or null is true."""
    return pc.or_kleene(_condition(left), _condition(right))


def invert(value: Value) -> Value:
    """Not; of null it is null."""
    return pc.invert(_condition(value))


def is_null(value: Value) -> Value:
    """True where there is no value; NaN is a value."""
    return pc.is_null(value)


def is_not_null(value: Value) -> Value:
    """True where there is a value."""
    return pc.is_valid(value)


def is_in(value: Value, values: Any) -> Value:
    """True where the value is one of a list; null is in it if None is in the list."""
    value = decoded(value)
    wanted = values if isinstance(values, (pa.Array, pa.ChunkedArray)) else pa.array(list(values))
    wanted = decoded(as_array(wanted))
    if pa.types.is_null(value.type):
        value = typed(value, wanted.type) if not pa.types.is_null(wanted.type) else typed(value, pa.int64())
    if wanted.type != value.type:
        wanted, value = _same_type(wanted, value)
    return pc.is_in(value, value_set=wanted)


def _same_type(wanted: pa.Array, value: Value) -> tuple[pa.Array, Value]:
    try:
        return wanted.cast(value.type), value
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return wanted, value.cast(wanted.type)


def not_in(value: Value, values: Any) -> Value:
    """True where the value is none of a list."""
    return pc.invert(is_in(value, values))


def fill_null(value: Value, other: Value) -> Value:
    """Return the value, or the other where there is none."""
    value, other = _pair(value, other)
    if pa.types.is_null(value.type):
        return value
    if value.type == other.type:
        return pc.coalesce(value, other)
    if pa.types.is_floating(other.type) and _is_integer(value):
        return pc.coalesce(_as_float(value), _as_float(other))
    return pc.coalesce(value, other.cast(value.type))
