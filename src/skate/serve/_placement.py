"""Checks of the options that say where replicas run: placement groups, and how many a node has. Decisions
only: no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skate.serve._checks import ValidationError

#: The strategies of placement groups; the first is the default.
STRATEGIES = ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")
#: The most that ``max_replicas_per_node`` takes, as in Ray.
_MOST_PER_NODE = 100


def check_bundles(name: str, value: Any) -> None:
    """Raise unless a value can be the bundles of a placement group."""
    if not isinstance(value, list | tuple) or not value:
        raise ValidationError(
            f"{name} takes a list of bundles such as [{{'CPU': 1}}, {{'GPU': 1}}], got {value!r}"
        )
    for index, bundle in enumerate(value):
        if not isinstance(bundle, Mapping) or not all(
            isinstance(key, str) and _is_amount(amount) for key, amount in bundle.items()
        ):
            raise ValidationError(f"{name}[{index}] takes amounts of resources by name, got {bundle!r}")
        if not any(bundle.values()):
            raise ValidationError(
                f"{name}[{index}] reserves nothing: give it an amount above 0, or leave it out"
            )


def check_strategy(name: str, value: Any) -> None:
    """Raise unless a value names a strategy of placement groups."""
    if value not in STRATEGIES:
        raise ValidationError(f"{name} takes one of {', '.join(STRATEGIES)}, got {value!r}")


def check_per_node(name: str, value: Any) -> None:
    """Raise unless a value can be the number of replicas of one node."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MOST_PER_NODE:
        raise ValidationError(f"{name} takes a whole number from 1 to {_MOST_PER_NODE}, got {value!r}")


def check_together(options: Mapping[str, Any]) -> None:
    """Raise unless the options of a deployment, each of which is right by itself, go together.

    Raises:
        ValueError: they do not.
    """
    bundles = options.get("placement_group_bundles")
    if bundles is None:
        if options.get("placement_group_strategy") is not None:
            raise ValidationError("placement_group_strategy needs placement_group_bundles, which are missing")
        return
    if options.get("max_replicas_per_node") is not None:
        raise ValidationError(
            "max_replicas_per_node is not allowed with placement_group_bundles: these say how many replicas "
            "a node can have"
        )
    for resource, amount in resources_of(options.get("ray_actor_options") or {}).items():
        if amount > bundles[0].get(resource, 0):
            raise ValidationError(
                "with placement_group_bundles a replica's actor runs in the first bundle, which must have "
                f"what ray_actor_options names: {amount:g} {resource} is more than the "
                f"{bundles[0].get(resource, 0):g} of {dict(bundles[0])}"
            )


def resources_of(actor_options: Mapping[str, Any]) -> dict[str, float]:
    """Return the amounts of resources that an actor holds, by name."""
    found = {
        "CPU": actor_options.get("num_cpus") or 0,
        "GPU": actor_options.get("num_gpus") or 0,
        "memory": actor_options.get("memory") or 0,
        **(actor_options.get("resources") or {}),
    }
    return {name: amount for name, amount in found.items() if amount}


def sum_of(bundles: Any) -> dict[str, float]:
    """Return the amounts of resources of all bundles together."""
    total: dict[str, float] = {}
    for bundle in bundles:
        for name, amount in bundle.items():
            total[name] = total.get(name, 0) + amount
    return total


def _is_amount(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
