"""Placement groups of replicas, and the checks of their options."""

from __future__ import annotations

import os
import signal

import pytest
import ray
from ray import serve
from ray.util import get_current_placement_group, placement_group_table

from .helpers import until

BUNDLES = [{"CPU": 1}, {"CPU": 1}]


@ray.remote(num_cpus=1)
def group_of_a_task():
    return get_current_placement_group().id.hex()


class Grouped:
    def __call__(self):
        return get_current_placement_group().id.hex()

    def of_a_task(self):
        return ray.get(group_of_a_task.remote())

    def pid(self):
        return os.getpid()


def states():
    return {one["placement_group_id"]: one["state"] for one in placement_group_table().values()}


def created():
    return {name for name, state in states().items() if state == "CREATED"}


@pytest.fixture
def grouped(run):
    made = serve.deployment(placement_group_bundles=BUNDLES, ray_actor_options={"num_cpus": 1})(Grouped)
    return run(made.bind())


def test_a_replica_and_its_tasks_are_in_a_group_of_its_own(grouped):
    group = grouped.remote().result()
    assert created() == {group}
    assert grouped.of_a_task.remote().result() == group
    assert [dict(one) for one in placement_group_table()[group]["bundles"].values()] == BUNDLES


def test_the_group_goes_with_the_application(run):
    made = serve.deployment(
        name="Two", num_replicas=2, placement_group_bundles=BUNDLES, placement_group_strategy="STRICT_PACK"
    )(Grouped)
    run(made.options(ray_actor_options={"num_cpus": 1}).bind())
    assert len(created()) == 2
    serve.delete("default")
    until(lambda: not created())


def test_the_group_goes_with_a_replica_that_is_killed(grouped):
    first = grouped.remote().result()
    os.kill(grouped.pid.remote().result(), signal.SIGKILL)
    until(lambda: states()[first] == "REMOVED" and len(created()) == 1)


@pytest.mark.parametrize(
    "options",
    [
        {"placement_group_bundles": []},
        {"placement_group_bundles": [{}]},
        {"placement_group_strategy": "PACK"},
        {"placement_group_bundles": BUNDLES, "placement_group_strategy": "NEAR"},
        {"placement_group_bundles": BUNDLES, "max_replicas_per_node": 1},
        {"placement_group_bundles": BUNDLES, "ray_actor_options": {"num_cpus": 2}},
        {"placement_group_bundles": BUNDLES, "ray_actor_options": {"resources": {"disk": 1}}},
        {"max_replicas_per_node": 0},
        {"max_replicas_per_node": 101},
    ],
)
def test_options_that_cannot_be(options):
    with pytest.raises(ValueError):
        serve.deployment(**options)(Grouped)
