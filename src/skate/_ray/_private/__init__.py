"""``ray._private``: see ``skate._ray``."""

from __future__ import annotations

import importlib

from skate._ray._missing import missing

_MODULES = ("internal_api", "services", "utils", "worker")

__all__ = list(_MODULES)


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    return missing(__name__, name)
