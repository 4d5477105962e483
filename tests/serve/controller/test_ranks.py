"""Ranks: unique among all that live, without a gap at rest, stable otherwise; random histories by seed."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from skate.serve._controller import ranks
from skate.serve._controller.deployment import Change, Deployment, End, Retire, Start, State
from skate.serve._targets import DeploymentTarget, Settings


def target(version: str = "v1", replicas: int = 2) -> DeploymentTarget:
    return DeploymentTarget("D", version, Settings(num_replicas=replicas))


def started(one: Deployment) -> None:
    """Decide, and have all that is to start be ready; decide again."""
    for command in one.decide(0.0):
        if isinstance(command, Start):
            one.ready(command.replica)
    one.decide(0.0)


def ranks_of(one: Deployment) -> dict[str, int]:
    return {name: replica.rank for name, replica in one.replicas.items()}


def test_the_lowest_free_rank() -> None:
    assert ranks.lowest_free(set()) == 0
    assert ranks.lowest_free({0, 2}) == 1
    assert ranks.lowest_free({0, 1}) == 2


def test_only_ranks_beyond_the_number_move() -> None:
    assert ranks.moved({"a": 1, "b": 0}) == {}
    assert ranks.moved({"a": 2, "b": 0}) == {"a": 1}
    assert ranks.moved({"a": 5, "b": 1, "c": 3}) == {"c": 0, "a": 2}


def test_a_replacement_gets_the_rank_of_the_dead() -> None:
    one = Deployment(target(replicas=3))
    started(one)
    one.died("D-2", "killed", 0.0)
    started(one)
    assert ranks_of(one) == {"D-1": 0, "D-3": 2, "D-4": 1}


def test_the_ranks_of_an_update_close_their_gaps_at_its_end() -> None:
    one = Deployment(target("v1", 2))
    started(one)
    one.retarget(target("v2", 2))
    assert one.decide(0.0) == [Start("D-3")]
    one.ready("D-3")
    assert one.decide(0.0) == [Retire("D-1"), Start("D-4")]
    one.ready("D-4")
    one.decide(0.0)
    assert ranks_of(one) == {"D-1": 0, "D-2": 1, "D-3": 2, "D-4": 3}  # those that retire live still
    one.retired("D-1")
    assert one.decide(0.0) == []
    one.retired("D-2")
    assert one.decide(0.0) == [Change("D-3"), Change("D-4")]
    assert ranks_of(one) == {"D-3": 0, "D-4": 1}
    assert one.decide(0.0) == []


def test_the_ranks_survive_the_controller() -> None:
    one = Deployment(target(replicas=3))
    one.adopted("a", "v1", State.RUNNING, 2)
    one.adopted("b", "v1", State.RUNNING, 0)
    one.adopted("c", "v1", State.RUNNING, 2)  # the controller ended before it could say that another moved
    assert ranks_of(one) == {"a": 2, "b": 0, "c": 1}
    assert one.decide(0.0) == [Change("a"), Change("b"), Change("c")]
    assert one.decide(0.0) == []


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 10**9))
def test_random_histories_have_unique_ranks_and_rest_without_a_gap(seed: int) -> None:
    chance = random.Random(seed)
    one = Deployment(target("v0", chance.randint(1, 4)))
    retiring: set[str] = set()

    def step(likely: float) -> None:
        before = ranks_of(one)
        commands = one.decide(0.0)
        ended = {command.replica for command in commands if isinstance(command, Retire | End)}
        retiring.update(ended)
        now = ranks_of(one)
        assert len({*now.values()}) == len(now)
        changed = {command.replica for command in commands if isinstance(command, Change)}
        assert all(name in changed for name, rank in before.items() if now[name] != rank)
        for name, replica in list(one.replicas.items()):
            if chance.random() >= likely:
                continue
            if replica.state is State.STARTING:
                one.ready(name)
            elif name in retiring:
                retiring.discard(name)
                one.retired(name)

    for number in range(chance.randrange(5, 40)):
        step(0.5)
        if chance.random() < 0.2:
            one.retarget(target(f"v{chance.choice((0, number))}", chance.randint(1, 4)))
        elif chance.random() < 0.2 and one.replicas:
            name = chance.choice(sorted(one.replicas))
            if one.replicas[name].state is State.RUNNING and one.good is one.target:
                one.died(name, "killed", 0.0)
    for _ in range(40):
        step(1.0)
    assert one.is_settled
    assert sorted(ranks_of(one).values()) == list(range(len(one.replicas)))
