"""All that is known of the applications as plain data, in the shape of Ray's ``ServeInstanceDetails``.
Decisions only: no I/O, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from skate.serve._controller import statuses
from skate.serve._controller.application import Application
from skate.serve._controller.deployment import Deployment
from skate.serve._targets import HTTPTarget

#: The options of HTTP that are shown; others are secrets.
_HTTP = ("host", "port", "root_path", "request_timeout_s", "keep_alive_timeout_s")


def of_instance(
    applications: Mapping[str, Application], http: HTTPTarget | None, actors: Mapping[str, Any], now: float
) -> dict[str, Any]:
    """Return how everything stands.

    Args:
        applications: by name.
        http: where HTTP is answered; None: it is off.
        actors: the handles of replicas, by id.
        now: on the controller's clock (seconds).
    """
    return {
        "controller_info": {},
        "proxy_location": "Disabled" if http is None else "EveryNode",
        "http_options": None if http is None else {name: getattr(http, name) for name in _HTTP},
        "proxies": {},
        "applications": {name: _application(name, one, actors, now) for name, one in applications.items()},
        "target_capacity": None,
    }


def _application(name: str, one: Application, actors: Mapping[str, Any], now: float) -> dict[str, Any]:
    status = one.status(now)
    target = one.target
    return {
        "name": name,
        "route_prefix": target.route_prefix,
        "docs_path": None,
        "status": status.status.value,
        "message": status.message,
        "last_deployed_time_s": status.last_deployed_time_s,
        "deployed_app_config": target.config,
        "source": "imperative" if target.config is None else "declarative",
        "external_scaler_enabled": target.external_scaler_enabled,
        "deployments": {
            inner: _deployment(inner, deployment, actors, now)
            for inner, deployment in one.deployments.items()
        },
    }


def _deployment(name: str, one: Deployment, actors: Mapping[str, Any], now: float) -> dict[str, Any]:
    status = statuses.of_deployment(one, now)
    target = one.target
    return {
        "name": name,
        "status": status.status.value,
        "status_trigger": status.status_trigger.value,
        "message": status.message,
        "deployment_config": None
        if target is None
        else {"name": name, **asdict(target.settings), "ray_actor_options": target.actor_options},
        "target_num_replicas": 0 if target is None else target.settings.num_replicas,
        "required_resources": {} if target is None else _resources(target.actor_options),
        "replicas": [
            {
                "replica_id": replica.id,
                "state": replica.state.value,
                "actor_id": actors[replica.id]._actor_id.hex() if replica.id in actors else None,
            }
            for replica in one.replicas.values()
        ],
    }


def _resources(options: Mapping[str, Any]) -> dict[str, float]:
    """Return what one replica holds."""
    found = {
        "CPU": options.get("num_cpus"),
        "GPU": options.get("num_gpus"),
        "memory": options.get("memory"),
        **(options.get("resources") or {}),
    }
    return {name: amount for name, amount in found.items() if amount}
