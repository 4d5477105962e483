"""All that is known of the applications as plain data, which ``ServeInstanceDetails`` takes. Decisions only:
no I/O, no clock."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from skate.serve._controller import statuses
from skate.serve._controller.application import Application
from skate.serve._controller.deployment import Deployment
from skate.serve._options import known
from skate.serve._placement import resources_of, sum_of
from skate.serve._targets import Capacity, DeploymentTarget, HTTPTarget, Settings

#: The options of HTTP that are shown; others are secrets.
_HTTP = ("host", "port", "root_path", "request_timeout_s", "keep_alive_timeout_s")
#: Fields of settings that options have other names for.
_RENAMED = {
    "autoscaling": "autoscaling_config",
    "logging": "logging_config",
    "routing": "request_router_config",
}


def of_instance(
    applications: Mapping[str, Application],
    http: HTTPTarget | None,
    actors: Mapping[str, Any],
    capacity: Capacity | None,
    now: float,
) -> dict[str, Any]:
    """Return how everything stands, but for the facts of processes.

    Args:
        applications: by name.
        http: where HTTP is answered; None: it is off.
        actors: the handles of replicas, by id.
        capacity: the part of the replicas of config files that is to run.
        now: on the controller's clock (seconds).
    """
    return {
        "controller_info": {},
        "proxy_location": "Disabled" if http is None else "EveryNode",
        "http_options": None if http is None else {name: getattr(http, name) for name in _HTTP},
        "grpc_options": None,
        "proxies": {},
        "applications": {name: _application(name, one, actors, now) for name, one in applications.items()},
        "target_capacity": None if capacity is None else capacity.percent,
        "target_groups": [],
        "controller_health_metrics": {},
        "restores_unset_config_options": True,
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
            inner: _deployment(inner, deployment, target.deployments.get(inner), actors, now)
            for inner, deployment in one.deployments.items()
        },
        "deployment_topology": None,
    }


def _deployment(
    name: str, one: Deployment, wish: DeploymentTarget | None, actors: Mapping[str, Any], now: float
) -> dict[str, Any]:
    status = statuses.of_deployment(one, now)
    target = one.target
    wish = wish or target  # that counts all replicas, also those beyond the capacity
    return {
        "name": name,
        "status": status.status.value,
        "status_trigger": status.status_trigger.value,
        "message": status.message,
        "deployment_config": {"name": name} if wish is None else _config(name, wish),
        "target_num_replicas": 0 if target is None else target.settings.num_replicas,
        "required_resources": {} if target is None else _resources(target),
        "replicas": [
            {
                "replica_id": replica.id,
                "state": replica.state.value,
                "actor_id": actors[replica.id]._actor_id.hex() if replica.id in actors else None,
            }
            for replica in one.replicas.values()
        ],
        "recent_dead_replicas": [],
        "autoscaling_detail": None,
    }


def _config(name: str, target: DeploymentTarget) -> dict[str, Any]:
    """Return the options of a deployment, as a config file has them."""
    settings: Settings = target.settings
    found: dict[str, Any] = {"name": name}
    for key, value in asdict(settings).items():
        option = _RENAMED.get(key, key)
        if option in known() and (value is not None or option == "user_config"):
            found[option] = _plain(value)
    if settings.autoscaling is not None or not settings.num_replicas:
        del found["num_replicas"]
    if settings.autoscaling is not None:
        del found["autoscaling_config"]["policy"]  # a function of the user's is known here as bytes only
    found["backpressure_config"] = {
        "status_code": settings.backpressure_status_code,
        "retry_after_s": settings.backpressure_retry_after_s,
    }
    found["ray_actor_options"] = dict(target.actor_options)
    if target.bundles:
        found["placement_group_bundles"] = [*target.bundles]
        found["placement_group_strategy"] = target.strategy
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return value.value
    return {key: _plain(one) for key, one in value.items()} if isinstance(value, dict) else value


def _resources(target: DeploymentTarget) -> dict[str, float]:
    """Return what one replica holds."""
    return sum_of(target.bundles) if target.bundles else resources_of(target.actor_options)
