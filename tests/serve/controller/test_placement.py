"""Replicas of one node, groups that have room or never fit, and what the status says of them."""

from __future__ import annotations

from typing import Any

import pytest

from skate.serve._controller import groups, statuses
from skate.serve._controller.deployment import Deployment, Retire, Start, State
from skate.serve._targets import DeploymentTarget, Settings
from skate.serve.config import AutoscalingConfig
from skate.serve.schema import DeploymentStatus

from .test_deployment import started


def target(version: str = "v1", replicas: int = 2, most: int | None = 2) -> DeploymentTarget:
    return DeploymentTarget("D", version, Settings(num_replicas=replicas, max_replicas_per_node=most))


def test_so_many_replicas_start_and_the_others_wait() -> None:
    one = Deployment(target(replicas=3))
    assert started(one) == ["D-1", "D-2"]
    assert one.decide(0.0) == []
    assert (one.is_settled, one.beyond) == (False, 1)
    found = statuses.of_deployment(one, 0.0)
    assert found.status is DeploymentStatus.UPDATING
    assert found.message == "1 of 3 replicas waits: max_replicas_per_node is 2, and there is one node"


def test_a_load_that_asks_for_more_than_a_node_may_have() -> None:
    config = AutoscalingConfig(max_replicas=5)
    one = Deployment(
        DeploymentTarget("D", "v1", Settings(num_replicas=1, max_replicas_per_node=2, autoscaling=config))
    )
    started(one)
    one.decide(0.0)
    one.scale(5)
    started(one)
    one.decide(0.0)
    assert (one.count(State.RUNNING), one.is_settled) == (2, True)
    found = statuses.of_deployment(one, 0.0)
    assert found.status is DeploymentStatus.HEALTHY
    assert found.message == "3 of 5 replicas wait: max_replicas_per_node is 2, and there is one node"


def test_deaths_of_replicas_beside_those_that_wait_are_no_failed_starts() -> None:
    one = Deployment(target(replicas=3))
    now = 0.0
    for _ in range(20):
        now += 100.0
        started(one, now)
        one.decide(now)
        one.died(next(iter(one.replicas)), "killed", now)
        found = statuses.of_deployment(one, now)
        assert (found.status, one.has_failed) == (DeploymentStatus.UNHEALTHY, False)


def test_an_update_on_a_full_node_ends_an_old_one_first() -> None:
    one = Deployment(target("v1"))
    started(one)
    one.decide(0.0)
    one.retarget(target("v2"))
    assert one.decide(0.0) == [Retire("D-1")]
    assert one.decide(0.0) == []  # it still runs there
    one.retired("D-1")
    assert one.decide(0.0) == [Start("D-3")]
    one.ready("D-3")
    assert one.decide(0.0) == [Retire("D-2")]
    one.retired("D-2")
    assert one.decide(0.0) == [Start("D-4")]
    one.ready("D-4")
    one.decide(0.0)
    assert one.is_settled


def test_an_update_on_a_node_with_a_place_starts_a_new_one_first() -> None:
    one = Deployment(target("v1", 2, 3))
    started(one)
    one.decide(0.0)
    one.retarget(target("v2", 2, 3))
    assert one.decide(0.0) == [Start("D-3")]
    one.ready("D-3")
    assert one.decide(0.0) == [Retire("D-1")]
    one.retired("D-1")
    assert one.decide(0.0) == [Start("D-4")]


def test_fewer_for_each_node_ends_those_beyond() -> None:
    one = Deployment(target(replicas=3, most=None))
    started(one)
    one.decide(0.0)
    one.retarget(target(replicas=3, most=1))
    assert [type(command) for command in one.decide(0.0)].count(Retire) == 2
    assert one.count(State.RUNNING) == 1


def test_a_waiting_replica_has_its_reason_in_the_status() -> None:
    one = Deployment(target(most=None))
    one.decide(0.0)
    for replica in one.replicas:
        one.waits(replica, "no GPU")
    assert statuses.of_deployment(one, 0.0).message == "2 of 2 replicas wait: no GPU"
    one.ready("D-1")
    assert statuses.of_deployment(one, 0.0).message == "1 of 2 replicas waits: no GPU"
    one.waits("D-2", "")
    assert statuses.of_deployment(one, 0.0).message == ""


class Cluster:
    """One node with four CPUs and a GPU, of which some are free."""

    def __init__(self, cpus: float, gpus: float) -> None:
        self._free = {name: amount for name, amount in (("CPU", cpus), ("GPU", gpus)) if amount}

    def nodes(self) -> list[Any]:
        return [{}]

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 4.0, "GPU": 1.0}

    def available_resources(self) -> dict[str, float]:
        return self._free


BUNDLES = ({"CPU": 1}, {"CPU": 1, "GPU": 1})


@pytest.mark.parametrize(
    ("cpus", "gpus", "options", "found"),
    [
        (4, 1, {}, (False, True)),
        (0, 1, {"actor_options": {"num_cpus": 1}}, (True, False)),
        (1, 0, {"actor_options": {"num_cpus": 1}}, (True, True)),
        (2, 1, {"bundles": BUNDLES}, (True, True)),
        (1, 1, {"bundles": BUNDLES, "actor_options": {"num_cpus": 1}}, (True, False)),
        (4, 0, {"bundles": BUNDLES}, (True, False)),
        # What never fits needs no other replica to end.
        (0, 0, {"bundles": ({"CPU": 3}, {"CPU": 2})}, (True, True)),
        (0, 0, {"bundles": BUNDLES, "strategy": "STRICT_SPREAD"}, (True, True)),
        (0, 0, {"actor_options": {"resources": {"TPU": 1}}}, (True, True)),
    ],
)
def test_room_for_one_more(
    monkeypatch: pytest.MonkeyPatch,
    cpus: float,
    gpus: float,
    options: dict[str, Any],
    found: tuple[bool, bool],
) -> None:
    monkeypatch.setattr(groups, "cluster", Cluster(cpus, gpus))
    assert groups.room_for(DeploymentTarget("D", "v1", Settings(), **options)) == found
