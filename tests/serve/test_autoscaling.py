"""The number of replicas follows the load: real processes, with short delays."""

from __future__ import annotations

import asyncio
import http.client
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

import skate
from skate import serve
from skate.serve._targets import DeploymentId
from skate.serve.config import AutoscalingConfig, AutoscalingPolicy

from .conftest import Web
from .load import Load
from .processes import controller, kill_controller, replicas

Wait = Callable[[Callable[[], object]], None]
pytestmark = pytest.mark.time_limit(120)

FAST: dict[str, Any] = {
    "metrics_interval_s": 0.05,
    "look_back_period_s": 0.2,
    "upscale_delay_s": 0.1,
    "downscale_delay_s": 0.2,
}


class Gate:
    """Holds requests until it is opened."""

    def __init__(self) -> None:
        self._open = asyncio.Event()

    async def wait(self) -> None:
        await self._open.wait()

    async def open(self) -> None:
        self._open.set()


@serve.deployment(autoscaling_config={**FAST, "max_replicas": 4}, max_ongoing_requests=3)
class Model:
    """Answers with its version, once the gate is open."""

    def __init__(self, version: str, gate: Any = None) -> None:
        self.version, self.gate = version, gate

    async def __call__(self, request: Any = None) -> str:
        if self.gate is not None:
            await self.gate.wait.remote()
        return self.version

    def pid(self) -> int:
        return os.getpid()


@pytest.fixture
def gate(web: Web) -> Any:
    return skate.remote(num_cpus=0, max_concurrency=1000)(Gate).remote()


def stands() -> tuple[str, str]:
    """Return status and trigger of the deployment."""
    found = serve.status().applications["default"].deployments["Model"]
    return str(found.status), str(found.status_trigger)


def ids() -> set[str]:
    """Return the ids of the running replicas."""
    return {*replicas("Model")}


def scaling(**options: Any) -> Any:
    return Model.options(autoscaling_config={**FAST, **options})


def is_at(number: int) -> bool:
    """Tell whether so many replicas run and none is about to start or end."""
    found = serve.status().applications["default"].deployments["Model"]
    return found.status == "HEALTHY" and found.replica_states == ({"RUNNING": number} if number else {})


def test_more_under_load_and_fewer_after(gate: Any, wait_until: Wait) -> None:
    handle = serve.run(Model.bind("a", gate), route_prefix=None)
    assert (is_at(1), stands()) == (True, ("HEALTHY", "CONFIG_UPDATE_COMPLETED"))
    (first,) = ids()
    responses = [handle.remote() for _ in range(8)]
    wait_until(lambda: is_at(4))
    assert stands() == ("HEALTHY", "UPSCALE_COMPLETED")
    assert first in ids()
    skate.get(gate.open.remote())
    assert [response.result() for response in responses] == ["a"] * 8
    wait_until(lambda: is_at(1))
    assert stands() == ("HEALTHY", "DOWNSCALE_COMPLETED")
    assert ids() == {first}


def test_a_change_under_way_has_its_name(gate: Any, wait_until: Wait) -> None:
    # More than the machine has CPUs for: the second replica waits.
    greedy = Model.options(ray_actor_options={"num_cpus": 2})
    handle = serve.run(greedy.bind("a", gate), route_prefix=None)
    responses = [handle.remote() for _ in range(4)]
    wait_until(lambda: stands() == ("UPSCALING", "AUTOSCALING"))
    assert serve.status().applications["default"].status == "RUNNING"
    skate.get(gate.open.remote())
    assert [response.result() for response in responses] == ["a"] * 4
    wait_until(lambda: is_at(1))
    assert stands() == ("HEALTHY", "DOWNSCALE_COMPLETED")


def test_zero_and_from_zero_by_handle(web: Web, wait_until: Wait) -> None:
    handle = serve.run(scaling(min_replicas=0, initial_replicas=1).bind("a"), route_prefix=None)
    wait_until(lambda: is_at(0))
    responses = [handle.remote() for _ in range(20)]
    assert [response.result() for response in responses] == ["a"] * 20
    wait_until(lambda: is_at(0))
    assert handle.remote().result() == "a"


def test_a_deployment_that_begins_with_none(web: Web) -> None:
    serve.run(scaling(min_replicas=0, upscale_delay_s=600, downscale_delay_s=600).bind("a"))
    assert is_at(0)
    assert web("/").text == "a"
    assert stands() == ("HEALTHY", "UPSCALE_COMPLETED")


def test_zero_and_from_zero_by_http_on_one_connection(web: Web, wait_until: Wait) -> None:
    """The controller takes the connection over from the last replica, and passes it to the next first one."""
    serve.run(scaling(min_replicas=0, initial_replicas=1).bind("a"))
    connection = http.client.HTTPConnection(web.host, web.port, timeout=60)
    connection.connect()
    opened = connection.sock
    for _ in range(3):
        connection.request("GET", "/")
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, b"a")
        assert not answer.will_close
        wait_until(lambda: is_at(0))
    assert connection.sock is opened
    connection.close()


def test_from_zero_beside_another_application(web: Web, wait_until: Wait) -> None:
    @serve.deployment
    def other(request: Any) -> str:
        return "other"

    serve.run(other.bind(), name="other", route_prefix="/other")
    serve.run(scaling(min_replicas=0, initial_replicas=1).bind("a"))
    wait_until(lambda: is_at(0))
    assert web("/").text == "a"
    assert web("/other").text == "other"


def test_a_first_request_that_nothing_can_answer(web: Web) -> None:
    """A version that was never seen to start fails as an application does that is run with replicas."""

    @serve.deployment(
        name="Model", max_constructor_retry_count=1, autoscaling_config={**FAST, "min_replicas": 0}
    )
    class Broken:
        def __init__(self) -> None:
            raise KeyError("the weights are missing")

    handle = serve.run(Broken.bind(), route_prefix=None)
    with pytest.raises(serve.exceptions.DeploymentUnavailableError, match="failed to deploy"):
        handle.remote().result()
    assert "the weights are missing" in serve.status().applications["default"].message


def waves(context: Any) -> tuple[int, dict[str, Any]]:
    """Ask for the largest number of replicas until they run, then for the least until that is so, and on."""
    least, most = context.capacity_adjusted_min_replicas, context.capacity_adjusted_max_replicas
    goal = context.policy_state.get("goal", most)
    if context.current_num_replicas == goal:
        goal = least + most - goal
    return goal, {"goal": goal}


@pytest.mark.parametrize(("least", "most"), [(1, 3), (0, 1), (0, 2)])
def test_connections_stay_open_while_replicas_come_and_go(
    web: Web, wait_until: Wait, least: int, most: int
) -> None:
    policy = AutoscalingPolicy(policy_function=waves)
    delays = {"upscale_delay_s": 0, "downscale_delay_s": 0}
    model = scaling(min_replicas=least, max_replicas=most, initial_replicas=1, policy=policy, **delays)
    serve.run(model.bind("a"))
    seen: set[str] = set()

    def came_and_went() -> bool:
        seen.update(ids())
        return len(seen) >= 6 and load.answers > 20

    with Load(web.address, clients=4) as load:
        wait_until(came_and_went)
    assert load.errors == []
    assert load.reconnects == 0
    assert {*load.bodies} == {b"a"}


def test_other_bounds_restart_nothing(web: Web, wait_until: Wait) -> None:
    serve.run(scaling(max_replicas=4).bind("a"), route_prefix=None)
    before = ids()
    serve.run(scaling(min_replicas=3, max_replicas=4).bind("a"), route_prefix=None)
    assert is_at(3)
    assert ids() > before
    serve.run(scaling(min_replicas=1, max_replicas=2).bind("a"), route_prefix=None)
    assert len(ids()) == 2
    wait_until(lambda: is_at(1))
    assert ids() == before
    serve.run(Model.options(num_replicas=2).bind("a"), route_prefix=None)
    assert is_at(2)
    assert ids() > before


def counting(context: Any, step: int) -> tuple[int, dict[str, Any]]:
    """Ask for a replica more at each call, up to three."""
    assert context.deployment_name == "Model"
    assert context.app_name == "default"
    number = min(3, context.policy_state.get("number", 0) + step)
    return number, {"number": number}


def test_a_policy_with_a_state(web: Web, wait_until: Wait) -> None:
    policy = {"policy_function": counting, "policy_kwargs": {"step": 1}}
    serve.run(scaling(max_replicas=5, policy=policy).bind("a"), route_prefix=None)
    wait_until(lambda: is_at(3))


def test_a_policy_that_fails_changes_nothing(web: Web, wait_until: Wait) -> None:
    def fails_later(context: Any) -> int:
        if context.target_num_replicas == 2:
            raise LookupError("no metrics")
        return 2

    policy = AutoscalingPolicy(policy_function=fails_later)
    serve.run(scaling(max_replicas=4, policy=policy).bind("a"), route_prefix=None)
    wait_until(lambda: is_at(2))
    # Another policy takes over, which shows that the one before was asked and survived.
    policy = AutoscalingPolicy(policy_function=counting, policy_kwargs={"step": 3})
    serve.run(scaling(max_replicas=4, policy=policy).bind("a"), route_prefix=None)
    wait_until(lambda: is_at(3))


def test_a_first_request_waits_for_no_policy(web: Web) -> None:
    def never_answers(context: Any) -> int:
        threading.Event().wait()
        return 0

    policy = AutoscalingPolicy(policy_function=never_answers)
    handle = serve.run(scaling(min_replicas=0, policy=policy).bind("a"), route_prefix=None)
    assert handle.remote().result() == "a"


def test_a_deployment_that_comes_back_with_none_is_known_to_callers(web: Web) -> None:
    model = scaling(min_replicas=0)
    for _ in range(5):
        handle = serve.run(model.bind("a"), route_prefix=None)
        assert handle.remote().result() == "a"
        serve.delete("default")
        with pytest.raises(serve.exceptions.DeploymentUnavailableError):
            handle.remote().result()


def test_an_update_keeps_the_number(gate: Any, wait_until: Wait) -> None:
    model = scaling(max_replicas=3, downscale_delay_s=600)
    handle = serve.run(model.bind("v1", gate), route_prefix=None)
    responses = [handle.remote() for _ in range(6)]
    wait_until(lambda: is_at(3))
    skate.get(gate.open.remote())
    before = ids()
    serve.run(model.bind("v2"), route_prefix=None)
    assert [response.result() for response in responses] == ["v1"] * 6
    assert handle.remote().result() == "v2"
    assert is_at(3)
    assert not ids() & before


def test_a_killed_controller_keeps_the_number_and_hears_the_load_again(gate: Any, wait_until: Wait) -> None:
    model = scaling(max_replicas=3)
    handle = serve.run(model.bind("a", gate), route_prefix=None)
    responses = [handle.remote() for _ in range(8)]
    wait_until(lambda: is_at(3))
    before = ids()
    kill_controller()
    wait_until(lambda: is_at(3))
    assert ids() == before
    serve.run(scaling(max_replicas=4).bind("a", gate), route_prefix=None)
    wait_until(lambda: is_at(4))  # for which it must know of all eight
    skate.get(gate.open.remote())
    assert [response.result() for response in responses] == ["a"] * 8
    wait_until(lambda: is_at(1))


def test_a_controller_that_is_killed_at_zero(web: Web, wait_until: Wait) -> None:
    handle = serve.run(scaling(min_replicas=0, initial_replicas=1).bind("a"))
    wait_until(lambda: is_at(0))
    kill_controller()
    wait_until(lambda: is_at(0))
    assert handle.remote().result() == "a"
    wait_until(lambda: is_at(0))
    assert web("/").text == "a"


def test_the_load_of_a_canary_counts_and_both_grow(gate: Any, wait_until: Wait) -> None:
    """All requests go to the canary, which has as many replicas as its deployment."""

    def running() -> dict[str, dict[str, int]]:
        found = serve.status().applications["default"].deployments
        return {name: one.replica_states for name, one in found.items()}

    model = scaling(max_replicas=3)
    serve.run(model.bind("a"), route_prefix=None)
    handle = serve.run(model.bind("b", gate), route_prefix=None, canary=100)
    responses = [handle.remote() for _ in range(6)]
    wait_until(lambda: running() == {"Model": {"RUNNING": 3}, "Model#canary": {"RUNNING": 3}})
    skate.get(gate.open.remote())
    assert [response.result() for response in responses] == ["b"] * 6
    wait_until(lambda: running() == {"Model": {"RUNNING": 1}, "Model#canary": {"RUNNING": 1}})
    serve.rollback()
    assert handle.remote().result() == "a"
    wait_until(lambda: is_at(1))


def test_what_a_dead_caller_reported_is_forgotten(gate: Any, wait_until: Wait) -> None:
    class Caller:
        def begin(self, handle: Any) -> int:
            self.responses = [handle.remote() for _ in range(30)]
            return os.getpid()

    model = scaling(max_replicas=2).options(max_ongoing_requests=1)
    handle = serve.run(model.bind("a", gate), route_prefix=None)
    caller = skate.remote(num_cpus=0)(Caller).remote()
    pid = skate.get(caller.begin.remote(handle))
    wait_until(lambda: is_at(2))
    os.kill(pid, signal.SIGKILL)
    skate.get(gate.open.remote())
    wait_until(lambda: is_at(1))


def test_a_report_that_the_news_of_its_process_end_overtakes(web: Web, wait_until: Wait) -> None:
    def reported(self: Any) -> list[str]:
        return [
            source for one in self._scaler._scaled_ones.values() for source in one.autoscaler.loads._by_source
        ]

    serve.run(Model.bind("a"), route_prefix=None)
    found = controller()
    found.__ray_call__.remote(lambda self: self._process_gone("dead"))
    skate.get(found.report.remote(DeploymentId("Model", "default"), "dead", 0.0, 30.0))
    assert skate.get(found.__ray_call__.remote(reported)) == ["dead"]
    wait_until(lambda: skate.get(found.__ray_call__.remote(reported)) == [])


def test_options() -> None:
    assert Model.num_replicas == 1
    auto = Model.options(num_replicas="auto").settings.autoscaling
    assert auto == AutoscalingConfig(max_replicas=100) == AutoscalingConfig.default()
    given = Model.options(num_replicas="auto", autoscaling_config={"min_replicas": 2}).settings
    assert (given.num_replicas, given.autoscaling) == (2, AutoscalingConfig(min_replicas=2, max_replicas=100))
    assert Model.options(num_replicas=3).settings.autoscaling is None
    again = Model.options(num_replicas=3).options(autoscaling_config=AutoscalingConfig(initial_replicas=1))
    assert again.num_replicas == 1
    with pytest.raises(ValueError, match="num_replicas=3 is not allowed with autoscaling_config"):
        Model.options(num_replicas=3, autoscaling_config={})


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_replicas": -1},
        {"min_replicas": 1.5},
        {"max_replicas": 0},
        {"min_replicas": 3, "max_replicas": 2},
        {"initial_replicas": 2},
        {"initial_replicas": 0},
        {"target_ongoing_requests": 0},
        {"metrics_interval_s": 0},
        {"look_back_period_s": "long"},
        {"upscaling_factor": 0},
        {"downscale_smoothing_factor": -1},
        {"upscale_delay_s": -1},
        {"downscale_to_zero_delay_s": -1},
        {"aggregation_function": "median"},
        {"policy": 3},
        {"policy": {"policy_function": "no_module"}},
        {"policy": {"policy_function": waves, "policy_kwargs": 3}},
    ],
)
def test_wrong_values_are_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=str(next(iter(wrong))).partition("_repl")[0]):
        AutoscalingConfig(**wrong)
    with pytest.raises(ValueError):
        serve.deployment(autoscaling_config=wrong)


def test_factors_by_all_their_names() -> None:
    one = AutoscalingConfig(smoothing_factor=0.5, upscale_smoothing_factor=0.6, downscaling_factor=0.7)
    assert (one.get_upscaling_factor(), one.get_downscaling_factor()) == (0.6, 0.7)
    assert AutoscalingConfig(smoothing_factor=0.5).get_downscaling_factor() == 0.5
