"""Applications: going back together, bake time, canaries, earlier versions; random histories by seed."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skate.serve._answers import Answers, is_worse
from skate.serve._controller.application import Application
from skate.serve._controller.deployment import Retire, Start, State
from skate.serve._targets import ApplicationState, ApplicationTarget, DeploymentTarget, Settings
from skate.serve.config import AutoscalingConfig


def target(number: int, bake_time_s: float = 10.0, replicas: int = 2, **versions: str) -> ApplicationTarget:
    """An application, whose deployments have these versions; the entrance is the first."""
    options = Settings(num_replicas=replicas, bake_time_s=bake_time_s)
    deployments = {name: DeploymentTarget(name, version, options) for name, version in versions.items()}
    return ApplicationTarget("app", "/", next(iter(versions)), deployments, number)


class World:
    """Carries out what an application decides, at once."""

    def __init__(self, first: ApplicationTarget) -> None:
        self.now = 0.0
        self.one = Application(ApplicationState(first), "e")
        #: Versions that do not start.
        self.broken: set[str] = set()
        self.settle()

    def settle(self) -> None:
        for _ in range(200):
            self.one.checked(self.now)
            commands = 0
            for one in list(self.one.deployments.values()):
                for command in one.decide(self.now):
                    commands += 1
                    if isinstance(command, Start):
                        assert one.target is not None
                        if one.target.version in self.broken:
                            one.start_failed(command.replica, "KeyError: 'weights'", self.now)
                        else:
                            one.ready(command.replica)
                    elif isinstance(command, Retire):
                        one.retired(command.replica)
                if one.wait_s(self.now):
                    self.now += one.wait_s(self.now)
                    commands += 1
            if not commands and not self.one.checked(self.now):
                return
        raise AssertionError("it does not settle")

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.settle()

    def running(self) -> dict[str, list[str]]:
        return {
            name: sorted(each.version for each in one.replicas.values() if each.state is State.RUNNING)
            for name, one in self.one.deployments.items()
        }

    def answer(self, name: str, requests: int, failures: int) -> None:
        one = self.one.deployments[name]
        for replica in one.replicas:
            one.counted(replica, Answers(requests, failures, "ValueError: no"))
        self.settle()


def test_the_first_version_is_good_as_soon_as_it_runs() -> None:
    world = World(target(1, A="a1"))
    assert world.one.state.good == world.one.target
    assert not world.one.is_watched
    assert world.one.outcome == ""


def test_an_update_bakes_before_it_is_good() -> None:
    first, second = target(1, A="a1", B="b1"), target(2, A="a2", B="b1")
    world = World(first)
    world.one.deploy(second)
    world.settle()
    assert world.running() == {"A": ["a2", "a2"], "B": ["b1", "b1"]}
    assert world.one.outcome == "" and world.one.state.good == first and world.one.is_watched
    assert world.one.wait_s(world.now) == 10.0
    world.pass_time(9.0)
    assert world.one.state.good == first
    world.pass_time(1.0)
    assert world.one.state.good == second and world.one.state.earlier == (first,)
    assert not world.one.is_watched


def test_a_version_that_fails_more_goes_back_in_all_deployments() -> None:
    world = World(target(1, A="a1", B="b1"))
    world.answer("A", 100, 1)
    world.one.deploy(target(2, A="a2", B="b2"))
    world.settle()
    world.answer("A", 9, 9)
    assert world.running() == {"A": ["a2", "a2"], "B": ["b2", "b2"]}, "18 requests are too few"
    world.answer("A", 10, 2)
    assert world.running() == {"A": ["a1", "a1"], "B": ["b1", "b1"]}
    assert "A: 4 of 20 requests failed" in str(world.one.outcome) and "no" in str(world.one.outcome)


@pytest.mark.parametrize("is_sound", [True, False])
def test_an_update_that_fails_goes_back_to_the_version_that_ran(is_sound: bool) -> None:
    """Also if that one still baked, unless it was in trouble already."""
    first, second, third = (target(number, A=f"a{number}") for number in (1, 2, 3))
    world = World(first)
    world.one.deploy(second)
    world.settle()
    assert world.one.is_watched
    if not is_sound:
        for replica in world.one.deployments["A"].replicas:
            world.one.deployments["A"].counted(replica, Answers(100, 50, "ValueError: no"))
    world.broken = {"a3"}
    world.one.deploy(third)
    world.settle()
    assert "KeyError: 'weights'" in world.one.failure
    assert world.running() == {"A": ["a2", "a2"] if is_sound else ["a1", "a1"]}


def test_a_version_that_fails_as_often_as_before_stays() -> None:
    world = World(target(1, A="a1"))
    world.answer("A", 100, 20)
    world.one.deploy(target(2, A="a2"))
    world.settle()
    world.answer("A", 100, 25)
    assert world.running() == {"A": ["a2", "a2"]}


def test_an_unhealthy_replica_of_a_new_version_brings_back_the_old_one() -> None:
    world = World(target(1, A="a1"))
    world.one.deploy(target(2, A="a2"))
    world.settle()
    one = world.one.deployments["A"]
    one.unhealthy(next(iter(one.replicas)), "RuntimeError: no memory", world.now)
    world.settle()
    assert world.running() == {"A": ["a1", "a1"]}
    assert "no memory" in str(world.one.outcome)


def test_one_death_of_a_new_version_is_an_accident_two_are_not() -> None:
    world = World(target(1, A="a1"))
    world.one.deploy(target(2, A="a2"))
    world.settle()
    one = world.one.deployments["A"]
    one.died(next(iter(one.replicas)), "killed", world.now)
    world.settle()
    assert world.running() == {"A": ["a2", "a2"]}
    one.died(next(iter(one.replicas)), "segfault", world.now)
    world.settle()
    assert world.running() == {"A": ["a1", "a1"]}
    assert "2 replicas died, the latest so: segfault" in str(world.one.outcome)


def test_other_settings_need_no_bake_time() -> None:
    world = World(target(1, A="a1"))
    other = target(2, replicas=3, A="a1")
    world.one.deploy(other)
    world.settle()
    assert world.one.state.good == other and world.one.state.earlier == ()


def test_a_canary_runs_beside_the_target() -> None:
    first, second = target(1, replicas=10, A="a1", B="b1"), target(2, replicas=10, A="a2", B="b1", C="c1")
    world = World(first)
    world.one.try_out(second, 15.0)
    world.settle()
    running = world.running()
    assert running.pop("C") == ["c1"] * 10
    assert running == {"A": ["a1"] * 10, "A#canary": ["a2", "a2"], "B": ["b1"] * 10}
    assert world.one.canary_of("A") == ("A#canary", 15.0) and world.one.canary_of("B") is None
    route = world.one.route(("A-1",))
    assert route is not None and route.canary == ("A#canary", 15.0)
    assert world.one.outcome == "" and world.one.number == 2


def test_a_canary_has_its_part_of_a_number_that_follows_the_load() -> None:
    config = AutoscalingConfig(min_replicas=2, max_replicas=30)

    def scaling(number: int, version: str) -> ApplicationTarget:
        options = Settings(num_replicas=2, bake_time_s=0, autoscaling=config)
        return ApplicationTarget("app", "/", "A", {"A": DeploymentTarget("A", version, options)}, number)

    def numbers() -> tuple[int, ...]:
        return tuple(len(one) for one in world.running().values())

    world = World(scaling(1, "a1"))
    world.one.try_out(scaling(2, "a2"), 20.0)
    world.settle()
    assert numbers() == (2, 1)
    canary = world.one.deployments["A#canary"].target
    assert canary is not None and canary.settings.autoscaling is not None, "it reports its load"
    for number, part in ((20, 4), (30, 6), (2, 1), (10, 2)):
        world.one.deployments["A"].scale(number)
        world.one.scaled("A")
        world.settle()
        assert numbers() == (number, part)
    again = Application(pickle.loads(pickle.dumps(world.one.state)), "f")
    again.deployments["A"].scale(10)
    again.scaled("A")
    assert [one.target and one.target.settings.num_replicas for one in again.deployments.values()] == [10, 2]
    world.one.try_out(scaling(3, "a2"), 50.0)
    world.settle()
    assert numbers() == (10, 5) and world.one.numbers == {"A": 10}
    world.one.promote(4, 0.0)
    world.settle()
    assert world.running() == {"A": ["a2"] * 10}, "it has room for all requests"


def test_a_canary_has_its_part_of_a_number_after_a_restart() -> None:
    world = World(target(1, replicas=10, A="a1"))
    world.one.try_out(target(2, replicas=2, A="a2"), 20.0)
    again = Application(world.one.state, "f")
    assert [one.target and one.target.settings.num_replicas for one in again.deployments.values()] == [10, 2]


def test_a_canary_is_promoted() -> None:
    first, second = target(1, A="a1"), target(2, A="a2")
    world = World(first)
    world.one.try_out(second, 5.0)
    world.settle()
    world.one.promote(3, 0.0)
    assert world.one.canary_of("A") is not None, "it goes on until the others run"
    world.settle()
    assert world.running() == {"A": ["a2", "a2"]}
    assert world.one.number == 3 and world.one.outcome == ""
    world.pass_time(10.0)
    assert world.one.state.earlier == (first,)


def test_a_canary_is_rolled_back() -> None:
    first = target(1, A="a1")
    world = World(first)
    world.one.try_out(target(2, A="a2"), 5.0)
    world.settle()
    world.one.roll_back(3, 0.0)
    world.settle()
    assert world.running() == {"A": ["a1", "a1"]}
    assert world.one.number == 3 and world.one.outcome == "" and not world.one.is_watched


def test_a_canary_that_does_not_start_or_fails_more_is_given_up() -> None:
    world = World(target(1, A="a1"))
    world.broken = {"a2"}
    world.one.try_out(target(2, A="a2"), 5.0)
    world.settle()
    assert world.running() == {"A": ["a1", "a1"]}
    assert "weights" in str(world.one.outcome)
    world.one.try_out(target(3, A="a3"), 5.0)
    world.settle()
    assert world.running() == {"A": ["a1", "a1"], "A#canary": ["a3"]}
    world.answer("A", 100, 1)
    world.answer("A#canary", 20, 10)
    assert world.running() == {"A": ["a1", "a1"]}
    assert "10 of 20 requests failed (2 of 200 without it)" in str(world.one.outcome)


def test_earlier_versions_come_back() -> None:
    world = World(target(1, A="a1"))
    for number in range(2, 7):
        world.one.deploy(target(number, A=f"a{number}"))
        world.settle()
        world.pass_time(10.0)
    for number, version in ((7, "a5"), (8, "a4"), (9, "a3")):
        world.one.roll_back(number, 0.0)
        world.settle()
        assert world.running() == {"A": [version] * 2}
        assert len(world.one.state.earlier) == 9 - number


def test_a_version_that_bakes_is_rolled_back_to_the_good_one() -> None:
    world = World(target(1, A="a1"))
    world.one.deploy(target(2, A="a2"))
    world.settle()
    world.one.roll_back(3, 0.0)
    world.settle()
    assert world.running() == {"A": ["a1", "a1"]}
    assert world.one.outcome == "" and world.one.number == 3
    assert world.one.state.earlier == () and not world.one.is_watched


def test_a_promotion_that_is_under_way_is_rolled_back() -> None:
    world = World(target(1, A="a1"))
    world.one.try_out(target(2, A="a2"), 5.0)
    world.settle()
    world.one.promote(3, 0.0)
    world.one.roll_back(4, 0.0)
    world.settle()
    assert world.running() == {"A": ["a1", "a1"]}
    assert world.one.outcome == "" and world.one.state.canary is None


def test_what_was_deleted_does_not_come_back() -> None:
    world = World(target(1, A="a1"))
    world.one.delete()
    assert len(world.one.deployments["A"].decide(world.now)) == 2  # they finish their requests
    world.broken = {"a2"}
    world.one.deploy(target(2, A="a2"))
    world.settle()
    assert world.running() == {"A": []}
    assert "weights" in str(world.one.outcome)


def test_an_update_that_fails_goes_back_though_a_canary_was_given_up() -> None:
    world = World(target(1, A="a1"))
    world.broken = {"a2", "a3"}
    world.one.try_out(target(2, A="a2"), 5.0)
    world.settle()
    assert world.one.failure.startswith("the canary was given up")
    world.one.deploy(target(3, A="a3"))
    world.one.failure = "the canary was given up: another reason"
    world.settle()
    assert world.running() == {"A": ["a1", "a1"]}


def test_a_restored_state_goes_on() -> None:
    world = World(target(1, A="a1"))
    world.one.try_out(target(2, A="a2"), 50.0)
    world.settle()
    again = Application(world.one.state, "f")
    assert set(again.deployments) == {"A", "A#canary"}


def test_worse_is_more_failures_by_far() -> None:
    assert not is_worse(Answers(19, 19), Answers())
    assert is_worse(Answers(20, 2), Answers())
    assert not is_worse(Answers(100, 5), Answers(100, 0))
    assert not is_worse(Answers(100, 40), Answers(100, 20))
    assert is_worse(Answers(100, 41), Answers(100, 20))


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["deploy", "try_out", "promote", "roll_back", "fail", "die", "time"]),
        st.integers(1, 4),
        st.booleans(),
    ),
    max_size=25,
)


@settings(max_examples=150, deadline=None)
@given(STEPS, st.sets(st.integers(2, 4)))
def test_any_history_ends_with_one_version_that_starts(
    steps: list[tuple[str, int, bool]], broken: set[int]
) -> None:
    """Whatever is asked for: in the end all replicas of the target run, and of nothing else but the canary."""
    world = World(target(1, A="v1", B="v1"))
    world.broken = {f"v{number}" for number in broken}
    for number, (step, version, both) in enumerate(steps, 2):
        wanted = target(number, A=f"v{version}", B=f"v{version}" if both else "v1")
        one = world.one
        if step == "deploy":
            one.deploy(wanted)
        elif step == "try_out":
            one.try_out(wanted, 10.0 * version)
        elif step == "promote" and one.state.canary is not None:
            one.promote(number, 0.0)
        elif step == "roll_back" and (one.state.canary is not None or one.state.earlier):
            one.roll_back(number, 0.0)
        elif step == "fail":
            world.answer("A", 30 * version, 10 * version)
        elif step == "die":
            found = one.deployments["A"]
            found.died(next(iter(found.replicas)), "killed", world.now)
        else:
            world.now += 4.0 * version
        world.settle()
        running = world.running()
        canary = {name: versions for name, versions in running.items() if name.endswith("#canary")}
        for name, wanted_one in one.target.deployments.items():
            assert running[name] == [wanted_one.version] * 2
            assert wanted_one.version not in world.broken
        assert bool(canary) <= (one.state.canary is not None)
        assert one.state.good is not None and len(one.state.earlier) <= 3
    world.pass_time(10.0)
    assert world.one.state.good == world.one.target
