"""Pickles objects that the standard library makes of functions, for processes that cannot import them.

Pickle knows some of these objects by name only (``functools.lru_cache`` returns such), and some not at all
(``singledispatch``, ``cached_property``). Where the name does not lead to the object in the other process, as
with everything of ``__main__``, the object is made anew from the functions in it: a cache starts empty.

Functions may refer to the object that is made of them: ``fib`` calls the cached ``fib``. The object is
therefore made first, and gets its names, attributes and further functions later (``state``).
"""

from __future__ import annotations

import functools
import sys
import typing
from collections.abc import Callable
from types import CodeType, FunctionType
from typing import Any

from skate._base.class_proxy import ClassProxy, ProxySuper

#: The type of what ``functools.lru_cache`` and ``cache`` return.
CACHED = type(functools.lru_cache(lambda: None))
#: ... variables of types. (cloudpickle knows the commonest, TypeVar.)
_VARIABLES = frozenset({typing.ParamSpec, getattr(typing, "TypeVarTuple", typing.ParamSpec)})
#: Types whose instances pickle knows by their names only.
KNOWN_BY_NAME = frozenset({CACHED, typing.NewType}) | _VARIABLES
#: Types that ``reduce`` is for.
KINDS = KNOWN_BY_NAME | {functools.cached_property, functools.singledispatchmethod}

#: The code of every function that ``functools.singledispatch`` returns.
_DISPATCH: CodeType = functools.singledispatch(lambda one: None).__code__  # type: ignore[attr-defined]
_NAMES = ("__module__", "__name__", "__qualname__", "__doc__")


def by_name(obj: Any) -> bool:
    """Tell whether the module of a class, a function or the like has that very object under its name."""
    found: Any = sys.modules.get(getattr(obj, "__module__", None) or "")
    for name in (getattr(obj, "__qualname__", "") or getattr(obj, "__name__", "")).split("."):
        found = getattr(found, name, None)
    return found is obj


def reduce(obj: Any) -> tuple[Any, ...] | None:
    """Return how an object that cannot be found by its name is pickled; None: this module does not handle
    it."""
    kind = type(obj)
    if kind is CACHED:
        parameters = obj.cache_parameters()
        attributes = {name: value for name, value in vars(obj).items() if name != "cache_parameters"}
        return (
            _make_cached,
            (obj.__wrapped__, parameters["maxsize"], parameters["typed"]),
            (_names(obj), attributes),
            None,
            None,
            _set_state,
        )
    if kind is typing.NewType:
        return typing.NewType, (obj.__qualname__, obj.__supertype__), {"__module__": obj.__module__}
    if kind in _VARIABLES:
        return _make_variable, (kind, obj.__name__, obj.__module__)
    if kind is functools.cached_property:
        # Its lock (before Python 3.12) is its own.
        state = {name: value for name, value in vars(obj).items() if name != "lock"}
        return _make_property, (obj.func,), state
    if kind is functools.singledispatchmethod:
        # Its cache (from Python 3.13 on) is its own.
        return _make_method, (), {name: value for name, value in vars(obj).items() if name != "_method_cache"}
    return None


def reduce_function(function: FunctionType) -> tuple[Any, ...] | None:
    """Return how a dispatching function is pickled; None: it is another function."""
    if function.__code__ is not _DISPATCH:
        return None
    registered = list(function.registry.items())  # type: ignore[attr-defined]
    attributes = {name: value for name, value in vars(function).items() if name not in _DISPATCH_PARTS}
    return (
        _make_dispatching,
        (function.__name__,),
        (registered, _names(function), attributes),
        None,
        None,
        _set_registered,
    )


def with_super(function: FunctionType, reduced: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return how a function is pickled, with a ``super`` that takes proxies for classes if it needs one."""
    names = reduced[2][1]["__globals__"]
    if "super" not in names and _names_super(function.__code__) and _knows_proxy(function, names):
        names["super"] = ProxySuper
    return reduced


def _names_super(code: CodeType) -> bool:
    if "super" in code.co_names:
        return True
    return any(isinstance(part, CodeType) and _names_super(part) for part in code.co_consts)


def _knows_proxy(function: FunctionType, names: dict[str, Any]) -> bool:
    if any(isinstance(value, ClassProxy) for value in names.values()):
        return True
    for cell in function.__closure__ or ():
        try:
            if isinstance(cell.cell_contents, ClassProxy):
                return True
        except ValueError:
            pass  # not assigned yet
    return False


# ---------------------------------------------------------------------- in the other process


def _names(obj: Any) -> dict[str, Any]:
    return {name: getattr(obj, name) for name in _NAMES if hasattr(obj, name)}


def _set_state(made: Any, state: tuple[dict[str, Any], dict[str, Any]]) -> None:
    names, attributes = state
    for name, value in names.items():
        setattr(made, name, value)
    made.__dict__.update(attributes)


def _make_cached(function: Callable[..., Any], maxsize: int | None, typed: bool) -> Any:
    return functools.lru_cache(maxsize, typed)(function)


def _make_variable(kind: Any, name: str, module: str) -> Any:
    made = kind(name)
    try:
        made.__module__ = module
    except AttributeError:
        pass  # some versions of Python take it from the caller, and do not let it be set
    return made


def _make_property(function: Callable[..., Any]) -> Any:
    return functools.cached_property(function)


def _make_method() -> Any:
    return functools.singledispatchmethod(lambda self: None)


def _make_dispatching(name: str) -> Any:
    def nothing(*args: Any) -> None:
        """Stand for the function of ``object`` until that exists."""

    nothing.__name__ = name
    return functools.singledispatch(nothing)


def _set_registered(made: Any, state: tuple[list[tuple[type, Any]], dict[str, Any], dict[str, Any]]) -> None:
    registered, names, attributes = state
    for kind, function in registered:
        made.register(kind, function)
    _set_state(made, (names, attributes))


#: Attributes of a dispatching function that its making gives it.
_DISPATCH_PARTS = frozenset(vars(_make_dispatching("nothing"))) - {"__wrapped__"}
