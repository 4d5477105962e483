"""What a driver, a task and an actor can know about themselves."""

from __future__ import annotations

import pytest
import ray

from compat.conformance.helpers import Record, needs_processes, until

pytestmark = pytest.mark.usefixtures("session")


def facts() -> dict:
    context = ray.get_runtime_context()
    return {
        "job": context.get_job_id(),
        "node": context.get_node_id(),
        "worker": context.get_worker_id(),
        "task": context.get_task_id(),
        "task name": context.get_task_name(),
        "function": context.get_task_function_name(),
        "actor": context.get_actor_id(),
        "actor name": context.get_actor_name(),
        "namespace": context.namespace,
        "resources": context.get_assigned_resources() if context.get_task_id() else None,
        "accelerators": context.get_accelerator_ids(),
        "group": context.get_placement_group_id(),
        "reconstructed": context.was_current_actor_reconstructed if context.get_actor_id() else None,
        "env": context.get_runtime_env_string(),
        "address": context.gcs_address,
    }


@ray.remote
def in_task():
    return facts()


@ray.remote
class InActor:
    def __init__(self):
        self.at_birth = facts()

    def facts(self):
        return facts()

    def birth(self):
        return self.at_birth

    async def async_facts(self):
        return facts()

    def me(self):
        return ray.get_runtime_context().current_actor

    def call_me(self, record):
        me = ray.get_runtime_context().current_actor
        record.add.remote(me.facts.remote())


def is_hex(text) -> bool:
    return isinstance(text, str) and len(text) >= 8 and bytes.fromhex(text) is not None


def test_in_a_driver() -> None:
    found = facts()
    assert is_hex(found["job"])
    assert is_hex(found["node"])
    assert is_hex(found["worker"])
    assert found["actor"] is None
    assert found["actor name"] is None
    assert found["group"] is None
    assert isinstance(found["namespace"], str)
    assert found["address"]


def test_a_driver_runs_no_task() -> None:
    context = ray.get_runtime_context()
    assert context.get_task_name() is None
    assert context.get_task_function_name() is None


def test_in_a_task() -> None:
    here, there = facts(), ray.get(in_task.remote())
    assert there["job"] == here["job"]
    assert there["node"] == here["node"]
    assert there["worker"] != here["worker"]
    assert there["namespace"] == here["namespace"]
    assert there["address"] == here["address"]
    assert there["task name"].endswith("in_task")
    assert there["function"].endswith("in_task")
    assert there["resources"] == {"CPU": 1.0}
    assert there["actor"] is None
    assert there["actor name"] is None
    assert there["group"] is None


def test_the_task_id_is_that_of_the_ref() -> None:
    ref = in_task.remote()
    assert ray.get(ref)["task"] == ref.task_id().hex()
    other = in_task.remote()
    assert ray.get(other)["task"] != ray.get(ref)["task"]


def test_the_name_given() -> None:
    assert ray.get(in_task.options(name="given").remote())["task name"] == "given"


def test_the_function_of_a_named_task() -> None:
    assert ray.get(in_task.options(name="given").remote())["function"].endswith("in_task")


def test_resources_given() -> None:
    @ray.remote(num_cpus=2, resources={"token": 0.5}, memory=1_000_000)
    def held():
        return ray.get_runtime_context().get_assigned_resources()

    assert ray.get(held.remote()) == {"CPU": 2.0, "token": 0.5, "memory": 1_000_000.0}


def test_no_accelerators() -> None:
    @ray.remote
    def ids():
        return ray.get_runtime_context().get_accelerator_ids().get("GPU", []), ray.get_gpu_ids()

    assert ray.get(ids.remote()) == ([], [])


def test_in_an_actor() -> None:
    actor = InActor.options(name="context").remote()
    here, there = facts(), ray.get(actor.facts.remote())
    assert there["actor"] == actor._actor_id.hex()
    assert there["actor name"] == "context"
    assert there["job"] == here["job"]
    assert there["task name"].endswith("InActor.facts")
    assert not there["reconstructed"]
    birth = ray.get(actor.birth.remote())
    assert birth["actor"] == there["actor"]
    assert birth["worker"] == there["worker"]
    assert birth["task"] != there["task"]


def test_unnamed_actors() -> None:
    assert not ray.get(InActor.remote().facts.remote())["actor name"]


def test_in_an_async_method() -> None:
    actor = InActor.remote()
    ref = actor.async_facts.remote()
    found = ray.get(ref)
    assert found["actor"] == actor._actor_id.hex()
    assert found["task"] == ref.task_id().hex()


def test_actors_hold_what_was_given() -> None:
    actor = InActor.options(num_cpus=0.5, resources={"token": 1}).remote()
    assert ray.get(actor.facts.remote())["resources"] == {"CPU": 0.5, "token": 1.0}


def test_current_actor() -> None:
    actor = InActor.remote()
    assert ray.get(actor.me.remote()) == actor


def test_an_actor_calls_itself() -> None:
    actor, record = InActor.remote(), Record.remote()
    ray.get(actor.call_me.remote(record))
    (found,) = until(lambda: ray.get(record.all.remote()), "the call")
    assert found["actor"] == actor._actor_id.hex()


def test_current_actor_outside_of_actors() -> None:
    with pytest.raises(RuntimeError):
        ray.get_runtime_context().current_actor  # noqa: B018


@needs_processes
def test_was_reconstructed() -> None:
    actor = InActor.options(max_restarts=1, max_task_retries=-1).remote()
    assert not ray.get(actor.facts.remote())["reconstructed"]
    ray.kill(actor, no_restart=False)
    until(lambda: ray.get(actor.facts.remote())["reconstructed"], "the restart")


def test_the_old_dictionary() -> None:
    found = ray.get_runtime_context().get()
    assert found["job_id"].hex() == ray.get_runtime_context().get_job_id()
    assert found["node_id"].hex() == ray.get_runtime_context().get_node_id()
    assert found["namespace"] == ray.get_runtime_context().namespace


def test_the_old_properties() -> None:
    context = ray.get_runtime_context()
    assert context.job_id.hex() == context.get_job_id()
    assert context.node_id.hex() == context.get_node_id()

    @ray.remote
    class Old:
        def ids(self):
            context = ray.get_runtime_context()
            return (
                context.task_id.hex() == context.get_task_id(),
                context.actor_id.hex() == context.get_actor_id(),
            )

    assert ray.get(Old.remote().ids.remote()) == (True, True)


def test_nodes() -> None:
    (node,) = ray.nodes()
    assert node["NodeID"] == ray.get_runtime_context().get_node_id()
    assert node["Alive"] is True
    assert node["Resources"]["CPU"] == 4
    assert node["NodeManagerAddress"]
    assert node["NodeManagerHostname"]
    assert node["NodeName"]


def test_timeline() -> None:
    ray.get(in_task.remote())

    def events():
        return [event for event in ray.timeline() if "in_task" in str(event.get("name"))]

    (first, *_) = until(events, "an event")
    assert first["ph"] == "X"
    assert first["dur"] >= 0
