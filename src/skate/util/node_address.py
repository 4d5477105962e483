"""Finds the address of this machine."""

from __future__ import annotations

import os
import socket

from skate import api, cluster
from skate.runtime_context import get_runtime_context


def get_node_ip_address(address: str | None = None) -> str:
    """Return the IP address of this machine.

    Args:
        address: ``host:port`` of another machine; the address from which this machine would reach it is
            returned. No packet is sent. None: in a session, the session's address of this node;
            otherwise the address that leads to the internet.

    Returns:
        The address in digits; 127.0.0.1 if the machine has no network.

    Example:
        >>> skate.util.get_node_ip_address()
        '127.0.0.1'
    """
    if address is None and api.is_initialized():
        mine = get_runtime_context().get_node_id()
        for node in cluster.nodes():
            if node["NodeID"] == mine:
                return str(node["NodeManagerAddress"])
    host, _, port = (address or "8.8.8.8:53").rpartition(":")
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((host, int(port)))
            return str(probe.getsockname()[0])
    except OSError:
        return "127.0.0.1"


def get_node_instance_id() -> str:
    """Return the cloud's name of this machine, from the variable RAY_CLOUD_INSTANCE_ID; else "".

    Example:
        >>> skate.util.get_node_instance_id()
        ''
    """
    return os.environ.get("RAY_CLOUD_INSTANCE_ID", "")
