"""The part of all replicas that a config file wants to run, ``target_capacity``. Decisions only: no I/O, no
clock."""

from __future__ import annotations

import math
from dataclasses import replace

from skate.serve._targets import Capacity, DeploymentTarget
from skate.serve.config import AutoscalingConfig


def changed(old: Capacity | None, percent: float | None, is_first: bool) -> Capacity | None:
    """Return the capacity that a config file brings about.

    Args:
        old: that of the file before; None: it had none.
        percent: what the file says; None: nothing.
        is_first: no file came before.
    """
    if percent is None:
        return None
    if is_first:
        return Capacity(percent, is_rising=True)
    if old is None:  # all replicas ran until now
        return Capacity(percent, is_rising=False)
    return old if percent == old.percent else Capacity(percent, is_rising=percent > old.percent)


def adjusted(number: int, capacity: Capacity | None) -> int:
    """Return how many of a number of replicas run: halves are rounded up, and at least one runs of those that
    there are, unless the capacity is zero.

    Example:
        >>> adjusted(5, Capacity(50, False)), adjusted(1, Capacity(1, False)), adjusted(9, Capacity(0, False))
        (3, 1, 0)
    """
    if capacity is None or not number:
        return number
    if not capacity.percent:
        return 0
    return max(1, math.floor(number * capacity.percent / 100 + 0.5))


def bounds(config: AutoscalingConfig, capacity: Capacity | None) -> tuple[int, int]:
    """Return the least and the largest number of replicas of a deployment that scales automatically.

    While the capacity rises, requests move here from another cluster: the load is no measure yet, and
    ``initial_replicas`` is the least number.
    """
    least = config.min_replicas
    if capacity is not None and capacity.is_rising and config.initial_replicas is not None:
        least = config.initial_replicas
    return adjusted(least, capacity), adjusted(config.max_replicas, capacity)


def at_capacity(target: DeploymentTarget, capacity: Capacity | None) -> DeploymentTarget:
    """Return a target with the number of replicas that a capacity allows."""
    if target.capacity == capacity:
        return target
    number = adjusted(target.settings.num_replicas, capacity)
    return replace(target, capacity=capacity, settings=replace(target.settings, num_replicas=number))
