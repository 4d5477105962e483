"""``ray.util.client``: ``ray``, and whether this process is a client. It never is: see ``client_connect``."""

from __future__ import annotations

from typing import Any

import skate
from skate._as_ray import modules
from skate._ray._missing import missing

__all__ = ["RayAPIStub", "num_connected_contexts", "ray"]


class RayAPIStub:
    """Stands for the API through a client: it is the API itself.

    Example:
        >>> from ray.util.client import ray
        >>> ray.is_connected()
        False
    """

    def is_connected(self) -> bool:
        """Return whether this process is connected to a session."""
        return skate.is_initialized()

    def connect(self, conn_str: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """See ``ray.util.connect``."""
        from skate._ray.util import client_connect

        return client_connect.connect(conn_str, *args, **kwargs)

    def disconnect(self) -> None:
        """Leave the session."""
        skate.shutdown()

    def __getattr__(self, name: str) -> Any:
        return getattr(modules.module("ray"), name)


ray = RayAPIStub()


def num_connected_contexts() -> int:
    """Return 0: no session is reached through a client."""
    return 0


def __getattr__(name: str) -> object:
    return missing(__name__, name)
