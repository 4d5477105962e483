"""The points at which the fault suite ends processes are names of the runtime's code: a renamed method is found here."""

from __future__ import annotations

import importlib

import pytest
from cluster import faults


@pytest.mark.parametrize("point", faults.POINTS)
def test_a_fault_point_is_a_method_of_the_runtime(point: str) -> None:
    module, kind, method, when = faults.POINTS[point]
    owner = getattr(importlib.import_module(f"skate._worker.{module}"), kind)
    assert callable(vars(owner).get(method)), (
        f"{kind} of skate._worker.{module} has no method {method} of its own"
    )
    assert when in ("before", "after")
