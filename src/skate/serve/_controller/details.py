"""All that is known of the applications as plain data, in the shape of Ray's ``ServeInstanceDetails``.
Decisions only: no I/O, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from skate.serve._controller import statuses
from skate.serve._controller.application import Application
from skate.serve._controller.deployment import Deployment
from skate.serve._placement import resources_of, sum_of
from skate.serve._targets import DeploymentTarget, HTTPTarget

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
        else {"name": name, **asdict(target.settings), **_placement(target)},
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
    }


def _placement(target: DeploymentTarget) -> dict[str, Any]:
    """Return the options that say where a deployment's replicas run."""
    found: dict[str, Any] = {"ray_actor_options": target.actor_options}
    if target.bundles:
        found["placement_group_bundles"] = [*target.bundles]
        found["placement_group_strategy"] = target.strategy
    return found


def _resources(target: DeploymentTarget) -> dict[str, float]:
    """Return what one replica holds."""
    return sum_of(target.bundles) if target.bundles else resources_of(target.actor_options)
