"""Contains modules whose interfaces may still change. They are imported by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from skate.experimental.locations import get_local_object_locations as get_local_object_locations
    from skate.experimental.locations import get_object_locations as get_object_locations

_LOCATIONS = ("get_local_object_locations", "get_object_locations")

__all__ = list(_LOCATIONS)


def __getattr__(name: str) -> object:
    if name not in _LOCATIONS:
        raise AttributeError(f"module 'skate.experimental' has no attribute {name!r}")
    from importlib import import_module

    found: object = getattr(import_module("skate.experimental.locations"), name)
    globals()[name] = found
    return found
