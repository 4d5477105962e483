"""The options that place tasks and actors in placement groups: what they mean, and what they cannot mean."""

from __future__ import annotations

from typing import Any

import pytest

from skate._base.ids import PlacementGroupID
from skate._base.resources import UNIT
from skate._scheduling import group_options, requirements
from skate._scheduling.group_options import GroupHandle
from skate._scheduling.strategies import PlacementGroupSchedulingStrategy as InGroup
from skate.options import actor_options, task_options

ID = PlacementGroupID(bytes(16))


class Group(GroupHandle):
    id = ID

    @property
    def bundle_specs(self) -> list[dict[str, float]]:
        return [{"CPU": 1.0}, {"CPU": 2.0, "GPU": 1.0}]


class NoGroup(Group):
    id = PlacementGroupID.nil()


GROUP = Group()


@pytest.mark.parametrize(
    ("given", "place", "may_be_captured"),
    [
        ({}, (b"", -1, False), True),
        ({"placement_group": "default"}, (b"", -1, False), True),
        ({"placement_group": None}, (b"", -1, False), False),
        ({"placement_group": NoGroup()}, (b"", -1, False), False),
        ({"scheduling_strategy": "DEFAULT"}, (b"", -1, False), False),
        ({"scheduling_strategy": "SPREAD"}, (b"", -1, False), False),
        ({"scheduling_strategy": InGroup(None)}, (b"", -1, False), False),
        ({"scheduling_strategy": InGroup(NoGroup())}, (b"", -1, False), False),
        ({"scheduling_strategy": InGroup(GROUP)}, (ID.binary(), -1, False), True),
        ({"scheduling_strategy": InGroup(GROUP, 1, False)}, (ID.binary(), 1, False), False),
        ({"scheduling_strategy": InGroup(GROUP, 0, True)}, (ID.binary(), 0, True), False),
        ({"placement_group": GROUP, "placement_group_bundle_index": 1}, (ID.binary(), 1, False), True),
        (
            {"placement_group": GROUP, "placement_group_capture_child_tasks": True},
            (ID.binary(), -1, True),
            False,
        ),
    ],
)
def test_what_options_mean(given: dict[str, Any], place: Any, may_be_captured: bool) -> None:
    for options in (task_options(given), actor_options(given)):
        assert requirements.group_of(options.requirement) == place
        assert options.may_be_captured is may_be_captured


def test_a_captured_call_keeps_its_labels_and_a_group_of_its_own() -> None:
    plain = requirements.encode({"label_selector": {"zone": "a"}})
    captured = requirements.decode(requirements.in_group(plain, b"g"))
    assert captured is not None and captured.group == b"g" and captured.captures
    assert captured.alternatives == requirements.decode(plain).alternatives  # type: ignore[union-attr]
    own = requirements.encode({"scheduling_strategy": InGroup(GROUP, 1)})
    assert requirements.group_of(requirements.in_group(own, b"g")) == (ID.binary(), 1, True)
    assert requirements.group_of(requirements.in_group(b"", b"g")) == (b"g", -1, True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"num_cpus": 3},
            r"request \{CPU: 3\} cannot fit into any bundles for the placement group, \{CPU: 1\}",
        ),
        ({"index": 0, "num_cpus": 2}, r"cannot fit into bundle 0"),
        ({"index": 2}, r"bundle index 2 is invalid\. Valid placement group indexes: 0-1"),
        ({"index": -2}, "bundle index -2 is invalid"),
        ({"index": "1"}, "takes the index of a bundle"),
        ({"index": True}, "takes the index of a bundle"),
    ],
)
def test_what_cannot_be_in_a_group(options: dict[str, Any], message: str) -> None:
    strategy = InGroup(GROUP, options.pop("index", -1))
    with pytest.raises((ValueError, TypeError), match=message):
        requirements.check_strategy("scheduling_strategy", strategy)
        task_options({"scheduling_strategy": strategy, **options})


def test_an_actor_needs_what_it_needs_to_be_placed() -> None:
    class Gpus(Group):
        bundle_specs = [{"GPU": 1.0}]  # type: ignore[assignment]

    with pytest.raises(ValueError, match="requires 1 CPU for creation"):
        actor_options({"scheduling_strategy": InGroup(Gpus())})
    options = actor_options({"scheduling_strategy": InGroup(Gpus()), "num_gpus": 1, "num_cpus": 0})
    assert options.running == {"GPU": UNIT}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"scheduling_strategy": InGroup(GROUP), "placement_group": GROUP},
            "via the scheduling_strategy option",
        ),
        ({"scheduling_strategy": "SPREAD", "placement_group": None}, "via the scheduling_strategy option"),
        ({"placement_group_bundle_index": 1}, "must be -1, got 1"),
        ({"placement_group": None, "placement_group_bundle_index": 1}, "must be -1, got 1"),
        ({"scheduling_strategy": InGroup(None, 1)}, "must be -1, got 1"),
    ],
)
def test_options_that_contradict_each_other(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        task_options(given)


def test_what_is_no_group() -> None:
    with pytest.raises(ValueError, match="takes a PlacementGroup, None"):
        group_options.check_group("placement_group", "a name")
    with pytest.raises(ValueError, match="takes a PlacementGroup, got 3"):
        requirements.check_strategy("scheduling_strategy", InGroup(3))
