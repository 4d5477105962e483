"""One policy decides on all deployments of an application: config files and real processes, short delays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from skate import serve
from skate.serve import _deploy
from skate.serve.schema import ServeDeploySchema

from .conftest import Web
from .processes import kill_controller, replicas

Wait = Callable[[Callable[[], object]], None]
pytestmark = pytest.mark.time_limit(120)

_MODULE = '''
from skate import serve
from skate.serve.config import AutoscalingContext

FAST = {
    "metrics_interval_s": 0.05, "look_back_period_s": 0.2, "upscale_delay_s": 0, "downscale_delay_s": 0,
    "max_replicas": 3,
}

def alone(context):
    raise RuntimeError("the policy of the application is asked instead")

@serve.deployment(autoscaling_config={**FAST, "policy": {"policy_function": alone}})
class First:
    def __call__(self):
        return "first"

@serve.deployment(autoscaling_config=FAST)
class Second:
    def __init__(self, first):
        self.first = first

    async def __call__(self, request=None):
        return await self.first.remote()

@serve.deployment
class Fixed:
    def __call__(self):
        return "fixed"

@serve.deployment
class Entrance:
    def __init__(self, second, fixed):
        self.second = second

    async def __call__(self, request=None):
        return await self.second.remote()

app = Entrance.bind(Second.bind(First.bind()), Fixed.bind())

def stepwise(contexts, most):
    """Have a replica more of Second at each call, and as many of First; no more than `most`."""
    assert sorted(name.name for name in contexts) == ["First", "Second"]
    for name, context in contexts.items():
        assert isinstance(context, AutoscalingContext)
        assert (context.deployment_id, context.deployment_name) == (name, name.name)
    first, second = sorted(contexts, key=lambda name: name.name)
    number = contexts[second].policy_state.get("number", 0) + 1
    assert not contexts[first].policy_state
    return {first: min(number, most), second: min(number, most)}, {second: {"number": number}}

def second_alone(contexts):
    return {name: 2 for name in contexts if name.name == "Second"}

def too_many(contexts):
    return {name: 100 for name in contexts}

calls = []

def wrong_at_first(contexts):
    calls.append(contexts)
    if len(calls) == 1:
        raise LookupError("no numbers")
    return {"Second": 3} if len(calls) == 2 else {name: 3 for name in contexts}
'''


@pytest.fixture
def deploy(web: Web, tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., dict[str, str]]:
    """Deploys the application with a policy; returns the outcome."""
    # The build is another process; modules of other tests have other names all the same.
    module = f"together_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{module}.py").write_text(_MODULE)

    def run(policy: str | None, **kwargs: Any) -> dict[str, str]:
        app: dict[str, Any] = {"import_path": f"{module}:app", "route_prefix": None}
        if policy is not None:
            app["autoscaling_policy"] = {"policy_function": f"{module}:{policy}", "policy_kwargs": kwargs}
        config = ServeDeploySchema.model_validate({"applications": [app]})
        return _deploy.wait(_deploy.deploy(config, [str(tmp_path)]))

    return run


def numbers() -> tuple[int, int]:
    found = serve.status().applications["default"].deployments
    return tuple(found[name].replica_states.get("RUNNING", 0) for name in ("First", "Second"))  # type: ignore[return-value]


def test_all_deployments_together_with_their_states(deploy: Any, wait_until: Wait) -> None:
    assert deploy("stepwise", most=2) == {"default": ""}
    wait_until(lambda: numbers() == (2, 2))
    assert serve.get_app_handle("default").remote().result() == "first"
    before = {*replicas("First")}
    assert deploy("too_many") == {"default": ""}  # another policy restarts nothing
    wait_until(lambda: numbers() == (3, 3))
    assert {*replicas("First")} > before


def test_deployments_that_it_leaves_out_stay(deploy: Any, wait_until: Wait) -> None:
    deploy("stepwise", most=3)
    wait_until(lambda: numbers() == (3, 3))
    deploy("second_alone")
    wait_until(lambda: numbers() == (3, 2))


def test_bounds_hold_for_what_it_returns(deploy: Any, wait_until: Wait) -> None:
    deploy("too_many")
    wait_until(lambda: numbers() == (3, 3))


def test_a_policy_outlives_its_controller(deploy: Any, wait_until: Wait) -> None:
    deploy("stepwise", most=2)
    wait_until(lambda: numbers() == (2, 2))
    kill_controller()
    wait_until(lambda: numbers() == (2, 2))
    deploy("second_alone")
    deploy("too_many")
    wait_until(lambda: numbers() == (3, 3))


def test_errors_and_wrong_answers_change_nothing(deploy: Any, wait_until: Wait) -> None:
    deploy("wrong_at_first")
    wait_until(lambda: numbers() == (3, 3))  # it was asked again


def test_without_it_each_deployment_decides_again(deploy: Any, wait_until: Wait) -> None:
    deploy("too_many")
    wait_until(lambda: numbers() == (3, 3))
    deploy(None)
    # Second follows its load, which is none. The policy of First fails, and its number stays.
    wait_until(lambda: numbers() == (3, 1))


def test_a_policy_that_is_not_there(deploy: Any) -> None:
    with pytest.raises(RuntimeError, match="(?s)nothing was changed: .*'missing'"):
        deploy("missing")
    assert serve.status().applications == {}
