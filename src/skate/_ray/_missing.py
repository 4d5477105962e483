"""Raises errors for names that an alias module lacks."""

from __future__ import annotations

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
