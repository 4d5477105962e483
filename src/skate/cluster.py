"""Questions about the cluster and the session: nodes, resources, names, the state of everything."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from skate._base import errors
from skate._launch.observe import Observer, find
from skate._worker.process import current
from skate.engine import RuntimeEngine, SessionState, cluster_total, engine
from skate.remote_function import connected_engine


def actor_names(*, all_namespaces: bool) -> list[tuple[str, str]]:
    """Return (namespace, name) of the living named actors; see ``skate.util.list_named_actors``."""
    found = _connected()
    return found.actor_names(None if all_namespaces else found.core.context.namespace)


def state_source() -> RuntimeEngine | None:
    """Return what tells the state of this process's session, or None; see ``skate.util.state``."""
    return engine()


@contextmanager
def observe(address: str | None) -> Iterator[SessionState]:
    """Look at a running session from outside, without being a driver; see ``skate.util.state``.

    Raises:
        ConnectionError: there is none.
    """
    with Observer(find(address)) as observer:
        yield SessionState(observer.ask_node, observer.ask_control, observer.session_dir)


def timeline(filename: str | None = None) -> list[dict[str, Any]] | None:
    """Tell when which worker ran what: a Chrome trace, for chrome://tracing or ui.perfetto.dev.

    Args:
        filename: write it there, as JSON; None: return it.

    Returns:
        The list of events, or None if it was written to a file.

    Example:
        >>> skate.timeline("trace.json")
    """
    import json

    current.require_core("timeline")
    # By name: the state API is built on this module.
    merge = importlib.import_module("skate.util.state.merge")
    with importlib.import_module("skate.util.state.source").connected() as state:
        events: list[dict[str, Any]] = merge.timeline(state.tasks())
    if filename is None:
        return events
    with open(filename, "w", encoding="utf-8") as file:
        json.dump(events, file)
    return None


def nodes() -> list[dict[str, Any]]:
    """Return the nodes of the cluster: id, address, resources, whether alive."""
    return [
        {
            "NodeID": one.node_id.hex(),
            "Alive": one.alive,
            "alive": one.alive,
            "NodeManagerAddress": "127.0.0.1",
            "NodeManagerHostname": one.hostname,
            "NodeName": "127.0.0.1",
            "RayletSocketName": one.address,
            "Resources": cluster_total([one], available=False),
            "Labels": one.labels,
        }
        for one in _connected().nodes()
    ]


def cluster_resources() -> dict[str, float]:
    """Return all resources of the cluster, by name: CPUs, bytes of memory, your own."""
    return cluster_total(_connected().nodes(), available=False)


def available_resources() -> dict[str, float]:
    """Return the resources that nobody uses just now, a few milliseconds old; what is used up is absent."""
    return cluster_total(_connected().nodes(), available=True)


def key_value(operation: str, namespace: bytes, key: bytes, value: bytes, overwrite: bool) -> Any:
    """Read or change the control store's key-value table; see ``skate.experimental.internal_kv``."""
    return _connected().key_value(operation, namespace, key, value, overwrite)


def stored_objects() -> tuple[dict[str, dict[str, Any]], str]:
    """Return what is in this node's store, by id in hex, and the node's id."""
    found = _connected()
    parts, _ = found.state("stored")
    rows = {row["object_id"]: row for _, _, told in parts for row in told}
    return rows, found.core.context.node_id.hex()


def _connected() -> RuntimeEngine:
    if current.process.core is None and not current.process.forked:
        raise errors.RaySystemError(
            "Ray has not been started yet: this process is not connected, so it cannot ask for the cluster's "
            "state; call init() first"
        )
    current.require_core("ask for the cluster's state")
    return connected_engine()
