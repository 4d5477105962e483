"""Each replica has a placement group of its own; a node has so many replicas: real processes on two CPUs."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

import skate
from skate import serve
from skate.serve.schema import ServeDeploySchema
from skate.util import get_current_placement_group, placement_group_table

from .conftest import Web
from .processes import controller, kill_controller, pid_of, replicas

Wait = Callable[[Callable[[], object]], None]
pytestmark = pytest.mark.time_limit(120)


@skate.remote(num_cpus=0.5)
def group_of_a_task() -> Any:
    return get_current_placement_group()


@skate.remote(num_cpus=0.25)
class Child:
    def pid(self) -> int:
        return os.getpid()


@serve.deployment(
    ray_actor_options={"num_cpus": 0.5},
    placement_group_bundles=[{"CPU": 0.5}, {"CPU": 0.5}],
    health_check_period_s=60,
)
class Model:
    def __init__(self, version: str = "a") -> None:
        self.version = version
        self.child: Any = None

    def __call__(self, request: Any = None) -> str:
        return self.version

    def groups(self) -> tuple[Any, Any]:
        return get_current_placement_group(), skate.get(group_of_a_task.remote())

    def start_child(self) -> int:
        self.child = Child.options(lifetime="detached").remote()
        return int(skate.get(self.child.pid.remote()))


def groups(state: str = "CREATED") -> set[str]:
    """Return the ids of the placement groups in a state."""
    return {one["placement_group_id"] for one in placement_group_table().values() if one["state"] == state}


def living() -> set[str]:
    return groups("CREATED") | groups("PENDING")


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def message() -> str:
    return serve.status().applications["default"].message


def start(*applications: Any) -> None:
    """Have applications brought about, and wait for nothing."""
    targets = [serve.RunTarget(one, route_prefix=None) for one in applications]
    serve.run_many(targets, wait_for_applications_running=False)


@pytest.fixture
def clean(web: Web, wait_until: Wait) -> Any:
    """No group is left of another test, nor of this one."""
    wait_until(lambda: not living())
    yield
    for name in serve.status().applications:
        serve.delete(name)
    wait_until(lambda: not living() and skate.available_resources().get("CPU") == 2)


def test_a_replica_and_what_it_starts_are_in_its_group(clean: Any, wait_until: Wait) -> None:
    handle = serve.run(Model.options(num_replicas=2).bind(), route_prefix=None)
    assert len(groups()) == 2
    wait_until(lambda: "CPU" not in skate.available_resources())
    own, of_task = handle.groups.remote().result()
    assert own == of_task
    assert own.id.hex() in groups()
    assert own.bundle_specs == [{"CPU": 0.5}, {"CPU": 0.5}]
    before = groups()
    serve.delete("default")
    wait_until(lambda: not living())
    assert before <= groups("REMOVED")


def test_a_group_ends_with_its_replica_that_is_killed(clean: Any, wait_until: Wait) -> None:
    handle = serve.run(Model.bind(), route_prefix=None)
    child = handle.start_child.remote().result()
    (first,) = groups()
    (actor,) = replicas("Model").values()
    os.kill(pid_of(actor), signal.SIGKILL)
    wait_until(lambda: len(groups()) == 1 and first not in groups())
    wait_until(lambda: not is_alive(child))
    wait_until(lambda: len(replicas("Model")) == 1)
    assert handle.remote().result() == "a"


def test_a_restarted_controller_leaves_groups_that_are_in_use(clean: Any, wait_until: Wait) -> None:
    handle = serve.run(Model.bind(), route_prefix=None)
    (first,), (replica,) = groups(), replicas("Model")
    kill_controller()
    assert {*replicas("Model")} == {replica}
    assert handle.remote().result() == "a"
    assert groups() == {first}
    serve.run(Model.bind("b"), route_prefix=None)  # an update finds the group of the replica that it ends
    wait_until(lambda: len(living()) == 1)
    assert first in groups("REMOVED")


def test_a_restarted_controller_removes_the_groups_of_replicas_that_died(
    clean: Any, wait_until: Wait
) -> None:
    serve.run(Model.bind(), route_prefix=None)
    (first,), (actor,) = groups(), replicas("Model").values()
    replica, brain = pid_of(actor), pid_of(controller())
    os.kill(brain, signal.SIGSTOP)
    os.kill(replica, signal.SIGKILL)
    os.kill(brain, signal.SIGKILL)
    wait_until(lambda: first in groups("REMOVED"))
    wait_until(lambda: len(replicas("Model")) == 1 and len(groups()) == 1)


def test_a_restarted_controller_removes_the_groups_of_replicas_that_never_started(
    clean: Any, wait_until: Wait
) -> None:
    start(Model.options(placement_group_bundles=[{"CPU": 2}, {"CPU": 1}]).bind())
    wait_until(lambda: groups("PENDING"))
    first = groups("PENDING")
    kill_controller()
    wait_until(lambda: first <= groups("REMOVED"))
    wait_until(lambda: len(groups("PENDING")) == 1)


@pytest.mark.parametrize("amount", [0.5, 1])
def test_an_update_with_and_without_room(clean: Any, amount: float) -> None:
    """Two replicas of 0.5 CPUs leave room for a third; of 1 CPU they leave none, and one ends first."""
    model = Model.options(
        num_replicas=2,
        ray_actor_options={"num_cpus": 0},
        placement_group_bundles=[{"CPU": amount / 2}, {"CPU": amount / 2}],
    )
    handle = serve.run(model.bind("a"), route_prefix=None)
    before = groups()
    serve.run(model.bind("b"), route_prefix=None)
    assert handle.remote().result() == "b"
    assert len(groups() - before) == 2


def test_a_group_that_never_fits_says_so_and_costs_no_replica(clean: Any, wait_until: Wait) -> None:
    model = Model.options(num_replicas=2, placement_group_bundles=[{"CPU": 0.5}, {"CPU": 0.5}])
    handle = serve.run(model.bind("a"), route_prefix=None)
    before = {*replicas("Model")}
    start(model.options(placement_group_bundles=[{"CPU": 2}, {"CPU": 1}]).bind("b"))
    wait_until(lambda: "can never have its bundles" in message())
    assert message().startswith(
        "Model: 1 of 2 replicas waits: its placement group can never have its bundles: "
    )
    assert serve.status().applications["default"].status == "DEPLOYING"
    assert {*replicas("Model")} == before
    serve.run(model.bind("a"), route_prefix=None)
    assert ({*replicas("Model")}, message()) == (before, "")
    wait_until(lambda: len(living()) == 2)
    assert handle.remote().result() == "a"


def test_an_actor_that_never_fits_says_so_and_costs_no_replica(clean: Any, wait_until: Wait) -> None:
    model = serve.deployment(num_replicas=2, ray_actor_options={"num_cpus": 1})(_version).options(
        name="Model"
    )
    serve.run(model.bind(), route_prefix=None)
    before = {*replicas("Model")}
    start(model.options(ray_actor_options={"num_cpus": 5}).bind())
    text = "Model: 1 of 2 replicas waits: it needs more than the whole session has: 5 CPU of 2"
    wait_until(lambda: message() == text)
    assert {*replicas("Model")} == before


def test_bundles_that_need_several_nodes_never_fit(clean: Any, wait_until: Wait) -> None:
    start(Model.options(placement_group_strategy="STRICT_SPREAD").bind())
    wait_until(lambda: "can never have its bundles" in message())


def test_a_group_that_waits_for_resources_says_so(clean: Any, wait_until: Wait) -> None:
    whole = Model.options(placement_group_bundles=[{"CPU": 2}])
    serve.run(whole.bind(), name="first", route_prefix=None)
    start(whole.bind())
    wait_until(lambda: "waits until {'CPU': 2.0} are free" in message())
    serve.delete("first")
    wait_until(lambda: serve.status().applications["default"].status == "RUNNING")
    assert message() == ""


def test_a_node_has_so_many_replicas(clean: Any, wait_until: Wait) -> None:
    model = serve.deployment(max_replicas_per_node=2)(_version).options(name="Model")
    start(model.options(num_replicas=3).bind())
    wait_until(lambda: len(replicas("Model")) == 2)
    text = "1 of 3 replicas waits: max_replicas_per_node is 2, and there is one node"
    assert message() == f"Model: {text}"
    found = serve.status().applications["default"]
    assert (found.status, found.deployments["Model"].replica_states) == ("DEPLOYING", {"RUNNING": 2})
    assert serve.get_app_handle("default").remote().result() == "here"
    before = {*replicas("Model")}
    serve.run(model.options(num_replicas=3, max_replicas_per_node=3).bind(), route_prefix=None)
    assert {*replicas("Model")} > before
    start(model.options(num_replicas=3, max_replicas_per_node=1).bind())
    wait_until(lambda: len(replicas("Model")) == 1)
    assert "2 of 3 replicas wait: max_replicas_per_node is 1" in message()


def _version(request: Any = None) -> str:
    return "here"


def test_what_a_config_file_says(clean: Any) -> None:
    options = {
        "name": "Model",
        "placement_group_bundles": [{"CPU": 1}],
        "placement_group_strategy": "STRICT_PACK",
    }
    config = {"import_path": "app:model", "deployments": [options]}
    schema = ServeDeploySchema.model_validate({"applications": [config]})
    found = Model.options(**schema.applications[0].deployments[0].options)
    serve.run(found.bind(), route_prefix=None)
    (table,) = [one for one in placement_group_table().values() if one["state"] == "CREATED"]
    assert (table["bundles"], table["strategy"]) == ({0: {"CPU": 1.0}}, "STRICT_PACK")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"placement_group_bundles": []}, "takes a list of bundles"),
        ({"placement_group_bundles": [{"CPU": "1"}]}, r"placement_group_bundles\[0\] takes amounts"),
        (
            {"placement_group_bundles": [{"CPU": 1}, {"GPU": 0}]},
            r"placement_group_bundles\[1\] reserves nothing",
        ),
        ({"placement_group_strategy": "PACK"}, "needs placement_group_bundles"),
        (
            {"placement_group_bundles": [{"CPU": 1}], "placement_group_strategy": "pack"},
            "takes one of PACK, ",
        ),
        ({"placement_group_bundles": [{"CPU": 1}], "max_replicas_per_node": 1}, "is not allowed with"),
        (
            {"placement_group_bundles": [{"CPU": 1}], "ray_actor_options": {"num_cpus": 2}},
            "2 CPU is more than the 1 of",
        ),
        (
            {"placement_group_bundles": [{"CPU": 1}], "ray_actor_options": {"resources": {"disk": 1}}},
            "1 disk is more than the 0 of",
        ),
        ({"max_replicas_per_node": 0}, "from 1 to 100"),
        ({"max_replicas_per_node": 101}, "from 1 to 100"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        serve.deployment(**options)(_version)
    with pytest.raises(ValueError, match=reason):
        serve.deployment(_version).options(**options)
