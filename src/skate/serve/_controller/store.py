"""The controller's memory: the session's key-value table, which outlives it."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from skate.experimental import internal_kv as kv
from skate.serve._logging_config import LoggingConfig
from skate.serve._observing.ledger import Ledger
from skate.serve._targets import (
    ApplicationState,
    ApplicationTarget,
    Capacity,
    DeploymentTarget,
    HTTPTarget,
)

_NAMESPACE = b"skate.serve"


@dataclass(frozen=True)
class ReplicaRow:
    """A replica that was started, so that the next controller finds it."""

    id: str
    app_name: str
    deployment: str
    version: str
    #: It is an entrance for HTTP.
    is_door: bool
    #: It was ready: others may send requests to it.
    is_ready: bool = False


def save_application(state: ApplicationState) -> None:
    """Store what an application is to be, and was."""
    _put(f"app:{state.target.name}", state)


def forget_application(name: str) -> None:
    """Forget an application."""
    _delete(f"app:{name}")
    _delete(f"numbers:{name}")


def save_numbers(name: str, numbers: Mapping[str, int]) -> None:
    """Store how many replicas the deployments of an application have that scale automatically; there may be
    none."""
    if numbers:
        _put(f"numbers:{name}", dict(numbers))


def save_replica(row: ReplicaRow) -> None:
    """Store that a replica is about to start."""
    _put(f"replica:{row.id}", row)


def forget_replica(replica: str) -> None:
    """Forget a replica that has ended."""
    _delete(f"replica:{replica}")


def save_http(options: HTTPTarget) -> None:
    """Store where HTTP is answered."""
    _put("http", options)


def save_ledger(ledger: Ledger) -> None:
    """Store what all processes have counted."""
    _put("ledger", ledger)


def load_ledger() -> Ledger | None:
    """Return what was counted when the controller before looked last; None: it never did."""
    found: Ledger | None = _get(b"ledger")
    return found


def save_logging(config: LoggingConfig) -> None:
    """Store how replicas log, unless their application or deployment says."""
    _put("logging", config)


def load_logging() -> LoggingConfig | None:
    """Return it."""
    found: LoggingConfig | None = _get(b"logging")
    return found


def save_capacity(capacity: Capacity | None) -> None:
    """Store the part of all replicas that the last config file wanted to run."""
    _put("capacity", capacity)


def load_capacity() -> Capacity | None:
    """Return it."""
    found: Capacity | None = _get(b"capacity")
    return found


def load() -> tuple[list[ApplicationState], list[ReplicaRow], HTTPTarget | None]:
    """Return all that is stored: applications, replicas, options of HTTP."""
    applications = [_with_numbers(_get(key)) for key in kv._internal_kv_list("app:", namespace=_NAMESPACE)]
    replicas = [_get(key) for key in kv._internal_kv_list("replica:", namespace=_NAMESPACE)]
    return applications, replicas, _get(b"http")


def forget_all() -> None:
    """Forget everything: serve is shut down."""
    kv._internal_kv_del("", del_by_prefix=True, namespace=_NAMESPACE)


def _with_numbers(state: ApplicationState) -> ApplicationState:
    """Return the facts of an application with the numbers of replicas to which it was scaled."""
    numbers = _get(f"numbers:{state.target.name}".encode())
    if not numbers:
        return state
    target = _resized(state.target, numbers, state.capacity)
    good = state.good
    if good is not None:
        good = target if good is state.target else _resized(good, numbers, state.capacity)
    obsolete = _with_sizes(state.obsolete, numbers, state.capacity)
    return replace(state, target=target, good=good, obsolete=obsolete)


def _resized(
    target: ApplicationTarget, numbers: Mapping[str, int], capacity: Capacity | None
) -> ApplicationTarget:
    return replace(target, deployments=_with_sizes(target.deployments, numbers, capacity))


def _with_sizes(
    deployments: Mapping[str, DeploymentTarget], numbers: Mapping[str, int], capacity: Capacity | None
) -> dict[str, DeploymentTarget]:
    return {
        name: replace(one, settings=replace(one.settings, num_replicas=numbers[name]), capacity=capacity)
        if name in numbers and one.settings.autoscaling is not None
        else one
        for name, one in deployments.items()
    }


def _put(key: str, value: Any) -> None:
    kv._internal_kv_put(key, pickle.dumps(value), namespace=_NAMESPACE)


def _get(key: bytes) -> Any:
    found = kv._internal_kv_get(key, namespace=_NAMESPACE)
    return None if found is None else pickle.loads(found)


def _delete(key: str) -> None:
    kv._internal_kv_del(key, namespace=_NAMESPACE)
