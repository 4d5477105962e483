"""Exceptions without their classes' own constructors: what they are made of, and how they are made again."""

from __future__ import annotations

import builtins
from typing import Any


def native_type(kind: type[BaseException]) -> Any:
    """Return the built-in exception type whose layout a class has."""
    native: Any = kind
    while getattr(builtins, native.__name__, None) is not native:
        native = native.__base__
    return native


def slots_of(kind: type) -> list[str]:
    """Return the names of all slots that a class and those above it declare."""
    found: list[str] = []
    for base in kind.__mro__:
        slots = base.__dict__.get("__slots__", ())
        found += (slots,) if isinstance(slots, str) else slots
    return found


class Bare(Exception):
    """Stands in a pickle for an exception that is made again without its constructor, which often takes
    something else than the exception's ``args``: what it holds is these and its attributes."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> tuple[Any, ...]:
        error: Any = self.error
        kind, args, *state = error.__reduce__()
        attributes = {name: getattr(error, name) for name in slots_of(kind) if hasattr(error, name)}
        return _make_bare, (kind, args, attributes | (state[0] if state else {}))


def is_bare(kind: type[BaseException]) -> bool:
    """Whether a class has a constructor of its own, and pickles as its built-in type does."""
    native: Any = native_type(kind)
    return kind.__init__ is not native.__init__ and all(
        getattr(kind, name) is getattr(native, name)
        for name in ("__reduce__", "__reduce_ex__", "__setstate__")
    )


def _make_bare(kind: type[BaseException], args: tuple[Any, ...], attributes: dict[str, Any]) -> BaseException:
    native = native_type(kind)
    error: BaseException = native.__new__(kind, *args)
    native.__init__(error, *args)
    for name, value in attributes.items():
        # Not by the type's own __setattr__: that of a frozen dataclass refuses.
        BaseException.__setattr__(error, name, value)
    return error
