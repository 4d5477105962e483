"""The choice of the engine on Ray, and the packages that travel with a job."""

from __future__ import annotations

import os
import sys
import types
from pathlib import Path

import pytest

from skate import _on_ray, _starting
from skate._on_ray import session


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SKATE_ENGINE", "RAY_ADDRESS", session.PACKAGES_VARIABLE):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("address", [None, "auto", "local", "/tmp/session"])
def test_without_a_word_of_ray_it_is_skates_own_runtime(address: str | None) -> None:
    assert _starting._on_ray(address, None) is None


@pytest.mark.parametrize(
    ("address", "variables", "expected"),
    [
        ("ray://head:10001", {}, "ray://head:10001"),
        ("ray", {}, "auto"),
        ("ray", {"RAY_ADDRESS": "10.0.0.1:6379"}, "10.0.0.1:6379"),
        (None, {"RAY_ADDRESS": "ray://head:10001"}, "ray://head:10001"),
        (None, {"SKATE_ENGINE": "ray"}, None),
        ("auto", {"SKATE_ENGINE": "ray"}, "auto"),
        ("10.0.0.1:6379", {"SKATE_ENGINE": "ray"}, "10.0.0.1:6379"),
    ],
)
def test_the_cluster_that_is_meant(
    address: str | None, variables: dict[str, str], expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = _starting._on_ray(address, None)
    assert found is not None
    assert found.args[0] == expected  # type: ignore[attr-defined]


def test_an_unknown_engine_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKATE_ENGINE", "dask")
    with pytest.raises(ValueError, match=r"SKATE_ENGINE is 'skate' or 'ray', got 'dask'"):
        _starting._on_ray(None, None)


def test_in_process_mode_is_no_cluster() -> None:
    with pytest.raises(ValueError, match="cannot run on a Ray cluster"):
        _starting._on_ray("ray://head:10001", "inline")


def test_without_ray_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"skate-runtime\[ray\]"):
        _on_ray.import_ray()


def test_where_ray_means_skate_there_is_no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    pretender = types.ModuleType("ray")
    pretender.__skate_parts__ = []  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ray", pretender)
    with pytest.raises(RuntimeError, match="import skate as ray"):
        _on_ray.import_ray()


def test_skate_travels_with_the_job() -> None:
    found = session.job_environment({"env_vars": {"A": "1"}, "py_modules": ["mine"], "pip": ["emoji"]})
    assert found["env_vars"]["A"] == "1"
    assert found["env_vars"]["SKATE_ENGINE"] == "ray"
    assert found["pip"] == ["emoji"]
    names = [Path(one).name for one in found["py_modules"]]
    assert names == ["mine", "skate", "msgspec", "cloudpickle"]
    assert all(Path(one).is_dir() for one in found["py_modules"][1:])


def test_packages_that_are_installed_there_do_not_travel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(session.PACKAGES_VARIABLE, "installed")
    found = session.job_environment()
    assert "py_modules" not in found
    assert found["env_vars"]["SKATE_ENGINE"] == "ray"
    assert "SKATE_ENGINE" not in os.environ
