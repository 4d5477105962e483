"""Checks of options that several verbs take: errors name verb and option, what came, and what is allowed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skate.data._options import column_name
from skate.data._previews import cell, kind
from skate.data.expressions import Expr


def flag(verb: str, option: str, value: Any) -> bool:
    """Return a switch; None, 0, 1 and the booleans of numpy are taken.

    Raises:
        TypeError: anything else, such as the text ``"False"``, which is true.
    """
    kind_of = type(value)
    if value is None or (isinstance(value, int) and value in (0, 1)):
        return bool(value)
    if kind_of.__module__ == "numpy" and kind_of.__name__ in ("bool", "bool_"):
        return bool(value)
    raise TypeError(f"{verb}({option}=) must be True or False, got {cell(value)}")


def text_or_none(verb: str, option: str, value: Any) -> str | None:
    """Return text, or None.

    Raises:
        TypeError: it is neither.
    """
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{verb}({option}=) must be text or None, got {kind(value)}: {cell(value)}")
    return value


def whole_number(verb: str, option: str, value: Any, least: int | None = None) -> int:
    """Return a number; those of numpy are taken.

    Args:
        verb: for the error.
        option: for the error.
        value: what the user gave.
        least: the smallest that is allowed; None: any.

    Raises:
        TypeError: it is no whole number.
        ValueError: it is too small.
    """
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{verb}({option}=) must be a whole number, got {cell(value)}")
    number = int(value.__index__())
    if least is not None and number < least:
        raise ValueError(f"{verb}({option}=) must be at least {least}, got {number}")
    return number


def number(verb: str, option: str, value: Any) -> float:
    """Return a number.

    Raises:
        TypeError: it is none.
    """
    if isinstance(value, bool) or not (isinstance(value, (int, float)) or hasattr(value, "__float__")):
        raise TypeError(f"{verb}({option}=) must be a number, got {cell(value)}")
    return value  # type: ignore[no-any-return]


def count_or_none(verb: str, option: str, value: Any) -> int | None:
    """Return a number of at least 1, or None."""
    return None if value is None else whole_number(verb, option, value, 1)


def listed(verb: str, option: str, value: Any, of: str) -> list[Any]:
    """Return what a user gave as a list.

    Raises:
        TypeError: it is text, a dict, or nothing that has items.
    """
    if isinstance(value, (str, bytes, Mapping)) or not hasattr(value, "__iter__"):
        raise TypeError(f"{verb}({option}) takes a list of {of}, got {kind(value)}: {cell(value)}")
    return list(value)


def task_options(verb: str, given: Mapping[str, Any]) -> None:
    """Check options of tasks and actors now instead of where the first task is submitted.

    Raises:
        TypeError, ValueError: as ``skate.remote`` raises them, with the verb.
    """
    if not given:
        return
    # Small data sets do without the session's API.
    from skate.options import ACTOR_OPTIONS, TASK_OPTIONS

    for name, value in given.items():
        _, check = TASK_OPTIONS.get(name) or ACTOR_OPTIONS[name]
        try:
            check(name, value)
        except (TypeError, ValueError) as error:
            wrong = TypeError if isinstance(error, TypeError) else ValueError
            raise wrong(f"{verb}({name}=): {error}") from None


def expression(verb: str, name: Any, expr: Any) -> None:
    """Check what a column is computed from, and its name.

    Raises:
        TypeError: the name is no text, or the other no expression.
    """
    column_name(verb, "column_name" if verb == "with_column" else "exprs", name)
    if not isinstance(expr, Expr):
        raise TypeError(
            f"{verb}({name!r}, ...) takes an expression such as col('x') * 2 or lit(1), got {cell(expr)}"
        )
