"""Questions about the cluster and the session: nodes, resources, names, the state of everything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from skate._base import errors
from skate._base.resources import to_float
from skate._launch.observe import Observer, find
from skate._starting import connected_engine
from skate._wire.control import NodeInfo
from skate.engine import engine, is_forked, require_engine
from skate.engine.interface import Engine, GroupRequest, StateSource
from skate.engine.session_state import SessionState


def actor_names(*, all_namespaces: bool) -> list[tuple[str, str]]:
    """Return (namespace, name) of the living named actors; see ``skate.util.list_named_actors``."""
    found = _connected()
    return found.actor_names(None if all_namespaces else found.identity().namespace)


def state_source() -> StateSource | None:
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


def nodes() -> list[dict[str, Any]]:
    """Return the nodes of the cluster: id, address, resources, whether alive."""
    return [
        {
            "NodeID": one.node_id.hex(),
            "Alive": one.alive,
            "alive": one.alive,
            "NodeManagerAddress": one.ip,
            "NodeManagerHostname": one.hostname,
            "NodeName": one.ip,
            "RayletSocketName": one.address,
            "Resources": _total([one], available=False),
            "Labels": one.labels,
        }
        for one in _connected().nodes()
    ]


def cluster_resources() -> dict[str, float]:
    """Return all resources of the cluster, by name: CPUs, bytes of memory, your own."""
    return _total(_connected().nodes(), available=False)


def available_resources() -> dict[str, float]:
    """Return the resources that are free, as of a few milliseconds ago; resources that are used up are
    absent."""
    return _total(_connected().nodes(), available=True)


def key_value(operation: str, namespace: bytes, key: bytes, value: bytes, overwrite: bool) -> Any:
    """Read or change the control store's key-value table; see ``skate.experimental.internal_kv``."""
    return _connected().key_value(operation, namespace, key, value, overwrite)


def stored_objects() -> tuple[dict[str, dict[str, Any]], str]:
    """Return what is in this node's store, by id in hex, and the node's id."""
    found = _connected()
    parts, _ = found.state("stored")
    rows = {row["object_id"]: row for _, _, found_rows in parts for row in found_rows}
    return rows, found.identity().node_id.hex()


def _connected() -> Engine:
    if engine() is None and not is_forked():
        raise errors.RaySystemError(
            "Ray has not been started yet: this process is not connected, so it cannot ask for the cluster's "
            "state; call init() first"
        )
    return require_engine("ask for the cluster's state")


def _total(nodes: Sequence[NodeInfo], *, available: bool) -> dict[str, float]:
    """Return the sum of the nodes' resources, in all or free; what is lent out counts as used."""
    total: dict[str, int] = {}
    for one in nodes:
        for name, units in (one.available if available else one.resources).items():
            total[name] = total.get(name, 0) + max(0, units)
    return to_float({name: units for name, units in total.items() if units > 0})


# ---------------------------------------------------------------------- placement groups


def create_placement_group(request: GroupRequest) -> bytes:
    """Make a placement group and return its id; start a session with the defaults if there is none."""
    return connected_engine().create_group(request)


def remove_placement_group(group_id: bytes) -> None:
    """Remove a placement group."""
    _connected().remove_group(group_id)


def named_placement_group(name: str) -> dict[str, Any]:
    """Return the row of the living placement group of a name in this namespace."""
    found = connected_engine().find_group(name, b"")
    assert found is not None
    return found


def placement_groups() -> list[dict[str, Any]]:
    """Return the rows of all placement groups."""
    return connected_engine().directory("groups")


def placement_group(group_id: bytes) -> dict[str, Any] | None:
    """Return the row of a placement group; None: this session does not know it."""
    return connected_engine().find_group("", group_id)


def current_placement_group() -> bytes:
    """Return the id of the placement group in which the caller runs; empty: in none."""
    found = engine()
    return found.current_group()[0] if found is not None else b""


def session_dir() -> str:
    """Return the folder of this process's session, which no other session has."""
    return _connected().session_dir
