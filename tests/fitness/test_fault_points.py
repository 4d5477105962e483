"""The points at which the fault suite ends processes are names of the runtime's code: a renamed method is found here."""

from __future__ import annotations

import importlib

import pytest
from cluster import faults

POINTS = faults.POINTS | faults.ALLOCATIONS | faults.CONTROL_POINTS


@pytest.mark.parametrize("point", POINTS)
def test_a_fault_point_is_a_name_of_the_runtime(point: str) -> None:
    module, kind, name, when = POINTS[point]
    found = importlib.import_module(f"skate.{module}")
    owner = getattr(found, kind) if kind else found
    assert callable(vars(owner).get(name)), f"{kind} of skate.{module} has no {name} of its own"
    assert when in ("before", "after")
