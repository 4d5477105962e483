"""Tells generators and coroutines from other callables by their code, without ``inspect``, whose import takes
10 ms."""

from __future__ import annotations

import functools
from types import MethodType
from typing import Any

# As in ``inspect``.
CO_GENERATOR, CO_COROUTINE, CO_ASYNC_GENERATOR = 0x20, 0x80, 0x200

#: The most decorators of one function that are followed (count).
_MAX_DECORATORS = 100


def code_flags(function: Any) -> int:
    """Return the flags of a function's code: whether it is a generator, a coroutine, ...

    Args:
        function: any callable. For an object, its class's ``__call__`` counts; for code that is no Python, 0
            is returned.
    """
    while True:
        if isinstance(function, functools.partial):
            function = function.func
        elif isinstance(function, (MethodType, classmethod, staticmethod)):
            function = function.__func__
        else:
            break
    code = getattr(function, "__code__", None)
    if code is None:
        code = getattr(getattr(type(function), "__call__", None), "__code__", None)  # noqa: B004
    flags: int = getattr(code, "co_flags", 0)
    return flags


def is_coroutine(function: Any) -> bool:
    """Tell whether a callable is an ``async def``, also below decorators (``functools.wraps``)."""
    return _has(function, CO_COROUTINE, decorated=True)


def is_generator(function: Any, *, decorated: bool = False) -> bool:
    """Tell whether a call of it makes a generator, sync or async.

    Args:
        function: any callable.
        decorated: look below decorators (``functools.wraps``), as Ray does for methods.
    """
    return _has(function, CO_GENERATOR | CO_ASYNC_GENERATOR, decorated=decorated)


def _has(function: Any, flags: int, *, decorated: bool) -> bool:
    for _ in range(_MAX_DECORATORS if decorated else 1):
        if code_flags(function) & flags:
            return True
        function = getattr(function, "__wrapped__", None)
        if function is None:
            break
    return False
