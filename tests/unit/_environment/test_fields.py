"""What a runtime_env may say, and how a child's meets its parent's."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest

from skate._environment import fields
from skate._environment.spec import expand
from skate.runtime_env import RuntimeEnv, RuntimeEnvConfig


@pytest.mark.parametrize(
    "good",
    [
        None,
        {},
        {"env_vars": {"A": "1"}, "pip": None},
        {"working_dir": ".", "excludes": ["*.log"]},
        {"py_modules": ["a", json]},
        {"pip": ["a"]},
        {"pip": "requirements.txt"},
        {"pip": {"packages": ["a"], "pip_check": True, "pip_version": "==24.0", "pip_install_options": []}},
        {"uv": {"packages": "requirements.txt", "uv_check": False, "uv_pip_install_options": ["--quiet"]}},
        {"worker_process_setup_hook": "package.module.function"},
        {"worker_process_setup_hook": print},
        {"config": {"setup_timeout_seconds": -1, "eager_install": False}},
        {"config": RuntimeEnvConfig()},
        {"_ray_commit": "abc"},
        RuntimeEnv(env_vars={"A": "1"}),
    ],
    ids=repr,
)
def test_what_is_valid(good: Any) -> None:
    fields.check(good)


@pytest.mark.parametrize(
    ("bad", "error", "says"),
    [
        (5, TypeError, "runtime_env must be a dict"),
        ({"work_dir": "."}, ValueError, "no field 'work_dir'.*working_dir"),
        ({"env_vars": ["A"]}, TypeError, "env_vars.*Dict"),
        ({"env_vars": {"A": 1}}, TypeError, "env_vars.*'A': 1; write numbers as strings"),
        ({"env_vars": {"A=B": "1"}}, ValueError, "env_vars.*cannot be an environment variable"),
        ({"env_vars": {"A": "\0"}}, ValueError, "env_vars.*cannot be an environment variable"),
        ({"working_dir": 5}, TypeError, "working_dir.*path"),
        ({"working_dir": ""}, ValueError, "working_dir.*empty"),
        ({"working_dir": "s3://bucket/a.zip"}, ValueError, "working_dir.*this machine only.*Download"),
        ({"py_modules": "a"}, TypeError, "py_modules.*list"),
        ({"py_modules": [5]}, TypeError, r"py_modules'\]\[0\]"),
        ({"py_modules": ["https://example.org/a.whl"]}, ValueError, "this machine only"),
        ({"excludes": "*.log"}, TypeError, "excludes.*list"),
        ({"pip": 5}, TypeError, "pip.*list of requirements"),
        ({"pip": [5]}, TypeError, "pip.*strings"),
        ({"pip": {"pip_check": True}}, ValueError, "pip.*needs 'packages'"),
        ({"pip": {"packages": [], "check": True}}, ValueError, "pip.*no check.*pip_check"),
        ({"pip": {"packages": [], "pip_check": 1}}, TypeError, "pip_check.*True or False"),
        ({"pip": {"packages": [], "pip_version": 24}}, TypeError, "pip_version.*string"),
        ({"uv": {"packages": [], "uv_pip_install_options": "--quiet"}}, TypeError, "options.*list"),
        ({"pip": ["a"], "uv": ["b"]}, ValueError, "both 'pip' and 'uv'"),
        ({"worker_process_setup_hook": 5}, TypeError, "hook.*function"),
        ({"worker_process_setup_hook": "function"}, ValueError, "module.function"),
        ({"config": 5}, TypeError, "config.*RuntimeEnvConfig"),
        ({"config": {"setup_timeout_seconds": 0}}, ValueError, "above 0, or -1"),
        ({"config": {"setup_timeout_seconds": "1"}}, TypeError, "seconds as a number"),
        ({"config": {"eager_install": "no"}}, TypeError, "eager_install"),
        ({"conda": "env"}, ValueError, "conda.*not supported.*pip"),
        ({"image_uri": "x"}, ValueError, "image_uri.*not supported.*container"),
        ({"py_executable": "uv run"}, ValueError, "py_executable.*not supported"),
    ],
    ids=lambda value: repr(value) if isinstance(value, dict) else "",
)
def test_what_is_not(bad: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        fields.check(bad)


def test_variables_are_merged_and_other_fields_replaced() -> None:
    parent = {"pip": ["requests", "chess"], "env_vars": {"A": "a", "B": "b"}, "working_dir": "x"}
    child = {"pip": ["torch"], "env_vars": {"B": "new", "C": "c"}, "working_dir": None}
    assert fields.merge(parent, child) == {
        "pip": ["torch"], "env_vars": {"A": "a", "B": "new", "C": "c"}, "working_dir": "x"
    }  # fmt: skip
    assert fields.merge({"pip": ["a"]}, {"uv": ["b"]}) == {"uv": ["b"]}
    assert fields.merge({}, {"env_vars": {"A": "1"}}) == {"env_vars": {"A": "1"}}


def test_references_to_variables() -> None:
    present = {"PATH": "/bin", "HOME": "/root"}
    given = {"PATH": "/my:${PATH}", "A": "${NO_SUCH}$HOME", "B": "${HOME}/${HOME}"}
    assert expand(given, present) == {"PATH": "/my:/bin", "A": "$HOME", "B": "/root//root"}


def test_a_runtime_env_is_a_dict_that_is_checked() -> None:
    env = RuntimeEnv(env_vars={"A": "1"}, working_dir="/x", pip=["a"])
    assert env == {"env_vars": {"A": "1"}, "working_dir": "/x", "pip": ["a"]}
    assert env.env_vars() == {"A": "1"}
    assert (env.has_working_dir(), env.working_dir(), env.py_modules()) == (True, "/x", [])
    assert (env.has_pip(), env.pip_config()) == (True, {"packages": ["a"], "pip_check": False})
    assert (env.has_uv(), env.uv_config()) == (False, {})
    assert RuntimeEnv.deserialize(env.serialize()) == env == pickle.loads(pickle.dumps(env))
    assert env.to_dict() == dict(env) and type(env.to_dict()) is dict
    with pytest.raises(ValueError, match="no field"):
        RuntimeEnv(pop=["a"])
    assert RuntimeEnv(pop=["a"], _validate=False) == {"pop": ["a"]}


def test_fields_are_set_checked_or_not_at_all() -> None:
    env = RuntimeEnv(env_vars={"A": "1"})
    env.set("working_dir", "/x")
    assert env.get("working_dir") == "/x"
    with pytest.raises(TypeError, match="env_vars"):
        env.set("env_vars", 5)
    assert env.env_vars() == {"A": "1"}
    env.set("working_dir", None)
    assert "working_dir" not in env
    assert env.get("config", data_class=RuntimeEnvConfig) is None
    env.set("config", {"setup_timeout_seconds": 3})
    assert env.get("config", data_class=RuntimeEnvConfig) == RuntimeEnvConfig(3)


def test_what_only_rays_can_have() -> None:
    env = RuntimeEnv(env_vars={"A": "1"}, _ray_commit="abc")
    assert not env.has_conda() and env.conda_config() is None and env.conda_env_name() is None
    assert not env.has_py_container() and env.py_container_image() is None
    assert env.plugins() == [] and env.get_extension("_ray_commit") == "abc"
    with pytest.raises(ValueError, match="no 'commit'"):
        env.get_extension("commit")
    odd = RuntimeEnv(conda="base", container={"image": "x"}, mine=1, _validate=False)
    assert (odd.has_conda(), odd.conda_env_name(), odd.conda_config()) == (True, "base", None)
    assert (odd.has_py_container(), odd.py_container_image()) == (True, "x")
    assert odd.plugins() == [("mine", 1)]


def test_the_configuration() -> None:
    assert RuntimeEnvConfig.default_config() == {
        "setup_timeout_seconds": 600, "eager_install": True, "log_files": []
    }  # fmt: skip
    parse = RuntimeEnvConfig.parse_and_validate_runtime_env_config
    assert parse({"setup_timeout_seconds": 5, "unknown": 1}).to_dict()["setup_timeout_seconds"] == 5
    with pytest.raises(ValueError, match="above 0"):
        RuntimeEnvConfig(0)
