"""``ray.worker``: the older name of ``ray._private.worker``."""

from __future__ import annotations

from skate._ray._missing import missing
from skate._ray._private import worker


def __getattr__(name: str) -> object:
    if name.startswith("__"):
        missing(__name__, name)
    return getattr(worker, name)


def __dir__() -> list[str]:
    return dir(worker)
