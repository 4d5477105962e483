"""Calculates with resources exactly: in fixed-point numbers, so that ten tenths make one."""

from __future__ import annotations

import math
from collections.abc import Mapping

#: Units in one whole resource (count). Ray resolves fractions to 0.0001, and so does skate.
UNIT = 10_000

Resources = dict[str, int]
"""Name to amount in 1/10,000ths. Amounts are never zero: what is not needed is not there."""


def to_fixed(amounts: Mapping[str, float]) -> Resources:
    """Return user amounts (``{"CPU": 0.5}``) in fixed point, without the zeros.

    Raises:
        ValueError: an amount is negative, not finite, or finer than 0.0001.
    """
    fixed: Resources = {}
    for name, amount in amounts.items():
        if not math.isfinite(amount) or amount < 0:
            raise ValueError(f"resource {name!r} must be a finite number of at least 0, got {amount!r}")
        units = round(amount * UNIT)
        if 0 < amount < 1 / UNIT:
            raise ValueError(f"resource {name!r} must be 0 or at least {1 / UNIT}, got {amount!r}")
        if units:
            fixed[name] = units
    return fixed


def to_float(resources: Mapping[str, int]) -> dict[str, float]:
    """Return fixed-point amounts as the floats users see."""
    return {name: units / UNIT for name, units in resources.items()}


def fits(need: Mapping[str, int], free: Mapping[str, int]) -> bool:
    """Tell whether ``free`` has every amount that is needed."""
    return all(free.get(name, 0) >= units for name, units in need.items())


def add(into: Resources, amounts: Mapping[str, int]) -> None:
    """Add ``amounts`` to ``into``."""
    for name, units in amounts.items():
        into[name] = into.get(name, 0) + units


def subtract(from_: Resources, amounts: Mapping[str, int]) -> None:
    """Take ``amounts`` from ``from_``. The result may be negative: a worker that wakes from
    ``get`` takes its CPUs back at once, and the node is oversubscribed until a task ends."""
    for name, units in amounts.items():
        from_[name] = from_.get(name, 0) - units


def describe(resources: Mapping[str, int]) -> str:
    """Return ``{CPU: 0.5, GPU: 1, memory: 2.0 GB}`` for messages to people."""
    amounts = ", ".join(f"{name}: {_amount(name, units / UNIT)}" for name, units in sorted(resources.items()))
    return "{" + amounts + "}"


def _amount(name: str, value: float) -> str:
    if name in ("memory", "object_store_memory"):
        for power, unit in ((12, "TB"), (9, "GB"), (6, "MB"), (3, "kB")):
            if value >= 10**power:
                return f"{value / 10**power:.1f} {unit}"
    return f"{value:g}"
