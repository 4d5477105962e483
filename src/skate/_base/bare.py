"""Takes exceptions apart and makes them again without running code of their classes.

A constructor often takes something else than the exception's ``args``, and a class may refuse attributes (a
frozen dataclass) or compute them. So this module calls neither the constructor nor ``__setattr__``. An
exception consists of its ``args``, its dictionary and its slots.
"""

from __future__ import annotations

import copyreg
from typing import Any

from skate._base.user_errors import (
    args_of,
    attributes_of,
    bases_of,
    fields_of,
    found_in,
    is_native,
    native_type,
    set_args,
)

#: A class that defines one of these methods has a way of its own to be pickled.
_HOOKS = ("__reduce__", "__reduce_ex__", "__setstate__", "__getstate__")


def is_bare(kind: type[BaseException]) -> bool:
    """Tell whether a user's class pickles as its built-in type does, so that this module can do it."""
    if is_native(kind) or any(found_in(kind, name) is not None for name in _HOOKS):
        return False
    return all(kind is not registered for registered in copyreg.dispatch_table)


def parts_of(error: BaseException) -> tuple[type[BaseException], tuple[Any, ...], dict[str, Any]]:
    """Return class, ``args`` and attributes of an exception; ``make_bare`` takes them."""
    kind = type(error)
    attributes: dict[str, Any] = {}
    for base, name, field in fields_of(kind):
        if not is_native(base) and name not in attributes:
            try:
                attributes[name] = field.__get__(error)
            except AttributeError:
                pass  # this slot was never set
    try:
        # The built-in type's own ``__reduce__`` returns the fields that it keeps besides (OSError,
        # ImportError).
        _, args, *state = native_type(kind).__reduce__(error)
    except Exception:
        return kind, args_of(error), attributes | attributes_of(error)
    return kind, args, attributes | (state[0] if state and state[0] else {})


def make_bare(kind: type[BaseException], args: tuple[Any, ...], attributes: dict[str, Any]) -> BaseException:
    """Make an exception from its parts; no code of its class runs."""
    native = native_type(kind)
    try:
        error: BaseException = native.__new__(kind, *args)
    except TypeError:  # the layout is that of a C type outside of Python's own
        error = kind.__new__(kind, *args)
        set_args(error, args)
    else:
        native.__init__(error, *args)
    for name, value in attributes.items():
        _set(error, name, value)
    return error


def copy_fields(error: BaseException, target: BaseException) -> None:
    """Give ``target``, whose class derives from that of ``error``, its slots and the fields of built-in types
    (``errno``, ``code``, ...)."""
    for _, _, field in fields_of(type(error)):
        try:
            value = field.__get__(error)
            if value is not None:
                field.__set__(target, value)
        except Exception:
            pass  # not filled, or read-only


def _set(error: BaseException, name: str, value: Any) -> None:
    for base in bases_of(type(error)):
        field = type.__dict__["__dict__"].__get__(base).get(name)
        if field is not None and hasattr(type(field), "__set__") and hasattr(type(field), "__objclass__"):
            try:
                field.__set__(error, value)
                return
            except Exception:
                break
    attributes_of(error)[name] = value
