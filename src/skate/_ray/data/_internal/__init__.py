"""The names of ``ray.data._internal`` that public code uses. The rest of it is left out."""

from __future__ import annotations

from skate._ray._missing import below


def __getattr__(name: str) -> object:
    return below(__name__, name)
