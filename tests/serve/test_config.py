"""Config files: what they may say, and what applications become of them. No processes."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from skate import serve
from skate.serve import _config_file
from skate.serve._build import target_of
from skate.serve._config import ConfigError, split_import_path
from skate.serve._loading import application_of
from skate.serve.config import AutoscalingPolicy, HTTPOptions, ProxyLocation, gRPCOptions
from skate.serve.schema import DeploymentSchema, ServeApplicationSchema, ServeDeploySchema

APP = {"import_path": "app:model"}


def test_defaults() -> None:
    found = ServeDeploySchema.model_validate({"applications": [APP]})
    assert found.proxy_location is ProxyLocation.EveryNode
    assert found.http_options == HTTPOptions()
    (one,) = found.applications
    assert (one.name, one.route_prefix, one.args, one.runtime_env, one.deployments) == (
        "default",
        "/",
        {},
        {},
        [],
    )
    assert one.model_dump(exclude_unset=True) == APP


def test_everything_and_back() -> None:
    data = {
        "applications": [
            {
                "import_path": "package.app:build",
                "name": "one",
                "route_prefix": None,
                "runtime_env": {"env_vars": {"A": "1"}},
                "args": {"size": 3},
                "deployments": [
                    {"name": "Model", "num_replicas": 2, "user_config": {"a": [1]}},
                    {"name": "Other", "max_ongoing_requests": 7, "ray_actor_options": {"num_cpus": 0.5}},
                ],
                "external_scaler_enabled": True,
            },
        ],
        "proxy_location": "Disabled",
        "http_options": {"port": 9000, "request_timeout_s": 2.5},
    }
    found = ServeDeploySchema.model_validate(data)
    assert found.applications[0].deployment_names == ["Model", "Other"]
    assert found.http_options.port == 9000
    assert found.model_dump(exclude_unset=True) == data
    assert ServeDeploySchema.model_validate(found.model_dump()).model_dump() == found.model_dump()
    assert ServeDeploySchema([ServeApplicationSchema("app:model")]).applications[0].name == "default"
    assert DeploymentSchema(name="Model", num_replicas=2).options == {"num_replicas": 2}


def test_what_ray_writes_is_accepted() -> None:
    """`serve build` of Ray writes sections of which nothing comes."""
    found = ServeDeploySchema.model_validate(
        {
            "proxy_location": "EveryNode",
            "http_options": {"host": "0.0.0.0", "port": 8000},
            "grpc_options": {"port": 9000, "grpc_servicer_functions": []},
            "logging_config": {
                "encoding": "TEXT",
                "log_level": "INFO",
                "logs_dir": None,
                "enable_access_log": True,
            },
            "applications": [{**APP, "runtime_env": {}, "deployments": [{"name": "Model"}]}],
        }
    )
    assert (found.grpc_options, found.logging_config) == (gRPCOptions(), None)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (None, "expected keys and values, got None"),
        ({}, "the key 'applications' is missing"),
        ({"applications": {}}, "applications: expected a list"),
        ({"applications": [{"name": "a"}]}, r"applications\[0\]: the key 'import_path' is missing"),
        ({"application": []}, "unknown key 'application'; did you mean 'applications'"),
        ({"applications": [], "proxy_location": "Moon"}, "proxy_location is one of Disabled, HeadOnly"),
        (
            {"applications": [], "http_options": {"prt": 1}},
            "http_options: unknown key 'prt'; did you mean 'port'",
        ),
        ({"applications": [], "http_options": {"port": -1}}, "http_options: port takes a number"),
        ({"applications": [APP, APP]}, "applications: two of them have the name 'default'"),
        ({"applications": [APP, {**APP, "name": "b"}]}, "two of them have the route_prefix '/'"),
        (
            {"applications": [{**APP, "route_prefx": "/"}]},
            r"applications\[0\]: unknown key 'route_prefx'; did",
        ),
        ({"applications": [{**APP, "route_prefix": 3}]}, r"\[0\]: route_prefix takes a path"),
        ({"applications": [{"import_path": "app"}]}, "import_path has the form module:application"),
        ({"applications": [{"import_path": ""}]}, "import_path takes a text"),
        ({"applications": [{**APP, "args": [1]}]}, "args takes keys and values"),
        ({"applications": [{**APP, "external_scaler_enabled": 1}]}, "true or false"),
        (
            {"applications": [{**APP, "deployments": [{"name": "a"}, {"name": "b", "num_replica": 2}]}]},
            r"applications\[0\].deployments\[1\]: unknown key 'num_replica'; did you mean 'num_replicas'\?",
        ),
        ({"applications": [{**APP, "deployments": [{"num_replicas": 2}]}]}, "the key 'name' is missing"),
        (
            {"applications": [{**APP, "deployments": [{"name": "a", "num_replicas": 0}]}]},
            r"applications\[0\].deployments\[0\]: num_replicas is expected",
        ),
        (
            {"applications": [{**APP, "deployments": [{"name": "a"}, {"name": "a"}]}]},
            "two of them have the name 'a'",
        ),
    ],
)
def test_mistakes_are_named_with_their_place(data: Any, text: str) -> None:
    with pytest.raises(ConfigError, match=text) as caught:
        ServeDeploySchema.model_validate(data)
    assert isinstance(caught.value, ValueError)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"policy_function": "x"}, "'module:name', got 'x'"),
        ({"policy_function": print}, "takes module:name"),
        ({"function": "a:b"}, "unknown key 'function'"),
        ("a:b", "expected keys and values"),
    ],
)
def test_policies_of_applications_that_cannot_be(given: Any, text: str) -> None:
    with pytest.raises(ConfigError, match=text) as caught:
        ServeDeploySchema.model_validate({"applications": [{**APP, "autoscaling_policy": given}]})
    assert str(caught.value).startswith("applications[0].autoscaling_policy: ")


def test_a_policy_of_an_application_is_plain_data_again() -> None:
    given = {"policy_function": "a:b", "policy_kwargs": {"most": 3}}
    found = ServeApplicationSchema.model_validate({**APP, "autoscaling_policy": given})
    assert found.policy == AutoscalingPolicy(**given)
    assert found.model_dump(exclude_unset=True) == {**APP, "autoscaling_policy": given}
    other = ServeApplicationSchema("app:model", autoscaling_policy=AutoscalingPolicy(**given))
    assert other == found


def test_options_are_attributes() -> None:
    one = DeploymentSchema("Model", num_replicas=3)
    assert (one.num_replicas, one.user_config) == (3, None)
    assert pickle.loads(pickle.dumps(one)) == one
    with pytest.raises(AttributeError, match="has no attribute 'replicas'"):
        _ = one.replicas


def test_a_target_capacity_is_a_percentage() -> None:
    def capacity(value: Any) -> Any:
        return ServeDeploySchema.model_validate(
            {"applications": [], "target_capacity": value}
        ).target_capacity

    assert [capacity(value) for value in (None, 0, 12.5, 100)] == [None, 0, 12.5, 100]
    for value in (-1, 101, "50", True, float("nan")):
        with pytest.raises(ConfigError, match="target_capacity takes 0 to 100"):
            capacity(value)


def test_logging_of_an_application_is_checked() -> None:
    app = {**APP, "logging_config": {"log_level": "DEBUG"}}
    assert ServeDeploySchema.model_validate({"applications": [app]}).applications[0].logging_config == {
        "log_level": "DEBUG"
    }
    with pytest.raises(ValueError, match="log_level"):
        ServeDeploySchema.model_validate({"applications": [{**APP, "logging_config": {"log_level": "LOUD"}}]})


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("app:model", ("app", "model")),
        ("a.b:c.d", ("a.b", "c.d")),
        ("a.b.model", ("a.b", "model")),
        ("app", ("", "app")),
        (":x", ("", "x")),
    ],
)
def test_import_paths(path: str, parts: tuple[str, str]) -> None:
    assert split_import_path(path) == parts


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "serve.yaml"
    path.write_text(
        "applications:\n- import_path: app:model\n  deployments:\n  - {name: A, num_replicas: 3}\n"
    )
    assert _config_file.read(str(path)).applications[0].deployments[0].options == {"num_replicas": 3}
    path.write_text("applications: [")
    with pytest.raises(ConfigError, match=r"serve.yaml: no YAML: (.|\n)*line 1"):
        _config_file.read(str(path))
    path.write_text("applications:\n- {import_path: 'app:model', nme: x}\n")
    with pytest.raises(
        ConfigError, match=r"serve.yaml: applications\[0\]: unknown key 'nme'; did you mean 'name'"
    ):
        _config_file.read(str(path))


# ---------------------------------------------------------------------- what the code becomes

CODE = """
from pydantic import BaseModel
from skate import serve

class Arguments(BaseModel):
    size: int = 1

@serve.deployment(num_replicas=3, max_ongoing_requests=9, backpressure_config={"status_code": 429}, ray_actor_options={"num_cpus": 0, "runtime_env": {"env_vars": {"B": "code"}}})
class Model:
    def __init__(self, *given): self.given = given

@serve.deployment
class Door:
    def __init__(self, model): pass

app = Door.bind(Model.bind())
def plain(arguments): return Model.bind(arguments)
def typed(arguments: Arguments): return Model.bind(arguments)
def empty(): return Model.bind()
def two(a, b): return Model.bind()
def wrong(arguments): return 3
number = 3
class inner:
    app = Model.bind(1)
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "configured_app.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "configured_app", raising=False)
    return "configured_app"


def test_a_builder_gets_its_arguments(module: str) -> None:
    assert application_of(f"{module}:plain", {"size": "7"})._args == ({"size": "7"},)
    assert application_of(f"{module}:plain", {})._args == ({},)
    (typed,) = application_of(f"{module}:typed", {"size": "7"})._args
    assert typed.size == 7
    assert application_of(f"{module}.empty", {})._args == ()
    assert application_of(f"{module}:inner.app", {})._args == (1,)


@pytest.mark.parametrize(
    ("name", "arguments", "text"),
    [
        ("app", {"a": 1}, "takes no arguments, got a"),
        ("typed", {"size": "large"}, "size"),
        ("two", {}, "has 2 parameters"),
        ("empty", {"a": 1}, "has 0 parameters"),
        ("wrong", {}, "returned 3, which is no application"),
        ("number", {}, "is int: neither an application"),
        ("missing", {}, "has no missing"),
    ],
)
def test_an_import_path_that_names_no_application(
    module: str, name: str, arguments: dict[str, Any], text: str
) -> None:
    with pytest.raises(ValueError, match=text):
        application_of(f"{module}:{name}", arguments)


def configured(module: str, **config: Any) -> Any:
    schema = ServeApplicationSchema.model_validate({"import_path": f"{module}:app", **config})
    return target_of(application_of(schema.import_path, {}), schema.name, "/", config=schema)


def test_options_of_the_file_replace_those_of_the_code(module: str) -> None:
    found = configured(module, deployments=[{"name": "Model", "num_replicas": 5, "user_config": {"a": 1}}])
    settings = found.deployments["Model"].settings
    assert (settings.num_replicas, settings.max_ongoing_requests, settings.user_config) == (5, 9, {"a": 1})
    assert found.deployments["Door"].settings.num_replicas == 1
    assert found.config["deployments"] == [{"name": "Model", "num_replicas": 5, "user_config": {"a": 1}}]
    # The module's own objects are as they were: it may be built again.
    assert configured(module).deployments["Model"].settings.num_replicas == 3


def test_the_environment_of_the_application_is_that_of_its_deployments(module: str) -> None:
    found = configured(module, runtime_env={"env_vars": {"A": "file", "B": "file"}, "working_dir": "x"})
    assert found.deployments["Door"].actor_options == {
        "runtime_env": {"env_vars": {"A": "file", "B": "file"}, "working_dir": "x"}
    }
    assert found.deployments["Model"].actor_options == {
        "num_cpus": 0,
        "runtime_env": {"env_vars": {"A": "file", "B": "code"}, "working_dir": "x"},
    }


def test_a_deployment_that_the_application_has_not(module: str) -> None:
    with pytest.raises(ValueError, match="'default' has no deployment 'Modl'; did you mean 'Model'"):
        configured(module, deployments=[{"name": "Modl", "num_replicas": 5}])


def test_the_file_may_turn_autoscaling_on(module: str) -> None:
    options = {"name": "Model", "autoscaling_config": {"min_replicas": 2, "max_replicas": 4}}
    settings = configured(module, deployments=[options]).deployments["Model"].settings
    assert (settings.autoscaling.min_replicas, settings.autoscaling.max_replicas) == (2, 4)
    found = application_of(f"{module}:app", {})
    schema = ServeApplicationSchema(f"{module}:app", deployments=[options])
    with pytest.raises(ValueError, match="only one of them"):
        target_of(found, "a", "/", config=schema, external_scaler_enabled=True)


def test_settings_of_the_file_are_no_other_version(module: str) -> None:
    def version(**config: Any) -> str:
        return str(configured(module, **config).deployments["Model"].version)

    first = version()
    assert version(deployments=[{"name": "Model", "num_replicas": 5, "user_config": 1}]) == first
    assert version(deployments=[{"name": "Model", "ray_actor_options": {"num_cpus": 1}}]) != first
    assert version(runtime_env={"env_vars": {"A": "1"}}) != first


def test_what_build_writes(module: str, tmp_path: Path) -> None:
    text = _config_file.written([f"{module}:app"], str(tmp_path))
    (tmp_path / "out.yaml").write_text(text)
    (found,) = _config_file.read(str(tmp_path / "out.yaml")).applications
    assert (found.name, found.route_prefix, found.import_path) == ("app1", "/", f"{module}:app")
    assert {one.name: one.options for one in found.deployments} == {
        "Model": {
            "num_replicas": 3,
            "max_ongoing_requests": 9,
            "backpressure_config": {"status_code": 429},
            "ray_actor_options": {"num_cpus": 0, "runtime_env": {"env_vars": {"B": "code"}}},
        },
        "Door": {"num_replicas": 1},
    }
    (tmp_path / "automatic_app.py").write_text(
        "from skate import serve\n@serve.deployment(num_replicas='auto')\nclass A: pass\napp = A.bind()\n"
    )
    (tmp_path / "out.yaml").write_text(_config_file.written(["automatic_app:app"], str(tmp_path)))
    (found,) = _config_file.read(str(tmp_path / "out.yaml")).applications
    assert found.deployments[0].options["autoscaling_config"]["max_replicas"] == 100
    several = _config_file.written([f"{module}:app", f"{module}:empty"], str(tmp_path))
    assert "route_prefix: /app2" in several


def test_importing_the_schema_loads_no_yaml() -> None:
    code = "import sys\nimport skate.serve.schema\nprint('yaml' in sys.modules or 'pydantic' in sys.modules)"
    environment = {"PYTHONPATH": str(Path(serve.__file__).parents[2])}
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout == "False\n"
