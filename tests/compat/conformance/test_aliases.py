"""Names outside of the public API that documentation, courses and libraries use."""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import queue as plain_queue
import threading

import pytest
import ray
import ray._private.internal_api
import ray._private.services
import ray._private.utils
import ray._private.worker
import ray._raylet
import ray.exceptions
import ray.experimental.state.api
import ray.util.annotations
import ray.util.client
import ray.util.queue
import ray.util.state

from .helpers import differs, needs_processes

pytestmark = pytest.mark.usefixtures("session")

IDS = [
    "ActorClassID",
    "ActorID",
    "FunctionID",
    "JobID",
    "NodeID",
    "PlacementGroupID",
    "TaskID",
    "UniqueID",
    "WorkerID",
]


def test_the_name() -> None:
    assert ray.__name__ == "ray"
    assert str(ray).startswith("<module 'ray' from ")
    assert importlib.metadata.version("ray") == ray.__version__
    assert tuple(map(int, ray.__version__.split(".")[:2])) >= (2, 50)


@pytest.mark.parametrize(
    ("kind", "module"),
    [
        ("exceptions.RayTaskError", "ray.exceptions"),
        ("exceptions.GetTimeoutError", "ray.exceptions"),
        ("actor.ActorClass", "ray.actor"),
        ("actor.ActorHandle", "ray.actor"),
        ("remote_function.RemoteFunction", "ray.remote_function"),
        ("runtime_context.RuntimeContext", "ray.runtime_context"),
        ("job_config.JobConfig", "ray.job_config"),
        ("util.ActorPool", "ray.util.actor_pool"),
        ("util.queue.Queue", "ray.util.queue"),
        ("util.queue.Empty", "ray.util.queue"),
        ("util.metrics.Counter", "ray.util.metrics"),
        ("ObjectRef", "ray"),
        ("ObjectRefGenerator", "ray"),
        ("ActorID", "ray._raylet"),
        ("NodeID", "ray._raylet"),
    ],
)
def test_modules_of_classes(kind, module) -> None:
    path, _, name = f"ray.{kind}".rpartition(".")
    assert getattr(importlib.import_module(path), name).__module__ == module


def test_modules_of_errors_that_are_raised() -> None:
    @ray.remote
    def fail():
        raise ValueError("on purpose")

    with pytest.raises(ValueError) as caught:
        ray.get(fail.remote())
    assert type(caught.value).__module__ == "ray.exceptions"
    assert type(caught.value).__name__ == "RayTaskError(ValueError)"


@pytest.mark.parametrize("name", ["ObjectRef", "ObjectRefGenerator", *IDS])
def test_raylet(name) -> None:
    assert getattr(ray._raylet, name) is getattr(ray, name)


def test_raylets_other_names() -> None:
    assert ray._raylet.ObjectID is ray.ObjectRef
    assert isinstance(ray.put(1), ray._raylet.ObjectRef)
    assert issubclass(ray.TaskID, ray._raylet.BaseID)


def test_global_worker_of_a_driver() -> None:
    worker = ray._private.worker.global_worker
    assert worker is ray.worker.global_worker
    assert worker.mode == ray.SCRIPT_MODE == ray._private.worker.SCRIPT_MODE
    assert worker.connected
    worker.check_connected()
    context = ray.get_runtime_context()
    assert worker.node.node_id == context.get_node_id()
    assert worker.current_job_id.hex() == context.get_job_id()
    assert worker.worker_id.hex() == context.get_worker_id()
    assert worker.node.node_ip_address == worker.node_ip_address
    assert worker.node.address_info["session_dir"] == worker.node.get_session_dir_path()
    assert worker.namespace == context.namespace


def test_global_worker_of_a_worker() -> None:
    @ray.remote
    def inside():
        worker = ray._private.worker.global_worker
        return worker.mode, worker.current_task_id.hex(), ray.get_runtime_context().get_task_id()

    mode, task_id, expected = ray.get(inside.remote())
    assert mode == ray.WORKER_MODE == ray._private.worker.WORKER_MODE
    assert task_id == expected


def test_public_functions_of_the_worker_module() -> None:
    for name in ("get", "put", "wait", "remote", "init", "shutdown", "kill", "cancel", "is_initialized"):
        assert callable(getattr(ray._private.worker, name))
    assert ray._private.worker.get(ray._private.worker.put(5)) == 5


def test_addresses() -> None:
    assert ray._private.services.get_node_ip_address().count(".") == 3
    assert ray.util.get_node_ip_address() == ray._private.services.get_node_ip_address()


def test_memory_of_the_machine() -> None:
    utils = ray._private.utils
    assert 0 < utils.get_used_memory() < utils.get_system_memory()
    assert 0 < utils.estimate_available_memory() < utils.get_system_memory()
    assert utils.get_num_cpus() >= 1


@needs_processes
def test_memory_summary() -> None:
    ref = ray.put(b"x" * 2_000_000)
    address = ray._private.worker.global_worker.node.address_info["address"]
    assert ref.hex() in ray._private.internal_api.memory_summary(address)
    assert isinstance(ray._private.internal_api.memory_summary(address, stats_only=True), str)


@differs(on="ray", reason="ray._private.internal_api.free is not there any more")
def test_free() -> None:
    small, large = ray.put("small"), ray.put(b"x" * 2_000_000)
    ray._private.internal_api.free([small, large])
    for ref in (small, large):
        with pytest.raises(ray.exceptions.ObjectFreedError):
            ray.get(ref)

    @ray.remote
    def read(value):
        return value

    with pytest.raises(ray.exceptions.ObjectFreedError):
        ray.get(read.remote(large))


def test_state_under_its_older_name() -> None:
    for name in ("get_actor", "list_tasks", "list_objects", "summarize_tasks", "StateApiClient"):
        assert callable(getattr(ray.experimental.state.api, name))


def test_the_actor_of_a_queue() -> None:
    actor = ray.remote(num_cpus=0)(ray.util.queue._QueueActor).remote(2)
    ray.get(actor.put.remote("a"))
    ray.get(actor.put_nowait.remote("b"))
    assert ray.get([actor.qsize.remote(), actor.full.remote(), actor.empty.remote()]) == [2, True, False]
    with pytest.raises(asyncio.QueueFull):
        ray.get(actor.put_nowait.remote("c"))
    with pytest.raises(plain_queue.Full):
        ray.get(actor.put_nowait_batch.remote(["c"]))
    with pytest.raises(plain_queue.Full):
        ray.get(actor.put.remote("c", timeout=0.01))
    assert ray.get(actor.get.remote()) == "a"
    assert ray.get(actor.get_nowait_batch.remote(1)) == ["b"]
    with pytest.raises(plain_queue.Empty):
        ray.get(actor.get.remote(timeout=0.01))
    with pytest.raises(asyncio.QueueEmpty):
        ray.get(actor.get_nowait.remote())
    with pytest.raises(plain_queue.Empty):
        ray.get(actor.get_nowait_batch.remote(1))


def test_completed_refs_call_back() -> None:
    called: plain_queue.Queue = plain_queue.Queue()

    @ray.remote
    def answer(fail):
        if fail:
            raise ValueError("on purpose")
        return 42

    good, bad, there = answer.remote(False), answer.remote(True), ray.put(1)
    good._on_completed(called.put)
    assert called.get(timeout=20) == 42
    bad._on_completed(called.put)
    assert isinstance(called.get(timeout=20), ray.exceptions.RayTaskError)
    ready = threading.Event()
    there._on_completed(lambda _: ready.set())
    assert ready.wait(20)


def test_calls_with_options_in_one() -> None:
    @ray.remote
    def pair(a, b=2):
        return a, b

    @ray.remote
    class Actor:
        def __init__(self, start, step=1):
            self.value = start * step

        def both(self, more):
            return self.value, more

    assert ray.get(pair._remote((1,), {"b": 3})) == (1, 3)
    assert ray.get(pair._remote(args=[1])) == (1, 2)
    assert ray.get(pair._remote(args=[1], num_returns=2, num_cpus=0)) == [1, 2]
    actor = Actor._remote(args=[5], kwargs={"step": 2}, num_cpus=0, name="in-one")
    assert ray.get(ray.get_actor("in-one").both.remote(1)) == (10, 1)
    assert ray.get(actor.both._remote(args=[1])) == (10, 1)
    assert ray.get(actor.both._remote((), {"more": 7}, num_returns=2)) == [10, 7]


def test_annotations_return_what_they_get() -> None:
    from ray.util.annotations import Deprecated, DeveloperAPI, PublicAPI

    class Kind:
        """Documented."""

    def function():
        """Documented."""
        return 1

    assert PublicAPI(Kind) is Kind
    assert PublicAPI(stability="alpha")(function)() == 1
    assert DeveloperAPI(Kind) is Kind
    assert DeveloperAPI(function)() == 1
    assert Deprecated(function)() == 1
    assert Deprecated(message="use another")(function)() == 1


def test_a_deprecated_function_warns_when_told_to() -> None:
    @ray.util.annotations.Deprecated(message="use another", warning=True)
    def function():
        """Documented."""
        return 1

    with pytest.warns(ray.util.annotations.RayDeprecationWarning, match="use another"):
        assert function() == 1


def test_this_is_no_client() -> None:
    assert ray.util.client.num_connected_contexts() == 0
    assert not isinstance(ray.put(1), importlib.import_module("ray.util.client.common").ClientObjectRef)


@differs(on="ray", reason="names that Ray lacks too are told as any other's")
def test_what_is_missing_says_so_by_name() -> None:
    for module, name in (
        (ray._raylet, "GcsClient"),
        (ray._private.worker.global_worker, "core_worker"),
        (ray._private.services, "nothing"),
        (ray._private, "gcs_utils"),
        (ray.util.annotations, "nothing"),
    ):
        with pytest.raises(AttributeError, match=f"skate has no ray.*{name}"):
            getattr(module, name)
