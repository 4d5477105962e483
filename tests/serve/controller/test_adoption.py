"""What becomes of replicas that a restarted controller finds, and of what the controller before had begun."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from skate.serve._controller.adoption import Fate, fate_of, watchers
from skate.serve._controller.application import Application
from skate.serve._controller.deployment import End, Retire, Start, State
from skate.serve._controller.tables import Watched
from skate.serve._messages import Table
from skate.serve._targets import ApplicationState, ApplicationTarget, DeploymentId, DeploymentTarget, Settings

IDLE = {"ready": True, "draining": False, "accepts": False, "routers": [], "process": "p"}


@pytest.mark.parametrize(
    ("is_wanted", "was_ready", "counts", "fate"),
    [
        (True, True, IDLE, Fate.STAY),
        (False, True, IDLE, Fate.DRAIN),
        (True, True, IDLE | {"draining": True}, Fate.DRAIN),
        (True, False, IDLE | {"ready": False}, Fate.END),
        (True, False, IDLE | {"ready": False, "accepts": True}, Fate.DRAIN),
        (False, False, IDLE | {"ready": False}, Fate.END),
        (True, True, None, Fate.STAY),
        (False, True, None, Fate.DRAIN),
        (True, False, None, Fate.END),
    ],
)
def test_a_replica_that_may_have_requests_never_ends_at_once(
    is_wanted: bool, was_ready: bool, counts: dict[str, Any] | None, fate: Fate
) -> None:
    assert fate_of(is_wanted, was_ready, counts) is fate


def test_the_watchers_of_the_controller_before_are_waited_for() -> None:
    name = DeploymentId("Model", "default")
    found = [IDLE | {"routers": ["a", "b/here"]}, IDLE | {"accepts": True, "process": "c"}]
    assert watchers(name, found) == [
        (("deployment", name), "a"),
        (("deployment", name), "b/here"),
        (("routes",), "c"),
    ]
    table = Watched()
    for watcher in ("a", "b/here", "c"):
        table.expect(watcher)
    table.publish(Table(7))
    answers: list[Table] = []
    table.ask("a", 3, answers.append)  # with a version of the controller before
    assert [one.version for one in answers] == [7]
    table.ask("a", 7, answers.append)
    assert not table.is_known_to_all(7)
    table.gone("b")
    assert not table.is_known_to_all(7)
    table.ask("c", 7, answers.append)
    assert table.is_known_to_all(7)


def target(number: int, ingress: str, *names: str) -> ApplicationTarget:
    deployments = {name: DeploymentTarget(name, f"v{number}", Settings()) for name in names}
    return ApplicationTarget("default", "/", ingress, deployments, number)


def step(one: Application) -> dict[str, list[str]]:
    """Reconcile once, all that starts being ready; return what is to start and to end, by deployment."""
    one.checked(0.0)
    found: dict[str, list[str]] = {}
    for name, each in list(one.deployments.items()):
        for command in each.decide(0.0):
            if isinstance(command, Start):
                each.ready(command.replica)
            if isinstance(command, Start | Retire | End):
                found.setdefault(name, []).append(type(command).__name__)
    one.checked(0.0)
    return found


def restarted(before: Application) -> Application:
    """Return what the next controller makes of an application and its replicas."""
    one = Application(pickle.loads(pickle.dumps(before.state)), "f")
    for name, each in before.deployments.items():
        for replica in each.replicas.values():
            if name in one.deployments and replica.state is not State.STARTING:
                one.deployments[name].adopted(replica.id, replica.version, replica.state, replica.rank)
    return one


def test_what_an_update_leaves_out_goes_on_after_a_restart() -> None:
    before = Application(ApplicationState(target(1, "Front", "Front", "A")), "e")
    step(before)
    before.deploy(target(2, "Front", "Front", "B"))
    one = restarted(before)
    assert step(one) == {"Front": ["Start"], "B": ["Start"]}
    (old,) = [one.id for one in one.deployments["Front"].replicas.values() if one.version == "v1"]
    assert step(one) == {"Front": ["Retire"]}
    one.deployments["Front"].retired(old)
    assert step(one) == {"A": ["Retire"]}
    assert one.state.obsolete == {}


def test_what_was_left_out_before_that_goes_on_too() -> None:
    """The version that never was good has a deployment of its own, which its replicas call."""
    before = Application(ApplicationState(target(1, "Front", "Front", "A")), "e")
    step(before)
    before.deploy(target(2, "Front", "Front", "B"))
    step(before)
    before.deploy(target(3, "Front", "Front", "C"))
    assert {*before.state.obsolete} == {"A", "B"}
    assert {*restarted(before).deployments} == {"Front", "A", "B", "C"}


def test_a_deleted_application_ends_in_its_order_after_a_restart() -> None:
    before = Application(ApplicationState(target(1, "Front", "Front", "A")), "e")
    step(before)
    before.delete()
    one = restarted(before)
    assert one.is_deleting and one.route(()) is None
    assert step(one) == {"Front": ["Retire"]}
    one.deployments["Front"].retired(*one.deployments["Front"].replicas)
    again = restarted(one)
    assert step(again) == {"A": ["Retire"]}, "its entrance is gone already, and does not start again"
    again.deployments["A"].retired(*again.deployments["A"].replicas)
    again.checked(0.0)
    assert again.is_gone
    again.deploy(target(2, "Front", "Front"))
    assert not again.is_deleting and step(again) == {"Front": ["Start"]}
