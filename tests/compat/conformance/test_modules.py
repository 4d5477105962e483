"""Names that programs import, and what they are."""

from __future__ import annotations

import importlib
import pickle

import pytest
import ray

pytestmark = pytest.mark.usefixtures("session")

MODULES = [
    "ray.actor", "ray.cloudpickle", "ray.exceptions", "ray.remote_function", "ray.runtime_context", "ray.runtime_env",
    "ray.types", "ray.util", "ray.util.actor_pool", "ray.util.joblib", "ray.util.multiprocessing", "ray.util.queue",
    "ray.util.state", "ray.util.scheduling_strategies", "ray.util.metrics", "ray.job_config",
]  # fmt: skip


@pytest.mark.parametrize("name", MODULES)
def test_modules(name) -> None:
    module = importlib.import_module(name)
    parts = name.split(".")[1:]
    found = ray
    for part in parts:
        found = getattr(found, part)
    assert found is module


def test_types_of_what_remote_makes() -> None:
    @ray.remote
    def function():
        return 1

    @ray.remote
    class Class:
        def method(self):
            return 1

    actor = Class.remote()
    assert isinstance(function, ray.remote_function.RemoteFunction)
    assert isinstance(Class, ray.actor.ActorClass)
    assert isinstance(actor, ray.actor.ActorHandle)
    assert isinstance(actor.method, ray.actor.ActorMethod)
    assert isinstance(actor.method.remote(), ray.ObjectRef)
    assert ray.ObjectID is ray.ObjectRef


def test_ids() -> None:
    for name in (
        "ActorID",
        "NodeID",
        "JobID",
        "WorkerID",
        "TaskID",
        "UniqueID",
        "PlacementGroupID",
        "FunctionID",
    ):
        kind = getattr(ray, name)
        one = kind.from_random() if hasattr(kind, "from_random") else None
        if one is not None:
            assert kind(one.binary()) == one
            assert bytes.fromhex(one.hex()) == one.binary()


def test_cloudpickle() -> None:
    offset = 5
    assert ray.cloudpickle.loads(ray.cloudpickle.dumps(lambda x: x + offset))(1) == 6
    assert pickle.loads(ray.cloudpickle.dumps({"a": 1})) == {"a": 1}


def test_refs_out_of_band() -> None:
    ref = ray.put("kept")
    data = ray.cloudpickle.dumps(ref)

    @ray.remote
    def read(data):
        return ray.get(ray.cloudpickle.loads(data))

    assert ray.get(read.remote(data)) == "kept"
    del ref
    assert ray.get(ray.cloudpickle.loads(data)) == "kept"


def test_handles_out_of_band() -> None:
    @ray.remote
    class Counter:
        def __init__(self):
            self.n = 0

        def add(self):
            self.n += 1
            return self.n

    counter = Counter.remote()
    again = ray.cloudpickle.loads(ray.cloudpickle.dumps(counter))
    assert ray.get([counter.add.remote(), again.add.remote()]) == [1, 2]


def test_remote_functions_and_classes_are_values() -> None:
    @ray.remote(num_cpus=0)
    def one():
        return 1

    @ray.remote(num_cpus=0)
    class Class:
        def method(self):
            return 2

    @ray.remote
    def use(function, cls, options):
        return ray.get([function.remote(), cls.remote().method.remote(), options.remote()])

    assert ray.get(use.remote(one, Class, one.options(name="other"))) == [1, 2, 1]


def test_the_plain_function_below() -> None:
    def plain(x):
        return x + 1

    assert ray.remote(plain)._function(1) == 2
