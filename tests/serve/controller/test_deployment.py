"""Deployments: surge, readiness, retirement, rollback, deaths; random histories by seed."""

from __future__ import annotations

import dataclasses
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from skate.serve._controller.deployment import Change, Deployment, End, Retire, Start, State
from skate.serve._targets import DeploymentTarget, Settings


def target(version: str = "v1", replicas: int = 2, **options: object) -> DeploymentTarget:
    return DeploymentTarget("D", version, Settings(num_replicas=replicas, **options))  # type: ignore[arg-type]


def started(one: Deployment, now: float = 0.0) -> list[str]:
    """Decide, and have all that is to start be ready."""
    names = [command.replica for command in one.decide(now) if isinstance(command, Start)]
    for name in names:
        one.ready(name)
    return names


def test_the_first_replicas_start_together() -> None:
    one = Deployment(target(replicas=3))
    assert started(one) == ["D-1", "D-2", "D-3"]
    assert one.decide(0.0) == []
    assert one.is_settled


def test_an_update_starts_new_ones_before_old_ones_retire() -> None:
    one = Deployment(target("v1", 2))
    started(one)
    one.decide(0.0)
    one.retarget(target("v2", 2))
    assert one.decide(0.0) == [Start("D-3")]
    assert one.decide(0.0) == []
    one.ready("D-3")
    assert one.decide(0.0) == [Retire("D-1"), Start("D-4")]
    one.ready("D-4")
    one.retired("D-1")
    assert one.decide(0.0) == [Retire("D-2")]
    one.retired("D-2")
    assert one.decide(0.0) == [Change("D-3"), Change("D-4")]  # their ranks
    assert one.decide(0.0) == []
    assert one.is_settled


def test_without_room_an_old_one_ends_first() -> None:
    one = Deployment(target("v1", 2))
    started(one)
    one.decide(0.0)
    one.retarget(target("v2", 2))
    one.is_limited, one.can_surge = True, False
    assert one.decide(0.0) == [Retire("D-1")]
    assert one.decide(0.0) == []
    one.retired("D-1")
    # What it held may not be reported as free yet: the next one waits for it.
    assert one.decide(0.0) == [Start("D-3")]
    assert one.decide(0.0) == []
    one.ready("D-3")
    assert one.decide(0.0) == [Retire("D-2")]
    one.retired("D-2")
    assert one.decide(0.0) == [Start("D-4")]
    one.ready("D-4")
    assert one.decide(0.0) == []
    assert one.is_settled


def test_with_room_for_one_it_starts_first() -> None:
    one = Deployment(target("v1", 4))
    started(one)
    one.decide(0.0)
    one.retarget(target("v2", 4))
    one.is_limited = True
    assert one.decide(0.0) == [Start("D-5")]
    one.can_surge = False
    assert one.decide(0.0) == []
    one.ready("D-5")
    assert one.decide(0.0) == [Retire("D-1")]


def test_other_settings_restart_nothing() -> None:
    one = Deployment(target())
    started(one)
    one.decide(0.0)
    one.retarget(target(user_config={"threshold": 2}))
    assert one.decide(0.0) == [Change("D-1"), Change("D-2")]
    assert one.decide(0.0) == []


def test_the_same_target_changes_nothing() -> None:
    one = Deployment(target())
    started(one)
    one.decide(0.0)
    one.retarget(target())
    assert one.decide(0.0) == []


def test_a_version_that_does_not_start_changes_nothing() -> None:
    one = Deployment(target("v1", 2))
    started(one)
    one.decide(0.0)
    one.retarget(target("v2", 2))
    now = 0.0
    for _ in range(6):
        (start,) = [command for command in one.decide(now) if isinstance(command, Start)]
        one.start_failed(start.replica, "KeyError: 'weights'", now)
        now += one.wait_s(now)
    assert one.decide(now) == []
    assert one.rolled_back
    assert "weights" in one.failure
    assert one.count(State.RUNNING, "v1") == 2
    assert one.is_settled


def test_a_first_version_that_does_not_start_has_failed() -> None:
    one = Deployment(target("v1", 1))
    now = 0.0
    for _ in range(3):
        (start,) = one.decide(now)
        one.start_failed(start.replica, "boom", now)
        assert one.wait_s(now) > 0
        assert one.decide(now) == []
        now += one.wait_s(now)
    assert one.has_failed
    assert one.decide(now) == []
    one.retarget(target("v2", 1))
    assert not one.has_failed
    assert one.decide(now) == [Start("D-4")]


def test_the_same_version_can_be_tried_again() -> None:
    one = Deployment(target("v1", 1, max_constructor_retry_count=1))
    one.decide(0.0)
    one.start_failed("D-1", "boom", 0.0)
    assert one.has_failed
    one.retarget(target("v1", 1, max_constructor_retry_count=1))
    assert one.decide(0.0) == [Start("D-2")]


def test_a_dead_replica_is_replaced_for_ever() -> None:
    one = Deployment(target(replicas=1))
    started(one)
    one.decide(0.0)
    for _ in range(10):
        (name,) = one.replicas
        one.died(name, "killed by signal 9", 0.0)
        assert len(started(one)) == 1
        one.decide(0.0)
    assert not one.has_failed


def test_an_unhealthy_replica_finishes_its_requests_and_is_replaced() -> None:
    one = Deployment(target(replicas=1))
    started(one)
    one.decide(0.0)
    (command,) = one.unhealthy("D-1", "no answer", 0.0)
    assert isinstance(command, Retire)
    assert command.replica == "D-1"
    assert one.decide(0.0) == [Start("D-2")]
    assert one.unhealthy("D-1", "no answer", 0.0) == []


def test_fewer_and_more_replicas() -> None:
    one = Deployment(target(replicas=1))
    started(one)
    one.retarget(target(replicas=3))
    assert [*map(type, one.decide(0.0))] == [Change, Start, Start]
    one.ready("D-2")
    one.retarget(target(replicas=1))
    # The one that has not started yet goes first, then the newest.
    assert {*one.decide(0.0)} == {Retire("D-2"), End("D-3"), Change("D-1")}


def test_a_deleted_deployment_retires_all() -> None:
    one = Deployment(target())
    started(one)
    one.retarget(None)
    assert one.decide(0.0) == [Retire("D-1"), Retire("D-2")]
    one.retired("D-1")
    one.died("D-2", "it was ended", 0.0)
    assert one.is_settled


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 10**9))
def test_random_histories_keep_their_capacity_and_come_to_rest(seed: int) -> None:
    chance = random.Random(seed)
    bad = {f"v{n}" for n in range(20) if chance.random() < 0.3}
    one = Deployment(target("v0", chance.randint(1, 4)), epoch="e")
    bad.discard("v0")
    one.is_limited, one.can_surge = chance.random() < 0.3, chance.random() < 0.5
    now, version = 0.0, 0
    starting: set[str] = set()
    retiring: set[str] = set()

    def step(quiet: bool) -> None:
        nonlocal now
        for command in one.decide(now):
            if isinstance(command, Start):
                starting.add(command.replica)
            elif isinstance(command, Retire | End):
                starting.discard(command.replica)
                retiring.add(command.replica)
        assert one.target is not None
        alive = one.count(State.RUNNING) + one.count(State.STARTING)
        assert alive <= max(one.target.settings.num_replicas + one._surge(one.target), before)
        if starting and (quiet or chance.random() < 0.7):
            name = chance.choice(sorted(starting))
            starting.discard(name)
            if one.replicas[name].version in bad:
                one.start_failed(name, f"{one.replicas[name].version} is broken", now)
            else:
                one.ready(name)
        if retiring and (quiet or chance.random() < 0.5):
            name = chance.choice(sorted(retiring))
            retiring.discard(name)
            one.retired(name)
        now += one.wait_s(now)

    for _ in range(chance.randrange(5, 60)):
        before = one.count(State.RUNNING) + one.count(State.STARTING)
        ready = one.count(State.RUNNING)
        wanted = one.target.settings.num_replicas if one.target else 0
        step(False)
        assert one.target is not None  # the one before, perhaps: it may have wanted fewer
        least = min(ready, wanted, one.target.settings.num_replicas) - one.is_limited
        assert one.count(State.RUNNING) >= least
        if chance.random() < 0.15:
            version = chance.choice([version, version + 1]) % 20
            one.retarget(target(f"v{version}", chance.randint(1, 4)))
        elif chance.random() < 0.1 and one.count(State.RUNNING):
            name = next(name for name, replica in one.replicas.items() if replica.state is State.RUNNING)
            one.died(name, "killed", now)
    for _ in range(300):
        before = one.count(State.RUNNING) + one.count(State.STARTING)
        step(True)
    assert one.has_failed or one.is_settled, (one.replicas, one.target)
    if one.rolled_back:
        assert one.failure
    assert not starting
    assert not retiring


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 10**9), replicas=st.integers(1, 5), breaks_after=st.integers(0, 5))
def test_an_update_never_has_fewer_ready_replicas(seed: int, replicas: int, breaks_after: int) -> None:
    chance = random.Random(seed)
    one = Deployment(target("v1", replicas))
    started(one)
    one.decide(0.0)
    one.retarget(dataclasses.replace(target("v2", replicas)))
    now, made = 0.0, 0
    for _ in range(200):
        for command in one.decide(now):
            if isinstance(command, Retire | End):
                assert one.count(State.RUNNING) >= replicas
                one.retired(command.replica)
        assert one.count(State.RUNNING) >= replicas
        waiting = [name for name, replica in one.replicas.items() if replica.state is State.STARTING]
        if waiting:
            name = chance.choice(waiting)
            is_new = one.replicas[name].version == "v2"
            made += is_new
            if is_new and made > breaks_after and breaks_after < replicas:
                one.start_failed(name, "broken", now)
            else:
                one.ready(name)
        now += one.wait_s(now)
    assert one.is_settled
    assert one.count(State.RUNNING, "v1" if breaks_after < replicas else "v2") == replicas
