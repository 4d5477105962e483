"""Checks of a deployment's options, where they are written."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from skate.serve._left_out import refuse
from skate.serve._logging_config import logging_config
from skate.serve._placement import check_bundles, check_per_node, check_strategy
from skate.serve._targets import Settings
from skate.serve.config import (
    AutoscalingConfig,
    BackpressureConfig,
    RequestRouterConfig,
    ValidationError,
)

#: The meaning of ``num_replicas="auto"``.
_AUTO = AutoscalingConfig.default()

#: Keys of ``ray_actor_options``.
_ACTOR_OPTIONS = (
    "accelerator_type",
    "label_selector",
    "memory",
    "num_cpus",
    "num_gpus",
    "resources",
    "runtime_env",
)


def _whole(least: int) -> Callable[[str, Any], None]:
    def check(name: str, value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValidationError(f"{name} takes a whole number from {least}, got {value!r}")

    return check


def _yes_or_no(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise ValidationError(f"{name} takes True or False, got {value!r}")


def _queued(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < -1 or value == 0:
        raise ValidationError(f"{name} takes -1 (no limit) or a positive number, got {value!r}")


def _seconds(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValidationError(f"{name} takes seconds, got {value!r}")


def _positive(name: str, value: Any) -> None:
    _seconds(name, value)
    if value == 0:
        raise ValidationError(f"{name} must be above 0")


def _share(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise ValidationError(f"{name} takes a share above 0 and up to 1, got {value!r}")


def _percent(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 100:
        raise ValidationError(f"{name} takes 0 to 100, got {value!r}")


def _json(name: str, value: Any) -> None:
    try:
        json.dumps(value)
    except (TypeError, ValueError) as error:
        raise ValidationError(f"{name} must be what JSON can hold: {error}") from None


def _name(name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{name} takes a string, got {value!r}")
    if not value or "#" in value:
        raise ValueError(f"{name} takes a string without '#', got {value!r}")


def _actor_options(name: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise ValidationError(f"{name} takes a dict, got {value!r}")
    unknown = [key for key in value if key not in _ACTOR_OPTIONS]
    if unknown:
        raise ValueError(
            f"{name} has {', '.join(map(str, unknown))}; it may have {', '.join(_ACTOR_OPTIONS)}"
        )


def _backpressure(name: str, value: Any) -> None:
    if not isinstance(value, BackpressureConfig):
        raise TypeError(f"{name} takes a BackpressureConfig or a dict, got {value!r}")


def _logging(name: str, value: Any) -> None:
    logging_config(value)


def _replicas(name: str, value: Any) -> None:
    if value == "auto":
        return
    if value == 0:
        raise ValueError("num_replicas is expected to larger than 0: a deployment has at least one replica")
    _whole(1)(name, value)


def _autoscaling(name: str, value: Any) -> None:
    if not isinstance(value, AutoscalingConfig):
        raise TypeError(f"{name} takes an AutoscalingConfig or a dict, got {value!r}")


def _routing(name: str, value: Any) -> None:
    if not isinstance(value, RequestRouterConfig):
        raise TypeError(f"{name} takes a RequestRouterConfig or a dict, got {value!r}")


#: Option to its check. ``None`` for one of them means the default.
_CHECKS: dict[str, Callable[[str, Any], None]] = {
    "name": _name,
    "num_replicas": _replicas,
    "ray_actor_options": _actor_options,
    "user_config": _json,
    "max_ongoing_requests": _whole(1),
    "max_queued_requests": _queued,
    "backpressure_config": _backpressure,
    "graceful_shutdown_wait_loop_s": _seconds,
    "graceful_shutdown_timeout_s": _seconds,
    "health_check_period_s": _positive,
    "health_check_timeout_s": _positive,
    "max_constructor_retry_count": _whole(1),
    "rolling_update_percentage": _share,
    "max_surge_percent": _percent,
    "idempotent": _yes_or_no,
    "bake_time_s": _seconds,
    "logging_config": _logging,
    "autoscaling_config": _autoscaling,
    "request_router_config": _routing,
    "placement_group_bundles": check_bundles,
    "placement_group_strategy": check_strategy,
    "max_replicas_per_node": check_per_node,
}
_LATER = ("placement_group_bundle_label_selector", "gang_scheduling_config", "deployment_actors")


def checked(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that were given, checked; ``None`` is left out.

    Raises:
        TypeError: there is no such option, or its value has a wrong type.
        ValueError: it has a wrong value.
        NotImplementedError: Ray has it, skate has not.
    """
    found: dict[str, Any] = {}
    for name, value in given.items():
        if name in _LATER:
            if value is not None:
                raise refuse(name)
            continue
        if name == "version":
            if value is not None:
                raise ValueError(
                    "The option `version` has been removed: a deployment's version is a hash of its code"
                )
            continue
        check = _CHECKS.get(name)
        if check is None:
            raise TypeError(f"@serve.deployment has no option {name!r}; it has {', '.join(sorted(_CHECKS))}")
        if value is None and name != "user_config":
            continue
        if name == "backpressure_config" and isinstance(value, Mapping):
            value = BackpressureConfig(**value)
        if name == "request_router_config" and isinstance(value, Mapping):
            value = RequestRouterConfig(**value)
        if name == "autoscaling_config" and isinstance(value, Mapping):
            is_auto = given.get("num_replicas") == "auto"
            value = AutoscalingConfig(**({"max_replicas": _AUTO.max_replicas, **value} if is_auto else value))
        check(name, value)
        found[name] = value
    return _without_auto(found)


def merged(old: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a deployment's options with some others, checked. A fixed number of replicas replaces
    autoscaling, and the other way round.
    """
    new = checked(given)
    replaced = {"num_replicas": "autoscaling_config", "autoscaling_config": "num_replicas"}
    dropped = {replaced[name] for name in new if name in replaced}
    return {**{name: value for name, value in old.items() if name not in dropped}, **new}


def _without_auto(found: dict[str, Any]) -> dict[str, Any]:
    """Replace ``num_replicas="auto"`` by what it means."""
    number, config = found.get("num_replicas"), found.get("autoscaling_config")
    if number == "auto":
        del found["num_replicas"]
        if config is None:
            config = _AUTO
        elif config.max_replicas == 1:  # the default, which would scale nothing
            config = dataclasses.replace(config, max_replicas=_AUTO.max_replicas)
        found["autoscaling_config"] = config
    elif number is not None and config is not None:
        raise ValueError(
            f"num_replicas={number} is not allowed with autoscaling_config: give one of them, or "
            "num_replicas='auto'"
        )
    return found


def settings_of(options: Mapping[str, Any]) -> Settings:
    """Return those of the options that change without a restart."""
    backpressure = options.get("backpressure_config") or BackpressureConfig()
    names = Settings.__dataclass_fields__
    config: AutoscalingConfig | None = options.get("autoscaling_config")
    number: dict[str, Any] = {}
    if config is not None:
        initial = config.initial_replicas
        number = {"num_replicas": config.min_replicas if initial is None else initial}
    return Settings(
        autoscaling=config,
        **{name: value for name, value in options.items() if name in names},
        **number,
        backpressure_status_code=backpressure.status_code,
        backpressure_retry_after_s=backpressure.retry_after_s,
        logging=logging_config(options.get("logging_config")),
        routing=options.get("request_router_config"),
    )


def known() -> list[str]:
    """Return the names of all options but the name."""
    return sorted({*_CHECKS, *_LATER} - {"name"})
