"""Adds the names of ``ray.util`` that ``skate.util`` lacks."""

from __future__ import annotations

from typing import Any

from skate._ray._missing import missing
from skate._ray.util import client_connect

__all__ = ["connect", "disconnect"]


def connect(conn_str: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """Join the session of another process on this machine. See ``ray.util.client_connect.connect``."""
    return client_connect.connect(conn_str, *args, **kwargs)


def disconnect() -> None:
    """Leave the session that ``connect`` joined."""
    client_connect.disconnect()


def __getattr__(name: str) -> object:
    return missing(__name__, name)
