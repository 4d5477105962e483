"""Which classes say that they are Ray's, and what becomes of them in pickles."""

from __future__ import annotations

import importlib
import os
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import skate.exceptions
from skate import ObjectRef
from skate._as_ray import RAY_VERSION, environment, modules, names
from skate._serialize.values import deserialize, dump_code, renamed, serialize
from skate.exceptions import GetTimeoutError


@pytest.fixture
def used() -> Iterator[None]:
    """Names as under ``skate run``, for one test."""
    path = list(sys.meta_path)
    loaded = {name for name in sys.modules if name.split(".")[0] == "ray"}
    if modules.finder not in sys.meta_path:
        sys.meta_path.insert(0, modules.finder)
    names.use()
    yield
    names.undo()
    sys.meta_path[:] = path
    for name in [one for one in sys.modules if one.split(".")[0] == "ray" and one not in loaded]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("module", "place"),
    [
        ("skate.util.queue", "ray.util.queue"),
        ("skate._base.errors", "ray.exceptions"),
        ("skate.exceptions", "ray.exceptions"),
        ("skate._base.ids", "ray._raylet"),
        ("skate._worker.objects.object_ref", "ray"),
        ("skate._node.daemon", None),
        ("skate.util._queue_actor", None),
        ("skate.cli.main", None),
        ("skate.api", None),
        ("numpy", None),
        ("skateboard.exceptions", None),
    ],
)
def test_places(module: str, place: str | None) -> None:
    assert names.place(module) == place


def test_classes_say_ray_and_are_found_there(used: None) -> None:
    for kind in (GetTimeoutError, ObjectRef, skate.ActorID, skate.actor.ActorHandle, skate.util.ActorPool):
        assert kind.__module__.split(".")[0] == "ray"
        assert getattr(importlib.import_module(kind.__module__), kind.__qualname__) is kind


def test_modules_that_are_loaded_later(used: None) -> None:
    before = importlib.import_module("skate.job_config")
    del sys.modules["skate.job_config"]
    try:
        assert importlib.import_module("skate.job_config").JobConfig.__module__ == "ray.job_config"
    finally:
        sys.modules["skate.job_config"] = skate.job_config = before  # type: ignore[misc]


def test_it_can_be_undone(used: None) -> None:
    names.undo()
    assert GetTimeoutError.__module__ == "skate.exceptions"
    assert ObjectRef.__module__ == "skate._worker.objects.object_ref"
    assert renamed == {}
    assert pickle.loads(pickle.dumps(GetTimeoutError)) is GetTimeoutError


def test_what_travels_names_no_module_of_rays(used: None) -> None:
    """A process where ``ray`` means nothing reads it: a driver that says import skate, and its actors."""
    error = GetTimeoutError("late")

    class Own(GetTimeoutError):
        pass

    def function(ref: ObjectRef[int]) -> type:
        return GetTimeoutError

    for value in (GetTimeoutError, error, [skate.JobID(b"\1\0\0\0")], {"kind": ObjectRef}):
        done = serialize(value)
        assert b"ray." not in done.data.replace(b"skate._as_ray.", b"")
        deserialize(done.kind, done.data)
    for code in (function, Own):
        assert b"ray.exceptions" not in dump_code(code)[0]
    names.undo()
    assert deserialize(1, serialize(GetTimeoutError).data) is GetTimeoutError


def test_plain_pickle_has_rays_name(used: None) -> None:
    data = pickle.dumps(GetTimeoutError)
    assert b"ray.exceptions" in data
    assert pickle.loads(data) is GetTimeoutError


def test_ray_itself_travels(used: None) -> None:
    ray = importlib.import_module("ray")
    assert isinstance(ray, modules.Joined)
    assert pickle.loads(pickle.dumps(ray)) is ray
    data = pickle.dumps(ray)
    sys.meta_path.remove(modules.finder)
    assert pickle.loads(data) is skate, "where ray means nothing, skate has the same names"


def test_joined_modules() -> None:
    first, second = ModuleType("first"), ModuleType("second")
    first.__dict__.update(a=1)
    second.__dict__.update(a=2, b=3)
    joined = modules.Joined("ray.x", [first, second])
    assert (joined.a, joined.b) == (1, 3)
    assert {"a", "b"} <= set(dir(joined))
    with pytest.raises(AttributeError, match=r"module 'ray\.x' has no attribute 'c'"):
        _ = joined.c
    assert not hasattr(joined, "__path__")


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ({}, environment.FOLDER),
        ({"PYTHONPATH": "/a"}, f"{environment.FOLDER}:/a"),
        ({"PYTHONPATH": f"/a:{environment.FOLDER}"}, f"/a:{environment.FOLDER}"),
    ],
)
def test_the_environment(given: dict[str, str], path: str) -> None:
    variables = dict(given)
    environment.extend(variables)
    environment.extend(variables)
    assert variables["PYTHONPATH"] == path
    assert variables["PATH"] == os.pathsep.join([environment.COMMANDS, os.defpath])
    assert variables["SKATE_AS_RAY"] == "1"


def test_the_distribution_has_the_version() -> None:
    found = Path(environment.FOLDER, f"ray-{RAY_VERSION}.dist-info", "METADATA").read_text()
    assert f"\nVersion: {RAY_VERSION}\n" in found
    assert os.access(os.path.join(environment.COMMANDS, "ray"), os.X_OK)
