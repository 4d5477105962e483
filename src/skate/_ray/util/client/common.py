"""``ray.util.client.common``: types that values have behind a client. There is none, so no value has them."""

from __future__ import annotations

from skate._ray._missing import missing

__all__ = ["ClientActorClass", "ClientActorHandle", "ClientObjectRef", "ClientRemoteFunc"]


class ClientObjectRef:
    """An ObjectRef behind a client."""


class ClientActorHandle:
    """An actor's handle behind a client."""


class ClientActorClass:
    """An actor class behind a client."""


class ClientRemoteFunc:
    """A remote function behind a client."""


def __getattr__(name: str) -> object:
    return missing(__name__, name)
