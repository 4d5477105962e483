"""Checks of single options, for verbs, readers, writers and operators: one rule and one text each.

An error names the option, says what is allowed, and what came, in a few words however large that is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skate.data._previews import cell, kind


def check_choice(name: str, value: Any, choices: tuple[Any, ...]) -> None:
    """Check that an option is one of some values.

    Args:
        name: of the option, for the error.
        value: what the user gave.
        choices: what is allowed.

    Raises:
        ValueError: it is none of them.
    """
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {cell(value)}")


def check_type(name: str, value: Any, types: type | tuple[type, ...], wanted: str) -> None:
    """Check that an option is of one of some types; a bool is no number.

    Args:
        name: of the option, for the error.
        value: what the user gave.
        types: what is allowed.
        wanted: the same in words: ``"a dict"``.

    Raises:
        TypeError: it is of another one.
    """
    allowed = types if isinstance(types, tuple) else (types,)
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        raise TypeError(f"{name} must be {wanted}, got {kind(value)}: {cell(value)}")


def check_positive(name: str, value: Any, *, integer: bool = True) -> None:
    """Check that an option is None or a number above 0.

    Args:
        name: of the option, for the error.
        value: what the user gave.
        integer: fractions are not allowed.

    Raises:
        TypeError: it is no number.
        ValueError: it is 0 or less.
    """
    if value is None:
        return
    check_type(name, value, int if integer else (int, float), "a positive number")
    if not value > 0:
        raise ValueError(f"{name} must be above 0, got {value!r}")


def column_names(verb: str, option: str, value: Any) -> tuple[str, ...]:
    """Return columns that a user named: a name, or several.

    Raises:
        TypeError: neither.
    """
    if isinstance(value, str):
        return (value,)
    if isinstance(value, Mapping) or not hasattr(value, "__iter__"):
        raise TypeError(
            f"{verb}({option}) takes a column or a list of columns, got {kind(value)}: {cell(value)}"
        )
    return tuple(column_name(verb, option, name) for name in value)


def column_name(verb: str, option: str, value: Any) -> str:
    """Return the name of one column.

    Raises:
        TypeError: it is no text.
    """
    if not isinstance(value, str):
        raise TypeError(f"{verb}({option}) takes names of columns, got {kind(value)}: {cell(value)}")
    return value
