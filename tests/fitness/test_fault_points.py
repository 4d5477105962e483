"""The points at which the fault suite ends processes are names of the runtime's code: a renamed method is found here."""

from __future__ import annotations

import importlib

import pytest
from cluster import faults


@pytest.mark.parametrize(
    ("package", "target"),
    [("_worker", target) for target in faults.POINTS.values()]
    + [("_control", target) for target in faults.CONTROL_POINTS.values()],
)
def test_a_fault_point_is_a_method_of_the_runtime(package: str, target: tuple[str, str, str, str]) -> None:
    module, kind, method, when = target
    owner = getattr(importlib.import_module(f"skate.{package}.{module}"), kind)
    assert callable(vars(owner).get(method)), (
        f"{kind} of skate.{package}.{module} has no method {method} of its own"
    )
    assert when in ("before", "after")
