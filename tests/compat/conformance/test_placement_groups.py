"""Placement groups: what programs that reserve resources together see."""

from __future__ import annotations

import pickle

import pytest
import ray
from ray.exceptions import GetTimeoutError, RayActorError, TaskPlacementGroupRemoved
from ray.util.placement_group import (
    PlacementGroup,
    get_current_placement_group,
    get_placement_group,
    placement_group,
    placement_group_table,
    remove_placement_group,
)
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from compat.conformance.helpers import Gate, differs, needs_processes, until

pytestmark = pytest.mark.usefixtures("session")
CPU = {"CPU": 1}


@pytest.fixture
def group():
    """A group of two bundles, which is reserved."""
    made = placement_group([CPU, CPU])
    assert made.wait(60)
    yield made
    remove_placement_group(made)
    until(lambda: ray.available_resources().get("CPU") == ray.cluster_resources()["CPU"])


def within(group, *more):
    return PlacementGroupSchedulingStrategy(group, *more)


@ray.remote
def where():
    context = ray.get_runtime_context()
    return context.get_placement_group_id(), context.should_capture_child_tasks_in_placement_group


@ray.remote(num_cpus=0)
def parent(**options):
    return ray.get(where.options(**options).remote())


@ray.remote(num_cpus=1)
class Actor:
    def where(self):
        current = get_current_placement_group()
        return current.id.hex() if current is not None else None

    def child(self):
        return ray.get(where.remote())


def test_the_function_and_the_module_have_one_name() -> None:
    from ray.util import placement_group as function

    assert function is placement_group and ray.util.placement_group is placement_group


def test_handles(group) -> None:
    assert group.bundle_count == 2 and group.bundle_specs == [CPU, CPU] and not group.is_empty
    assert ray.get(group.ready()) == group and isinstance(group, PlacementGroup)
    assert pickle.loads(pickle.dumps(group)) == group and hash(group) == hash(
        pickle.loads(pickle.dumps(group))
    )
    assert PlacementGroup.empty().is_empty
    assert len(bytes.fromhex(group.id.hex())) == len(group.id.binary())
    assert get_current_placement_group() is None


def test_the_table(group) -> None:
    row = placement_group_table(group)
    assert set(row) >= {
        "placement_group_id",
        "name",
        "bundles",
        "bundles_to_node_id",
        "strategy",
        "state",
        "stats",
    }
    assert (row["state"], row["strategy"], row["name"]) == ("CREATED", "PACK", "")
    assert row["bundles"] == {0: CPU, 1: CPU}
    assert set(row["bundles_to_node_id"].values()) == {ray.get_runtime_context().get_node_id()}
    assert set(row["stats"]) >= {"end_to_end_creation_latency_ms", "scheduling_latency_ms", "scheduling_attempt",
                                 "highest_retry_delay_ms", "scheduling_state"}  # fmt: skip
    assert placement_group_table()[group.id.hex()] == row


@pytest.mark.parametrize("strategy", ["PACK", "SPREAD", "STRICT_PACK"])
def test_strategies_that_may_share_a_node(strategy) -> None:
    made = placement_group([CPU, CPU], strategy=strategy)
    assert made.wait(60) and placement_group_table(made)["strategy"] == strategy
    remove_placement_group(made)


@pytest.mark.parametrize(("bundles", "strategy"), [([{"CPU": 64}], "PACK"), ([CPU, CPU], "STRICT_SPREAD")])
def test_what_does_not_fit_waits(bundles, strategy) -> None:
    made = placement_group(bundles, strategy=strategy)
    assert not made.wait(0.2)
    with pytest.raises(GetTimeoutError):
        ray.get(made.ready(), timeout=0.2)
    row = placement_group_table(made)
    assert row["state"] == "PENDING" and set(row["bundles_to_node_id"].values()) == {""}
    remove_placement_group(made)
    assert placement_group_table(made)["state"] == "REMOVED"


def test_resources_are_reserved(group) -> None:
    until(lambda: ray.available_resources()["CPU"] == ray.cluster_resources()["CPU"] - 2)


@pytest.mark.parametrize(
    ("bundles", "options", "message"),
    [
        ({"CPU": 1}, {}, "bundles must be a list"),
        ([], {}, "non-empty list of resource dictionaries"),
        ([{}], {}, "cannot be an empty dictionary"),
        ([{"CPU": 0}], {}, "resources with only 0 values"),
        ([{"CPU": "a"}], {}, "non-empty list of resource dictionaries"),
        ([{1: 1}], {}, "non-empty list of resource dictionaries"),
        ([CPU], {"strategy": "X"}, "Invalid placement group strategy X"),
        ([CPU], {"lifetime": "x"}, "must be either `None` or 'detached'"),
        ([CPU], {"_soft_target_node_id": "ab"}, "STRICT_PACK"),
        ([CPU], {"bundle_label_selector": [{}, {}]}, "should equal the length of `bundles`"),
    ],
)
def test_what_is_no_group(bundles, options, message) -> None:
    with pytest.raises(ValueError, match=message):
        placement_group(bundles, **options)


def test_tasks_and_actors_in_a_group(group) -> None:
    here = group.id.hex()
    assert ray.get(where.options(scheduling_strategy=within(group)).remote()) == (here, False)
    assert ray.get(where.options(scheduling_strategy=within(group, 1)).remote()) == (here, False)
    assert ray.get(where.options(placement_group=group, placement_group_bundle_index=0).remote()) == (
        here,
        False,
    )
    assert ray.get(where.remote()) == (None, False)
    assert ray.get(where.options(scheduling_strategy=within(None)).remote()) == (None, False)
    actor = Actor.options(scheduling_strategy=within(group, 0)).remote()
    assert ray.get([actor.where.remote(), actor.child.remote()]) == [here, (None, False)]
    ray.kill(actor)
    actor = Actor.options(scheduling_strategy=within(group, 0, True)).remote()
    assert ray.get(actor.child.remote()) == (here, True)


def test_capturing(group) -> None:
    here, outside = (group.id.hex(), True), (None, False)
    run = parent.options(scheduling_strategy=within(group, 0, True))
    assert ray.get(run.remote()) == here
    assert ray.get(run.remote(scheduling_strategy="DEFAULT")) == outside
    assert ray.get(run.remote(placement_group=None)) == outside
    assert ray.get(run.remote(scheduling_strategy=within(group))) == here, "None: as where it is called"
    assert ray.get(run.remote(scheduling_strategy=within(group, -1, False))) == (here[0], False)
    assert ray.get(parent.options(scheduling_strategy=within(group)).remote()) == outside


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_cpus": 2}, "cannot fit into any bundles"),
        ({"num_gpus": 1}, "cannot fit into any bundles"),
        ({"index": 5}, "bundle index 5 is invalid"),
        ({"index": -2}, "bundle index -2 is invalid"),
    ],
)
def test_what_cannot_be_in_a_group(group, options, message) -> None:
    index = options.pop("index", -1)
    for of in (where, Actor):
        with pytest.raises(ValueError, match=message):
            of.options(scheduling_strategy=within(group, index), **options).remote()


def test_an_actor_without_resources_needs_a_cpu_to_be_placed() -> None:
    @ray.remote
    class Default:
        pass

    made = placement_group([{"token": 1}])
    with pytest.raises(ValueError, match="requires 1 CPU for creation"):
        Default.options(scheduling_strategy=within(made)).remote()
    remove_placement_group(made)


def test_options_that_contradict_each_other(group) -> None:
    with pytest.raises(ValueError, match="via the scheduling_strategy option"):
        where.options(scheduling_strategy=within(group), placement_group=group).remote()
    with pytest.raises(ValueError, match="the value of bundle index must be -1"):
        where.options(placement_group_bundle_index=1).remote()


def test_names() -> None:
    made = placement_group([CPU], name="named")
    assert get_placement_group("named") == made and get_placement_group("named").bundle_specs == [CPU]
    with pytest.raises(ray.exceptions.RaySystemError):
        placement_group([CPU], name="named")
    with pytest.raises(ValueError, match="Failed to look up placement group with name: other"):
        get_placement_group("other")
    with pytest.raises(ValueError, match="non-empty"):
        get_placement_group("")
    remove_placement_group(made)
    with pytest.raises(ValueError, match="Failed to look up"):
        get_placement_group("named")


@differs(
    on="ray",
    reason="A task that waits for its placement group may go on waiting when that is removed.",
    run=False,
)
def test_removing_a_group_that_waits() -> None:
    made = placement_group([{"CPU": 64}])
    ready, task = made.ready(), where.options(scheduling_strategy=within(made)).remote()
    remove_placement_group(made)
    remove_placement_group(made)
    for ref in (ready, task, made.ready()):
        with pytest.raises(TaskPlacementGroupRemoved):
            ray.get(ref)
    with pytest.raises(Exception, match="does not exist"):
        made.wait(1)


@ray.remote(num_cpus=1)
def behind(gate):
    ray.get(gate.wait.remote())


@needs_processes
@differs(
    on="ray",
    reason="A running task with retries left is killed, and its next try waits for the group that is gone.",
    run=False,
)
def test_removing_a_group_ends_a_task_that_has_retries_left() -> None:
    made, gate = placement_group([CPU]), Gate.remote()
    task = behind.options(scheduling_strategy=within(made), max_retries=3).remote(gate)
    ray.get(gate.until_arrived.remote())
    remove_placement_group(made)
    with pytest.raises(TaskPlacementGroupRemoved):
        ray.get(task)


def test_removing_a_group_ends_its_actors() -> None:
    made = placement_group([CPU])
    actor = Actor.options(scheduling_strategy=within(made)).remote()
    assert ray.get(actor.where.remote()) == made.id.hex()
    remove_placement_group(made)
    with pytest.raises(RayActorError):
        ray.get([actor.where.remote() for _ in range(100)])


@needs_processes
@differs(
    on="ray",
    reason="A call of an actor that waits for its placement group goes on waiting when that is removed.",
    run=False,
)
def test_removing_a_group_ends_actors_that_wait_for_it() -> None:
    made = placement_group([{"CPU": 64}])
    call = Actor.options(scheduling_strategy=within(made)).remote().where.remote()
    remove_placement_group(made)
    with pytest.raises(RayActorError):
        ray.get(call)


@differs(
    on="ray", reason="A bundle may have a negative amount, and more of a GPU than one but no whole number."
)
def test_amounts_that_no_task_can_have() -> None:
    for amounts in ({"CPU": -1}, {"GPU": 1.5}):
        with pytest.raises(ValueError):
            placement_group([amounts])
