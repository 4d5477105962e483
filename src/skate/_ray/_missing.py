"""Raises errors for names that an alias module lacks."""

from __future__ import annotations

import importlib
import importlib.util
from typing import NoReturn


def missing(module: str, name: str) -> NoReturn:
    """Raise the AttributeError of a module of Ray's that has no such name here.

    Args:
        module: the alias's ``__name__``.
        name: what was asked for.
    """
    ray = "ray" + module.removeprefix("skate._ray")
    if name.startswith("__"):
        raise AttributeError(f"module {ray!r} has no attribute {name!r}")
    raise AttributeError(f"skate has no {ray}.{name} (yet): it is a part of Ray's insides that skate lacks")


def below(package: str, name: str) -> object:
    """Return a module of an alias package, imported now; raise AttributeError if there is none.

    Args:
        package: the alias's ``__name__``.
        name: what was asked for.
    """
    full = f"{package}.{name}"
    if name.startswith("__") or importlib.util.find_spec(full) is None:
        missing(package, name)
    return importlib.import_module(full)
