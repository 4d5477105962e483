"""Values of users as data that always pickles."""

from __future__ import annotations

from typing import Any

from skate.data._previews import cell, short


def pickler() -> Any:
    """Return ``skate.cloudpickle``."""
    # The first error that travels imports it, and the session's objects with it: small plans do without.
    from skate import cloudpickle

    return cloudpickle


def packed_value(value: Any) -> tuple[bool, Any]:
    """Return a value as plain data or bytes; one that cannot be pickled becomes its text."""
    if value is None or type(value) in (int, float, str, bool, bytes):
        return False, value
    try:
        return True, pickler().dumps(value)
    except BaseException:
        return False, short(cell(value))


def unpacked_value(packed: tuple[bool, Any]) -> Any:
    """Return what ``packed_value`` packed; never raises."""
    pickled, value = packed
    if not pickled:
        return value
    try:
        return pickler().loads(value)
    except BaseException as problem:
        return f"<cannot be unpickled here: {type(problem).__name__}>"
