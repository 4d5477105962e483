"""``@serve.deployment`` and its options; what an application becomes; what is not there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import skate
from skate import serve
from skate.serve import _left_out, _options
from skate.serve._build import target_of

HEAVY = {
    "uvicorn",
    "httptools",
    "starlette",
    "fastapi",
    "pydantic",
    "asyncio",
    "anyio",
    "numpy",
    "cloudpickle",
    "grpc",
}


@serve.deployment
class Plain:
    """Has no options."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args = args

    def answer(self) -> int:
        return 42


@serve.deployment(
    name="other",
    num_replicas=3,
    max_ongoing_requests=7,
    user_config={"a": 1},
    ray_actor_options={"num_cpus": 0},
)
async def function(request: Any) -> str:
    return "x"


def test_attributes_and_defaults() -> None:
    assert (Plain.name, Plain.num_replicas, Plain.max_ongoing_requests, Plain.max_queued_requests) == (
        "Plain",
        1,
        5,
        -1,
    )
    assert (Plain.user_config, Plain.ray_actor_options, Plain.init_args) == (None, {"num_cpus": 1}, ())
    assert (function.name, function.num_replicas, function.max_ongoing_requests) == ("other", 3, 7)
    assert function.user_config == {"a": 1}
    changed = function.options(num_replicas=1, name="third")
    assert (changed.name, changed.num_replicas, changed.max_ongoing_requests) == ("third", 1, 7)
    assert function.num_replicas == 3
    assert repr(changed) == "Deployment(name=third)"


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"num_replicas": 0}, ValueError, "num_replicas"),
        ({"num_replicas": -1}, ValueError, "num_replicas"),
        ({"max_ongoing_requests": 0}, ValueError, "max_ongoing_requests"),
        ({"max_queued_requests": 0}, ValueError, "max_queued_requests"),
        ({"max_queued_requests": -2}, ValueError, "max_queued_requests"),
        ({"rolling_update_percentage": 0}, ValueError, "rolling_update_percentage"),
        ({"graceful_shutdown_timeout_s": -1}, ValueError, "graceful_shutdown_timeout_s"),
        ({"health_check_period_s": 0}, ValueError, "health_check_period_s"),
        ({"user_config": b"bytes"}, ValueError, "JSON"),
        ({"user_config": {"a": object()}}, ValueError, "JSON"),
        ({"version": "1"}, ValueError, "has been removed"),
        ({"ray_actor_options": {"name": "x"}}, ValueError, "name"),
        ({"backpressure_config": {"status_code": 500}}, ValueError, "429 or 503"),
        ({"name": "a#b"}, ValueError, "#"),
        ({"nonsense": 1}, TypeError, "nonsense"),
        ({"autoscaling_config": {"min_replicas": 1}, "num_replicas": 2}, ValueError, "num_replicas=2 is not allowed with"),
        ({"autoscaling_config": {"min_replicas": 2}}, ValueError, "max_replicas"),
        ({"autoscaling_config": {"min_replica": 2}}, TypeError, "min_replica"),
        ({"autoscaling_config": 3}, TypeError, "autoscaling_config"),
        ({"gang_scheduling_config": {}}, NotImplementedError, "gang_scheduling_config"),
    ],
)  # fmt: skip
def test_wrong_options_are_named(options: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        serve.deployment(**options)(lambda: None)
    with pytest.raises(error, match=text):
        Plain.options(**options)


def test_wrong_uses() -> None:
    with pytest.raises(RuntimeError, match="cannot be constructed directly"):
        Plain()
    with pytest.raises(TypeError, match="expects an `Application`"):
        serve.run(Plain)
    with pytest.raises(TypeError, match="is a function"):
        function.bind(1)
    assert not skate.is_initialized()


def test_applications_become_handles() -> None:
    shared = Plain.bind(1)
    found = target_of(Plain.bind([shared, {"a": (shared, Plain.bind(2))}], key=function.bind()), "app", "/")
    assert sorted(found.deployments) == ["Plain", "Plain_1", "Plain_2", "other"]
    assert found.ingress == "Plain_2"


def test_a_version_is_what_makes_replicas_different() -> None:
    def version(deployment: Any, *args: Any, prefix: str | None = "/") -> str:
        found = target_of(deployment.bind(*args), "app", prefix)
        return found.deployments[found.ingress].version

    first = version(Plain, 1)
    assert version(Plain, 1) == first
    assert version(Plain.options(num_replicas=5, max_ongoing_requests=1, user_config=3), 1) == first
    assert version(Plain, 1, prefix="/other") == first
    assert version(Plain, 1, prefix=None) == first
    others = [version(Plain, 2), version(Plain.options(ray_actor_options={"num_cpus": 0.5}), 1)]
    assert len({first, *others}) == 3


def test_the_same_code_has_the_same_version_in_all_processes(tmp_path: Path) -> None:
    """A program that runs again restarts nothing: the ids that cloudpickle gives classes do not count."""
    text = "from skate import serve\n@serve.deployment\nclass Model:\n    def __init__(self, what): pass\n"
    (tmp_path / "stable_module.py").write_text(text)
    program = (
        "import stable_module\nfrom skate.serve._build import target_of\n"
        "class Own: pass\n"
        "target = target_of(stable_module.Model.bind(Own()), 'a', '/')\n"
        "print(target.deployments['Model'].version)"
    )

    def version(seed: str) -> str:
        path = f"{Path(skate.__file__).parents[1]}:{tmp_path}"
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": seed}
        run = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        )
        return run.stdout

    first = version("1")
    assert len(first.strip()) == 16
    assert version("2") == first


def test_a_changed_file_is_another_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A class of an importable module is pickled by name: its source counts."""
    module = tmp_path / "served_module.py"
    text = "from skate import serve\n@serve.deployment\nclass Model:\n    value = 1\n"
    module.write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    import served_module  # type: ignore[import-not-found]

    first = target_of(served_module.Model.bind(), "app", "/").deployments["Model"].version
    assert target_of(served_module.Model.bind(), "app", "/").deployments["Model"].version == first
    module.write_text(text.replace("1", "2"))
    assert target_of(served_module.Model.bind(), "app", "/").deployments["Model"].version != first
    monkeypatch.delitem(sys.modules, "served_module")


def _loaded(program: str) -> set[str]:
    code = f"import sys\nbefore = set(sys.modules)\n{program}\nprint(*sorted(set(sys.modules) - before))"
    environment = {**os.environ, "PYTHONPATH": str(Path(skate.__file__).parents[1])}
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    return {name.partition(".")[0] for name in run.stdout.split()}


def test_importing_it_loads_nothing_heavy() -> None:
    assert not _loaded("import skate.serve") & HEAVY
    # Of starlette the bare package, which is a version: its parts would bring anyio.
    light = {"asyncio", "starlette"}
    assert not _loaded("from skate import serve\nserve.deployment(lambda: 1)") & (HEAVY - light)


@pytest.mark.parametrize("name", [one for one in _left_out.names() if one.isidentifier()])
def test_what_is_not_there_says_so(name: str) -> None:
    if name[0].isupper() or name in ("run_many", "llm", "get_trace_context"):
        with pytest.raises(NotImplementedError, match=f"{name} is not in skate.serve: "):
            getattr(serve, name)
        assert not hasattr(serve, name)


def test_names_are_listed_and_found() -> None:
    assert serve.__all__ == sorted(serve.__all__)
    assert all(getattr(serve, name) is not None for name in serve.__all__)
    with pytest.raises(AttributeError, match="'skate.serve' has no attribute 'nonsense'"):
        _ = serve.nonsense


def test_without_serve_running() -> None:
    assert serve.status().applications == {}
    serve.shutdown()
    serve.delete("anything")
    with pytest.raises(serve.exceptions.RayServeException, match="no Serve instance running"):
        serve.get_app_handle("default")
    with pytest.raises(serve.exceptions.RayServeException, match="may only be called from within"):
        serve.get_replica_context()


@pytest.mark.parametrize("name", _options._LATER)
def test_an_option_for_later_has_a_reason(name: str) -> None:
    assert _left_out.reason(name) is not None
    with pytest.raises(NotImplementedError, match=name):
        _options.checked({name: 1})
