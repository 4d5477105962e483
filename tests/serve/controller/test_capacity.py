"""A part of the replicas: the numbers, and applications that have it through updates and ways back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from skate.serve._controller.application import Application
from skate.serve._controller.autoscaling import Autoscaler, Load
from skate.serve._controller.capacity import adjusted, at_capacity, bounds, changed
from skate.serve._controller.deployment import Retire, Start, State
from skate.serve._targets import (
    ApplicationState,
    ApplicationTarget,
    Capacity,
    DeploymentTarget,
    Settings,
)
from skate.serve.config import AutoscalingConfig

FALLING = Capacity(50, is_rising=False)
RISING = Capacity(50, is_rising=True)
NOTHING = Capacity(0, is_rising=False)
SCALED = AutoscalingConfig(min_replicas=2, initial_replicas=6, max_replicas=10)


@pytest.mark.parametrize(
    ("number", "percent", "found"),
    [
        (10, 100, 10),
        (10, 50, 5),
        (5, 50, 3),  # a half is rounded up
        (3, 50, 2),
        (10, 44, 4),
        (10, 45, 5),
        (1, 1, 1),  # a deployment that is to run runs
        (100, 0.1, 1),
        (100, 0, 0),
        (0, 50, 0),
    ],
)
def test_numbers(number: int, percent: float, found: int) -> None:
    assert adjusted(number, Capacity(percent, is_rising=False)) == found
    assert adjusted(number, None) == number


def test_the_direction() -> None:
    assert changed(None, None, is_first=True) is None
    assert changed(None, 30, is_first=True) == Capacity(30, is_rising=True)
    assert changed(None, 30, is_first=False) == Capacity(30, is_rising=False)
    assert changed(FALLING, 70, is_first=False) == Capacity(70, is_rising=True)
    assert changed(RISING, 20, is_first=False) == Capacity(20, is_rising=False)
    assert changed(RISING, 50, is_first=False) == RISING
    assert changed(RISING, None, is_first=False) is None


def test_bounds() -> None:
    assert bounds(SCALED, None) == (2, 10)
    assert bounds(SCALED, FALLING) == (1, 5)
    assert bounds(SCALED, RISING) == (3, 5)
    assert bounds(SCALED, NOTHING) == (0, 0)
    assert bounds(replace(SCALED, initial_replicas=None), RISING) == (1, 5)


def test_a_number_is_adjusted_once() -> None:
    target = DeploymentTarget("D", "v1", Settings(num_replicas=8))
    half = at_capacity(target, FALLING)
    assert half.settings.num_replicas == 4
    assert at_capacity(half, FALLING) is half
    assert at_capacity(target, None) is target


def test_the_load_stays_within_the_bounds() -> None:
    one = Autoscaler(SCALED, 0.0, bounds(SCALED, NOTHING))
    one.loads.reported("a", Load(5, 5), 0.0)
    assert one.decide(10, 0, 1.0) == 0, "zero capacity starts nothing for a request"
    one.bounds = bounds(SCALED, FALLING)
    assert one.decide(10, 0, 2.0) == 5


# ---------------------------------------------------------------------- applications


def application(version: str = "v1", number: int = 4, **more: Settings) -> ApplicationTarget:
    settings = {"D": Settings(num_replicas=number), **more}
    deployments = {name: DeploymentTarget(name, version, one) for name, one in settings.items()}
    return ApplicationTarget("app", "/", "D", deployments)


def settle(one: Application, now: float = 0.0, broken: str = "") -> None:
    """Carry out decisions until there are none, and let the bake time pass."""
    for _ in range(100):
        one.checked(now)
        for found in list(one.deployments.values()):
            for command in found.decide(now):
                if isinstance(command, Start):
                    if found.replicas[command.replica].version == broken:
                        found.start_failed(command.replica, "KeyError", now)
                    else:
                        found.ready(command.replica)
                elif isinstance(command, Retire):
                    found.retired(command.replica)
        now += 20


def running(one: Application) -> dict[str, int]:
    return {name: found.count(State.RUNNING) for name, found in one.deployments.items()}


def test_all_deployments_have_their_part() -> None:
    both = application(Other=Settings(num_replicas=1))
    one = Application(ApplicationState(both, capacity=FALLING), "e")
    settle(one)
    assert running(one) == {"D": 2, "Other": 1}
    assert one.target.deployments["D"].settings.num_replicas == 4, "the wish is still there"
    one.deploy(both, Capacity(75, is_rising=True))
    settle(one)
    assert running(one) == {"D": 3, "Other": 1}
    one.deploy(both, NOTHING)
    settle(one)
    assert (running(one), one.outcome) == ({"D": 0, "Other": 0}, "")
    one.deploy(both)
    settle(one)
    assert running(one) == {"D": 4, "Other": 1}


def test_the_version_before_comes_back_at_the_present_capacity() -> None:
    one = Application(ApplicationState(application("v1"), capacity=FALLING), "e")
    settle(one)
    one.deploy(application("v2"), Capacity(100, is_rising=True))
    settle(one)
    one.roll_back(2, 0.0)
    settle(one)
    assert (one.target.deployments["D"].version, running(one)) == ("v1", {"D": 4})


def test_a_version_that_fails_goes_back_at_the_present_capacity() -> None:
    one = Application(ApplicationState(application("v1")), "e")
    settle(one)
    one.deploy(application("v2"), FALLING)
    settle(one, broken="v2")
    assert (one.target.deployments["D"].version, running(one)) == ("v1", {"D": 2})
    assert "KeyError" in one.failure


def test_a_canary_has_its_part_of_the_part() -> None:
    one = Application(ApplicationState(application("v1", number=20), capacity=FALLING), "e")
    settle(one)
    one.try_out(application("v2", number=20), 20)
    settle(one)
    assert running(one) == {"D": 10, "D#canary": 2}
    again = Application(one.state, "f")  # the controller's next life
    settle(again)
    assert running(again) == {"D": 10, "D#canary": 2}


def test_a_canary_of_nothing_is_nothing() -> None:
    one = Application(ApplicationState(application("v1"), capacity=NOTHING), "e")
    settle(one)
    one.try_out(application("v2"), 20)
    settle(one)
    assert running(one) == {"D": 0, "D#canary": 0}


def test_programs_outside_name_the_number_itself() -> None:
    target = replace(application(), external_scaler_enabled=True)
    one = Application(ApplicationState(target, capacity=FALLING), "e")
    settle(one)
    one.scale("D", 7)
    settle(one)
    assert running(one) == {"D": 7}


def test_an_update_keeps_what_programs_outside_named() -> None:
    target = replace(application(), external_scaler_enabled=True)
    one = Application(ApplicationState(target), "e")
    settle(one)
    for number in (7, 3):
        one.scale("D", number)
        one.deploy(target)
        settle(one)
        assert running(one) == {"D": number}
    other = replace(application(D=Settings(num_replicas=5)), external_scaler_enabled=True)
    one.deploy(other)
    settle(one)
    assert running(one) == {"D": 5}, "the file has another number now"
    one.scale("D", 2)
    one.deploy(replace(other, external_scaler_enabled=False))
    settle(one)
    assert running(one) == {"D": 5}


def test_what_scales_itself_begins_with_its_part() -> None:
    scaled = application(Scaled=Settings(num_replicas=6, autoscaling=SCALED))
    one = Application(ApplicationState(scaled, capacity=RISING), "e")
    settle(one)
    assert running(one)["Scaled"] == 3
    one.deployments["Scaled"].scale(100)
    settle(one)
    assert running(one)["Scaled"] == 5
    one.deploy(scaled, Capacity(20, is_rising=False))
    settle(one)
    assert running(one)["Scaled"] == 2
    one.deploy(scaled)
    settle(one)
    assert running(one)["Scaled"] == 2, "the load says when there are more"
