"""Checks of options, wherever they are written."""

from __future__ import annotations

import math
from typing import Any


class ValidationError(ValueError):
    """An option has a value that it cannot have."""


def check_whole(name: str, value: Any, least: int, is_optional: bool = False) -> None:
    """Raise unless an option's value is a whole number from ``least``."""
    if value is None and is_optional:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValidationError(f"{name} takes a whole number from {least}, got {value!r}")


def check_number(name: str, value: Any, is_positive: bool = False, is_optional: bool = False) -> None:
    """Raise unless an option's value is a number from 0, or above 0."""
    if value is None and is_optional:
        return
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= value < math.inf or (is_positive and value == 0):
        raise ValidationError(f"{name} takes a number {'above' if is_positive else 'from'} 0, got {value!r}")
