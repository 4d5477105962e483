"""The state API: what runs, who is there. On Ray it is known only eventually, so conditions are waited for."""

from __future__ import annotations

import pytest
import ray
from ray.util import state as api
from ray.util.state import (
    get_actor,
    get_job,
    get_node,
    get_objects,
    get_task,
    get_worker,
    list_actors,
    list_jobs,
    list_nodes,
    list_objects,
    list_tasks,
    list_workers,
    summarize_actors,
    summarize_objects,
    summarize_tasks,
)

from compat.conformance.conftest import CPUS
from compat.conformance.helpers import Gate, needs_processes, until


@pytest.fixture(scope="module", autouse=True)
def with_state(as_ray):
    ray.init(num_cpus=CPUS, include_dashboard=True)
    yield
    ray.shutdown()


@ray.remote
def state_echo(value):
    return value


@ray.remote
def state_fails():
    raise ValueError("seen by the state API")


@ray.remote
def state_waits(gate):
    ray.get(gate.wait.remote())


@ray.remote
class StateActor:
    def call(self):
        return 1


def task_state(ref):
    found = get_task(ref.task_id().hex())
    if isinstance(found, list):
        found = found[-1] if found else None
    return found and found.state


# ---------------------------------------------------------------------- tasks


def test_finished_tasks() -> None:
    ref = state_echo.remote(1)
    ray.get(ref)
    until(lambda: task_state(ref) == "FINISHED", "the end of the task")
    found = get_task(ref.task_id().hex())
    assert found.name == "state_echo"
    assert found.type == "NORMAL_TASK"
    assert found.job_id == ray.get_runtime_context().get_job_id()
    assert found.node_id
    assert found.worker_id


def test_failed_tasks() -> None:
    ref = state_fails.remote()
    with pytest.raises(ValueError):
        ray.get(ref)
    until(lambda: task_state(ref) == "FAILED", "the failure")


def test_running_and_waiting_tasks() -> None:
    gate = Gate.remote()
    running = state_waits.remote(gate)
    waiting = state_echo.remote(running)
    ray.get(gate.until_arrived.remote())
    until(lambda: task_state(running) == "RUNNING", "the task to run")
    until(lambda: task_state(waiting) == "PENDING_ARGS_AVAIL", "the task to wait")
    ray.get(gate.open.remote())
    ray.get(waiting)


def test_filters_of_tasks() -> None:
    refs = [state_echo.options(name="filtered").remote(i) for i in range(3)]
    ray.get(refs)

    def rows():
        return list_tasks(filters=[("name", "=", "filtered"), ("state", "=", "FINISHED")])

    until(lambda: len(rows()) == 3, "three tasks")
    assert {row.task_id for row in rows()} == {ref.task_id().hex() for ref in refs}
    assert all(row.name != "filtered" for row in list_tasks(filters=[("name", "!=", "filtered")]))
    assert len(list_tasks(filters=[("name", "=", "filtered")], limit=2)) == 2


def test_calls_are_tasks() -> None:
    actor = StateActor.remote()
    ref = actor.call.remote()
    ray.get(ref)
    until(lambda: task_state(ref) == "FINISHED", "the end of the call")
    found = get_task(ref.task_id().hex())
    assert found.type == "ACTOR_TASK"
    assert found.name == "StateActor.call"
    assert found.actor_id == actor._actor_id.hex()


def test_rows_are_also_dictionaries() -> None:
    ray.get(state_echo.remote(1))
    row = until(lambda: list_tasks(limit=1), "a task")[0]
    assert row["task_id"] == row.task_id
    assert row["state"] == row.state


def test_unknown_tasks() -> None:
    assert not get_task("00" * 24)


def test_wrong_filters() -> None:
    with pytest.raises(Exception):
        list_tasks(filters=[("no_such_column", "=", "x")])
    with pytest.raises(Exception):
        list_tasks(filters=[("name", "~", "x")])


# ---------------------------------------------------------------------- actors


def test_actors() -> None:
    actor = StateActor.options(name="in the state API").remote()
    ray.get(actor.call.remote())
    actor_id = actor._actor_id.hex()
    found = until(lambda: get_actor(actor_id), "the actor")
    assert found.class_name == "StateActor"
    assert found.name == "in the state API"
    assert found.state == "ALIVE"
    assert found.pid > 0
    assert found.job_id == ray.get_runtime_context().get_job_id()
    assert [row.actor_id for row in list_actors(filters=[("name", "=", "in the state API")])] == [actor_id]
    ray.kill(actor)
    until(lambda: get_actor(actor_id).state == "DEAD", "the end of the actor")
    assert actor_id in [row.actor_id for row in list_actors(filters=[("state", "=", "DEAD")])]


@needs_processes(reason="resources are counted, but nothing waits for them")
def test_actors_that_wait_for_resources() -> None:
    waiting = StateActor.options(resources={"no-such-thing": 1}).remote()
    actor_id = waiting._actor_id.hex()
    until(
        lambda: (row := get_actor(actor_id)) and row.state in ("PENDING_CREATION", "DEPENDENCIES_UNREADY"),
        "the actor to wait",
    )


# ---------------------------------------------------------------------- the rest


def test_objects() -> None:
    ref = ray.put(b"x" * 1_000_000)
    rows = until(lambda: list_objects(filters=[("object_id", "=", ref.hex())]), "the object")
    assert any(row.object_size >= 1_000_000 for row in rows)
    assert {row.object_id for row in get_objects(ref.hex())} == {ref.hex()}


def test_nodes() -> None:
    (row,) = list_nodes()
    assert row.node_id == ray.get_runtime_context().get_node_id()
    assert row.state == "ALIVE"
    assert row.resources_total["CPU"] == CPUS
    assert get_node(row.node_id).node_id == row.node_id


def test_jobs() -> None:
    job_id = ray.get_runtime_context().get_job_id()
    rows = until(lambda: [row for row in list_jobs() if row.job_id == job_id], "the job")
    assert rows[0].status == "RUNNING"
    assert get_job is not None


def test_workers() -> None:
    ray.get(state_echo.remote(1))
    worker_id = ray.get_runtime_context().get_worker_id()
    rows = until(lambda: list_workers(filters=[("worker_type", "=", "WORKER")]), "a worker")
    assert all(row.pid > 0 for row in rows)
    drivers = until(lambda: list_workers(filters=[("worker_type", "=", "DRIVER")]), "the driver")
    assert worker_id in [row.worker_id for row in drivers]
    assert get_worker(worker_id).worker_type == "DRIVER"


def test_summaries() -> None:
    actor = StateActor.remote()
    ray.get([actor.call.remote(), *(state_echo.options(name="summed up").remote(i) for i in range(4))])

    def tasks():
        entry = summarize_tasks()["cluster"]["summary"].get("state_echo") or summarize_tasks()["cluster"][
            "summary"
        ].get("summed up")
        return entry and entry["state_counts"].get("FINISHED", 0) >= 4

    until(tasks, "the summary of tasks")
    until(
        lambda: summarize_actors()["cluster"]["summary"]["StateActor"]["state_counts"].get("ALIVE"),
        "the summary of actors",
    )
    held = ray.put(b"x" * 500_000)
    until(lambda: summarize_objects()["cluster"]["total_objects"] >= 1, "the summary of objects")
    del held


def test_the_module_has_what_it_names() -> None:
    assert callable(api.list_tasks)
