"""Names of Ray Serve's that are not there, and the reasons."""

from __future__ import annotations

_LATER = "it is not built yet"

_REASONS: dict[str, str] = {
    "ControllerOptions": _LATER,
    "TracingConfig": _LATER,
    "RayActorOptionsSchema": "ray_actor_options is a dict, in files and in code",
    "ProxyDetails": "there are no proxies: replicas answer HTTP themselves",
    "get_deployment_actor": f"{_LATER}: start a named actor and get it by skate.get_actor",
    "get_deployment_actor_context": _LATER,
    "DeploymentActorConfig": _LATER,
    "GangSchedulingConfig": _LATER,
    "llm": f"{_LATER}: skate.serve.openai has OpenAI's API for a model of yours",
    "placement_group_bundle_label_selector": _LATER,
    "gang_scheduling_config": _LATER,
    "deployment_actors": _LATER,
    "controller_options": _LATER,
    "tracing_config": _LATER,
    "DeploymentHandle.choose_replica": _LATER,
    "DeploymentHandle.dispatch": _LATER,
    "a session on a Ray cluster": "its workers are not notified when another process ends, so credits would "
    "be lost. Use Ray Serve there (`from ray import serve`), or run this program on skate's own runtime: "
    "without SKATE_ENGINE=ray and init(address='ray')",
    "several nodes": _LATER,
}


class LeftOutError(NotImplementedError, AttributeError):
    """A name of Ray Serve's that is not there; ``hasattr`` is False for it."""


def reason(name: str) -> str | None:
    """Return why a name of Ray Serve's is not there and what to do instead, or None."""
    return _REASONS.get(name)


def refuse(name: str) -> LeftOutError:
    """Return the error of a name that is not there."""
    return LeftOutError(f"{name} is not in skate.serve: {_REASONS[name]}.")


def names() -> list[str]:
    """Return all names that are not there."""
    return sorted(_REASONS)
