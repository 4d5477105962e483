"""Provides values of the option ``scheduling_strategy``, which says where tasks and actors run.

Besides these: ``"DEFAULT"``, and ``"SPREAD"`` for on as many nodes as there are. The option
``label_selector`` says the same as NodeLabelSchedulingStrategy in fewer words.
"""

from __future__ import annotations

from skate._scheduling.strategies import (
    DoesNotExist,
    Exists,
    In,
    NodeAffinitySchedulingStrategy,
    NodeLabelSchedulingStrategy,
    NotIn,
    PlacementGroupSchedulingStrategy,
)

__all__ = [
    "DoesNotExist",
    "Exists",
    "In",
    "NodeAffinitySchedulingStrategy",
    "NodeLabelSchedulingStrategy",
    "NotIn",
    "PlacementGroupSchedulingStrategy",
]
