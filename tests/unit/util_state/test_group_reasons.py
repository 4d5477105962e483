"""What something in a placement group waits for, in words."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from skate._base.resources import UNIT, describe
from skate.util.state.group_reasons import explain

CPU = {"CPU": UNIT}
NODE = {"CPU": UNIT}, {"CPU": 4 * UNIT}


def group(state: str = "PENDING", **more: Any) -> dict[str, Any]:
    row = {"group_id": "67", "name": "", "state": state, "bundles": [{"CPU": 1.0}, {"CPU": 2.0}],
           "reason": "", "cause": ""}  # fmt: skip
    return row | more


def holders(needed: Mapping[str, int], bundles: Collection[tuple[str, int]]) -> list[str]:
    return [f"  {describe(needed)} of {list(bundles) or 'the node'}"]


def why(row: dict[str, Any] | None, here: dict[str, Any] | None = None, index: int = -1) -> list[str]:
    return explain(row, here, index, CPU, NODE, holders, "it")


def test_a_group_that_waits() -> None:
    assert why(group()) == [
        "it waits for placement group 67, which is PENDING: its bundles need {CPU: 3}; free are {CPU: 1} of "
        "{CPU: 4}. Held by:",
        "  {CPU: 3} of the node",
    ]
    (first, _) = why(group(name="trainers"), {"ahead": 2, "bundles": []})
    assert "placement group trainers" in first and ", and 2 groups wait before it. Held by:" in first


def test_groups_that_are_not_to_be_had() -> None:
    assert why(None) == ["it waits for its placement group, which this session does not know (any more)"]
    assert why(group(reason="it is too large")) == [
        "it waits for placement group 67, which is PENDING: it is too large"
    ]
    assert why(group("REMOVED", cause="somebody removed it")) == [
        "it waits for placement group 67, which is REMOVED: somebody removed it"
    ]


def test_bundles_in_use() -> None:
    here = {"ahead": 0, "bundles": [{"index": 0, "free": {"CPU": 0.0}}, {"index": 1, "free": {"CPU": 1.0}}]}
    assert why(group("CREATED"), here, 0) == [
        "it waits for resources of placement group 67: it needs {CPU: 1}; free are {CPU: 0} in bundle 0. Held by:",
        "  {CPU: 1} of [('67', 0)]",
    ]
    assert why(group("CREATED"), here) == [
        "it needs {CPU: 1}, which is free in placement group 67: a process is being started for it"
    ]
