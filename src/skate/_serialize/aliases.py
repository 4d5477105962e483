"""Pickles aliases of types (``type Pair = tuple[int, int]``, Python 3.12) that other processes cannot import.

Pickle and cloudpickle know them by name only, and functions have them in their annotations.
"""

from __future__ import annotations

import typing
from typing import Any


def reduce(alias: Any) -> Any:
    """Return how an alias is pickled, with the type that it stands for; NotImplemented: by its name."""
    try:
        value = alias.__value__
    except Exception:  # the alias is evaluated only now, and a name in it may not exist
        return NotImplemented
    module, name, parameters = alias.__module__, alias.__name__, alias.__type_params__
    if parameters:
        if _mentions(value, alias, set()):
            return NotImplemented
        return _with_parameters, (module, name, value, parameters)
    # The alias comes first and its value afterwards, as the value may contain the alias.
    box: list[Any] = []
    return _empty, (module, name, box), (box, value), None, None, _fill


def _with_parameters(module: str, name: str, value: Any, parameters: tuple[Any, ...]) -> Any:
    # Python takes the alias's module from the caller.
    namespace = {"__name__": module, "typing": typing, "given": (name, value), "parameters": parameters}
    return eval("typing.TypeAliasType(*given, type_params=parameters)", namespace)  # noqa: S307


def _empty(module: str, name: str, box: list[Any]) -> Any:
    namespace: dict[str, Any] = {"__name__": module, "box": box}
    exec(f"type {name} = box[0]", namespace)  # noqa: S102  (its name is an identifier)
    return namespace[name]


def _fill(alias: Any, state: tuple[list[Any], Any]) -> None:
    box, value = state
    box.append(value)


def _mentions(value: Any, alias: Any, seen: set[int]) -> bool:
    if value is alias:
        return True
    if id(value) in seen:
        return False
    seen.add(id(value))
    parts = [getattr(value, "__origin__", None), *getattr(value, "__args__", ())]
    if type(value) is type(alias):
        parts.append(value.__value__)
    return any(_mentions(part, alias, seen) for part in parts)
