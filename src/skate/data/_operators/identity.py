"""Identities of users' functions from one run of a program to the next.

Pickles do not serve: they name classes of a script by random numbers, and put sets in an order that each
process draws anew. Here a function is its source with what it closes over, a class its source, an object its
class and its state.
"""

from __future__ import annotations

import functools
import inspect
import io
import pickle
import textwrap
import types
from typing import Any

_UNKNOWN = b"unpicklable "


def identity(value: Any) -> bytes:
    """Return bytes that are equal for equal values, in this and every other process.

    Functions that a function calls and values of its module do not count, values that it closes over do.

    Args:
        value: a function, a class, or data that has some in it.
    """
    if (isinstance(value, type) or _is_plain(value)) and value.__name__ != "<lambda>":
        source = _source(value)
        if source is not None:
            return source.encode()
    file = io.BytesIO()
    try:
        _Describer(file).dump(value)
    except Exception:
        # It cannot travel, so the run fails with a better error; for the hash its type is enough.
        return _UNKNOWN + type(value).__qualname__.encode()
    return file.getvalue()


def is_known(found: bytes) -> bool:
    """Tell whether an identity is of one value; one that cannot be pickled has that of its type."""
    return not found.startswith(_UNKNOWN)


def _is_plain(value: Any) -> bool:
    return (
        isinstance(value, types.FunctionType)
        and not value.__closure__
        and not value.__defaults__
        and not value.__kwdefaults__
    )


class _Describer(pickle._Pickler):
    """Writes what is the same in every process. Its output is compared, never loaded."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=4)
        self._open: set[int] = set()

    def memoize(self, value: Any) -> None:
        # Whether two equal texts are one object is a matter of chance.
        if not isinstance(value, (str, bytes, tuple)):
            super().memoize(value)  # type: ignore[misc]  # not in its stub

    def reducer_override(self, value: Any) -> Any:
        if value is _described:
            return NotImplemented
        if isinstance(value, types.FunctionType):
            return self._parts(value, lambda: _function(value))
        if isinstance(value, types.MethodType):
            return self._parts(value, lambda: ("method", value.__func__, value.__self__))
        if isinstance(value, functools.partial):
            return self._parts(value, lambda: ("partial", value.func, value.args, value.keywords))
        if isinstance(value, type) and value.__module__ != "builtins":
            return self._parts(value, lambda: _class(value))
        if isinstance(value, types.ModuleType):
            return _described, ("module", value.__name__)
        if isinstance(value, (set, frozenset)):
            return _described, (type(value).__name__, sorted(identity(one) for one in value))
        if isinstance(value, types.CodeType):
            return _described, _code(value)
        return NotImplemented

    def _parts(self, value: Any, parts: Any) -> Any:
        if id(value) in self._open:
            return _described, ("again",)  # a function that closes over itself
        self._open.add(id(value))
        return _described, parts()


def _described(*parts: Any) -> Any:
    """Stand for a value in a description."""


def _function(value: types.FunctionType) -> tuple[Any, ...]:
    source = None if value.__name__ == "<lambda>" else _source(value)  # two lambdas may be in one line
    closed = []
    for cell in value.__closure__ or ():
        try:
            closed.append(cell.cell_contents)
        except ValueError:
            closed.append("empty")
    code = _code(value.__code__) if source is None else source
    return "function", code, value.__defaults__, value.__kwdefaults__, closed


def _class(value: type) -> tuple[Any, ...]:
    where = f"{value.__module__}.{value.__qualname__}"
    if value.__module__ != "__main__" and "<" not in value.__qualname__:
        return "class", where  # what a module has under that name is its author's concern
    source = _source(value)
    return (
        ("class", where, source) if source is not None else ("class", where, value.__bases__, _members(value))
    )


def _members(value: type) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, member in sorted(vars(value).items()):
        if isinstance(member, (staticmethod, classmethod)):
            member = member.__func__
        elif isinstance(member, property):
            member = member.fget
        if isinstance(member, (types.FunctionType, bool, int, float, str, bytes, tuple)):
            found.append((name, member))
    return found


def _code(code: types.CodeType) -> tuple[Any, ...]:
    return "code", code.co_code, code.co_consts, code.co_names, code.co_varnames


def _source(value: Any) -> str | None:
    try:
        return textwrap.dedent(inspect.getsource(value))
    except (OSError, TypeError, SyntaxError):
        return None  # typed at a prompt, or compiled
