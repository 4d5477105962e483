"""``ray._private.services``: this node's address."""

from __future__ import annotations

from skate._ray._missing import missing
from skate.util import get_node_ip_address

__all__ = ["get_node_ip_address"]


def __getattr__(name: str) -> object:
    return missing(__name__, name)
