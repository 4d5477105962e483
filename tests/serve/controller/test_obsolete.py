"""Applications: deployments that an update leaves out, and another entrance."""

from __future__ import annotations

from typing import Any

from skate.serve._controller.application import Application
from skate.serve._controller.deployment import End, Retire, Start, State
from skate.serve._targets import ApplicationState, ApplicationTarget, DeploymentTarget, Settings
from skate.serve.schema import ApplicationStatus


def target(number: int, ingress: str, **options: dict[str, Any] | None) -> ApplicationTarget:
    """Return a target whose deployments have one replica each, of the version ``number``."""
    deployments = {
        name: DeploymentTarget(
            name, f"v{number}", Settings(max_constructor_retry_count=1), actor_options or {}
        )
        for name, actor_options in options.items()
    }
    return ApplicationTarget("default", "/", ingress, deployments, number, 0.0)


def step(one: Application, broken: tuple[str, ...] = ()) -> list[str]:
    """Reconcile once: all that starts is ready, and all that retires ends, except what is broken.

    Return the names of deployments whose replicas retire.
    """
    one.checked(0.0)
    retiring = []
    for name, found in list(one.deployments.items()):
        for command in found.decide(0.0):
            if isinstance(command, Start):
                if name in broken:
                    found.start_failed(command.replica, "the weights are missing", 0.0)
                else:
                    found.ready(command.replica)
            elif isinstance(command, Retire | End):
                retiring.append(name)
                found.retired(command.replica)
    one.checked(0.0)
    return retiring


def running(one: Application) -> set[str]:
    return {name for name, found in one.deployments.items() if found.count(State.RUNNING)}


def settled(first: ApplicationTarget) -> Application:
    one = Application(ApplicationState(first), "e")
    while one.outcome is None or one.state.good is not first:
        step(one)
    return one


def test_a_deployment_that_is_left_out_goes_when_nothing_calls_it() -> None:
    one = settled(target(1, "Front", Front=None, Model=None))
    one.deploy(target(2, "Front", Front=None))
    (old,) = one.deployments["Front"].replicas
    one.checked(0.0)
    assert one.deployments["Model"].decide(0.0) == []
    (start,) = one.deployments["Front"].decide(0.0)
    one.deployments["Front"].ready(start.replica)
    assert one.deployments["Front"].decide(0.0) == [Retire(old)]
    one.checked(0.0)
    # The old entrance finishes its requests, for which it may call the model.
    assert one.deployments["Model"].decide(0.0) == []
    one.deployments["Front"].retired(old)
    assert step(one) == ["Model"]
    assert step(one) == []
    assert {*one.deployments} == {"Front"}
    assert one.outcome == ""


def test_a_deployment_that_is_left_out_gives_its_resources_to_what_needs_them() -> None:
    one = settled(target(1, "Front", Front=None, Old={"num_cpus": 2}, Plain=None))
    one.deploy(target(2, "Front", Front=None, New={"num_cpus": 2}))
    one.deployments["New"].is_limited, one.deployments["New"].can_surge = True, False
    assert one.checked(0.0)
    (replica,) = one.deployments["Old"].replicas
    assert one.deployments["Old"].decide(0.0) == [Retire(replica)]
    assert one.deployments["Plain"].decide(0.0) == []


def test_a_failed_update_leaves_what_it_would_have_left_out() -> None:
    one = settled(target(1, "Front", Front=None, Old=None))
    before = {id for found in one.deployments.values() for id in found.replicas}
    one.deploy(target(2, "Front", Front=None, New=None))
    while not one.failure:
        step(one, broken=("New",))
    for _ in range(5):
        step(one, broken=("New",))
    assert running(one) == {"Front", "Old"}
    assert {*one.deployments} == {"Front", "Old"}
    assert before >= {*one.deployments["Old"].replicas}
    assert one.outcome == "New: the weights are missing"
    assert one.status(0.0).status is ApplicationStatus.RUNNING
    # The failure of a deployment that is no longer wanted is none of the next update's.
    one.deploy(target(3, "Front", Front=None, Old=None))
    while one.outcome is None:
        step(one)
    assert one.outcome == ""


def test_the_entrance_changes_when_the_new_one_runs() -> None:
    one = settled(target(1, "Front", Front=None, Model=None))
    one.deploy(target(2, "Door", Door=None, Model=None))
    one.checked(0.0)
    assert one.entrance == "Front"
    assert one.route(("Front-1",)).ingress == "Front"  # type: ignore[union-attr]
    step(one)
    assert one.entrance == "Door"
    while "Front" in one.deployments:
        step(one)
    assert running(one) == {"Door", "Model"}


def test_the_first_entrance_is_the_target_s() -> None:
    assert Application(ApplicationState(target(1, "Front", Front=None)), "e").entrance == "Front"


def test_a_deleted_application_removes_all_entrances_first() -> None:
    one = settled(target(1, "Front", Front=None, Model=None))
    one.deploy(target(2, "Door", Door=None))
    one.delete()
    assert step(one) == ["Front"]
    assert one.route(()) is None
    assert step(one) == ["Model"]
    step(one)
    assert one.is_gone


def test_an_entrance_goes_before_what_it_calls() -> None:
    one = settled(target(1, "Front", Front=None, Model=None))
    one.deploy(target(2, "Door", Door=None, Other=None))
    assert step(one) == []
    assert step(one) == ["Front"]
    assert step(one) == ["Model"]
    step(one)
    assert {*one.deployments} == {"Door", "Other"}
