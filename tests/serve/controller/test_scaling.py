"""A deployment whose number of replicas follows its load: updates, failures and the words for it."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from skate.serve._controller import statuses
from skate.serve._controller.deployment import Change, Deployment, End, Retire, Start, State
from skate.serve._targets import DeploymentTarget, Settings
from skate.serve.config import AutoscalingConfig


def target(version: str = "v1", number: int = 1, least: int = 0, most: int = 8) -> DeploymentTarget:
    config = AutoscalingConfig(min_replicas=least, max_replicas=most)
    return DeploymentTarget("D", version, Settings(num_replicas=number, autoscaling=config))


def settle(one: Deployment, now: float = 0.0) -> None:
    """Carry out decisions until there are none."""
    while commands := one.decide(now):
        for command in commands:
            if isinstance(command, Start):
                one.ready(command.replica)
            elif isinstance(command, Retire | End):
                one.retired(command.replica)


def stands(one: Deployment) -> tuple[str, str]:
    found = statuses.of_deployment(one, 0.0)
    return str(found.status), str(found.status_trigger)


def number(one: Deployment) -> int:
    assert one.target is not None
    return one.target.settings.num_replicas


def test_the_words_for_it() -> None:
    one = Deployment(target(number=2))
    assert stands(one) == ("UPDATING", "CONFIG_UPDATE_STARTED")
    settle(one)
    assert stands(one) == ("HEALTHY", "CONFIG_UPDATE_COMPLETED")
    one.scale(4)
    assert stands(one) == ("UPSCALING", "AUTOSCALING")
    settle(one)
    assert stands(one) == ("HEALTHY", "UPSCALE_COMPLETED")
    one.scale(1)
    assert stands(one) == ("DOWNSCALING", "AUTOSCALING")
    settle(one)
    assert stands(one) == ("HEALTHY", "DOWNSCALE_COMPLETED")
    one.died(next(iter(one.replicas)), "killed", 0.0)
    assert stands(one) == ("UNHEALTHY", "HEALTH_CHECK_FAILED")
    settle(one)
    one.retarget(target("v2"))
    assert stands(one) == ("UPDATING", "CONFIG_UPDATE_STARTED")
    one.scale(3)
    assert stands(one) == ("UPDATING", "CONFIG_UPDATE_STARTED")


def test_the_oldest_stay() -> None:
    one = Deployment(target(number=1))
    settle(one)
    one.scale(3)
    assert one.decide(0.0) == [Change("D-1"), Start("D-2"), Start("D-3")]
    one.ready("D-2")
    one.ready("D-3")
    one.decide(0.0)
    one.scale(1)
    assert {*one.decide(0.0)} == {Change("D-1"), Retire("D-2"), Retire("D-3")}


def test_an_update_keeps_the_number_within_the_new_bounds() -> None:
    one = Deployment(target())
    settle(one)
    one.scale(5)
    one.retarget(target("v2"))
    assert number(one) == 5
    one.retarget(target("v2", most=3))
    assert number(one) == 3
    one.retarget(DeploymentTarget("D", "v2", Settings(num_replicas=2)))
    assert number(one) == 2
    one.scale(4)
    assert number(one) == 2, "it does not scale automatically"
    one.retarget(target("v2", least=6))
    assert number(one) == 6
    one.scale(100)
    assert number(one) == 8


def test_going_back_keeps_the_number() -> None:
    one = Deployment(target())
    settle(one)
    one.scale(2)
    settle(one)
    one.retarget(target("v2"))
    one.scale(4)
    now = 0.0
    while not one.rolled_back:
        for command in one.decide(now):
            if isinstance(command, Start):
                one.start_failed(command.replica, "broken", now)
        now += one.wait_s(now)
    assert one.target is not None
    assert (one.target.version, number(one)) == ("v1", 4)
    settle(one, now)
    assert one.count(State.RUNNING, "v1") == 4


def test_a_version_that_was_never_seen_to_start_can_fail() -> None:
    one = Deployment(target(number=0))
    settle(one)
    assert one.is_settled
    one.scale(1)
    now = 0.0
    while not one.has_failed:
        for command in one.decide(now):
            assert isinstance(command, Start)
            one.start_failed(command.replica, "broken", now)
        now += one.wait_s(now)
    # It refuses requests until it is deployed again, as every first version that does not start.
    one.scale(0)
    assert one.decide(now) == []
    assert stands(one) == ("DEPLOY_FAILED", "REPLICA_STARTUP_FAILED")
    one.retarget(target("v1", number=0))
    settle(one, now)
    assert stands(one) == ("HEALTHY", "CONFIG_UPDATE_COMPLETED")
    one.scale(1)
    assert [type(command) for command in one.decide(now)] == [Start]


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 10**9))
def test_random_histories_come_to_the_number_of_the_load(seed: int) -> None:
    chance = random.Random(seed)
    one = Deployment(target(number=chance.randint(0, 4)), epoch="e")
    ending: list[str] = []
    now = 0.0

    def step(share: float) -> None:
        nonlocal now
        for command in one.decide(now):
            if isinstance(command, Retire | End):
                ending.append(command.replica)
        for name, replica in list(one.replicas.items()):
            if replica.state is State.STARTING and chance.random() < share:
                if chance.random() < 0.1:
                    one.start_failed(name, "no memory", now)
                else:
                    one.ready(name)
        while ending and chance.random() < share:
            one.retired(ending.pop(chance.randrange(len(ending))))
        now += one.wait_s(now) + 0.01

    version = 0
    for _ in range(chance.randrange(5, 60)):
        step(0.6)
        event = chance.random()
        if event < 0.4:
            one.scale(chance.randint(0, 8))
        elif event < 0.5:
            version += 1
            one.retarget(target(f"v{version}", chance.randint(0, 4)))
        elif event < 0.6 and one.count(State.RUNNING):
            running = [name for name, replica in one.replicas.items() if replica.state is State.RUNNING]
            one.died(chance.choice(running), "killed", now)
        assert one.target is not None
        assert 0 <= number(one) <= 8
    wanted = number(one)
    for _ in range(200):
        step(0.9)
    for _ in range(20):
        if not one.has_failed:
            settle(one, now)
            now += one.wait_s(now) + 0.01
        for name in [name for name, replica in one.replicas.items() if replica.state is State.STARTING]:
            one.ready(name)
        while ending:
            one.retired(ending.pop())
    assert number(one) == wanted
    assert one.has_failed or (one.is_settled and one.count(State.RUNNING) == wanted)
