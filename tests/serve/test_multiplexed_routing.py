"""Models on several replicas, with real processes: loads are few, hot models spread, and several callers
agree."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

import skate
from skate import serve
from skate.serve._client import choosing
from skate.serve._client.client import controller, this_process
from skate.serve._targets import DeploymentId

from .conftest import Web

Wait = Callable[[Callable[[], object]], None]
NAME = DeploymentId("Model", "default")


@serve.deployment(num_replicas=3, max_ongoing_requests=2)
class Model:
    """Keeps five models, counts its loads, and says which replica answers."""

    def __init__(self) -> None:
        self.loads: list[str] = []
        self.go = asyncio.Event()

    @serve.multiplexed(max_num_models_per_replica=5)
    async def model(self, model_id: str) -> str:
        self.loads.append(model_id)
        return model_id

    async def __call__(self, request: Any = None) -> str:
        await self.model(serve.get_multiplexed_model_id())
        return serve.get_replica_context().replica_tag

    async def hold(self) -> str:
        await self.model(serve.get_multiplexed_model_id())
        await self.go.wait()
        return serve.get_replica_context().replica_tag


def replicas() -> dict[str, Any]:
    found: dict[str, Any] = skate.get(controller().replicas.remote(NAME))
    return found


def each(function: Callable[[Any], Any]) -> dict[str, Any]:
    """Return what a function of the user's instance returns in each replica."""
    names = replicas()
    found = skate.get(
        [one.__ray_call__.remote(lambda self: function(self._code.servable)) for one in names.values()]
    )
    return dict(zip(names, found, strict=True))


def loads() -> Counter[str]:
    return Counter(model for found in each(lambda model: model.loads).values() for model in found)


@skate.remote(num_cpus=0)
def ask(handle: Any, models: list[str]) -> list[str]:
    return [handle.options(multiplexed_model_id=one).remote().result() for one in models]


def test_each_model_is_loaded_once_for_all_callers(web: Web, wait_until: Wait) -> None:
    handle = serve.run(Model.bind())
    models = [f"m{number}" for number in range(12)]
    homes = {one: handle.options(multiplexed_model_id=one).remote().result() for one in models}
    assert loads() == dict.fromkeys(models, 1)
    assert Counter(homes.values()) == dict.fromkeys(replicas(), 4), "models spread"
    # The facts have come to the controller: other callers go where the models are.
    wait_until(
        lambda: sum(len(one.loaded) for one in this_process().port(NAME).choosing._facts.values()) == 12
    )
    assert skate.get([ask.remote(handle, models) for _ in range(2)]) == [list(homes.values())] * 2
    for _ in range(2):
        for one in models:
            assert web("/", serve_multiplexed_model_id=one).text == homes[one]
            assert handle.options(multiplexed_model_id=one).remote().result() == homes[one]
    assert loads() == dict.fromkeys(models, 1)


def test_a_model_that_many_ask_for_spreads_and_others_do_not(web: Web, wait_until: Wait) -> None:
    """The second replica comes for the queue, the third because the rest has waited for long."""
    handle = serve.run(Model.bind(), route_prefix=None)
    hot, cold = (handle.options(multiplexed_model_id=one) for one in ("hot", "cold"))
    home = hot.remote().result()
    cold_home = cold.remote().result()
    assert cold_home != home
    held = [hot.hold.remote() for _ in range(6)]  # as many as all slots
    wait_until(lambda: sum(each(lambda model: len(model.loads)).values()) == 4)
    assert loads() == {"hot": 3, "cold": 1}
    waits = cold.remote()
    each(lambda model: model.go.set())
    assert {one.result() for one in held} == {*replicas()}
    assert waits.result() == cold_home
    assert loads() == {"hot": 3, "cold": 1}


def test_a_short_queue_does_not_spread(web: Web, wait_until: Wait, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "_MODEL_WAIT_S", 3600.0)  # however slow this machine is
    handle = serve.run(Model.bind(), route_prefix=None)
    mine = handle.options(multiplexed_model_id="a")
    home = mine.remote().result()
    held = [mine.hold.remote() for _ in range(2)]
    wait_until(lambda: skate.get(replicas()[home].counts.remote())["ongoing"] == 2)
    waits = [mine.remote() for _ in range(2)]
    others = [handle.options(multiplexed_model_id=one).remote() for one in "bc"]
    assert home not in {one.result() for one in others}, "they pass"
    each(lambda model: model.go.set())
    assert {one.result() for one in (*held, *waits)} == {home}
    assert loads()["a"] == 1


def test_a_request_does_not_wait_for_ever_for_a_replica_that_is_busy(web: Web, wait_until: Wait) -> None:
    handle = serve.run(Model.bind(), route_prefix=None)
    mine = handle.options(multiplexed_model_id="a")
    home = mine.remote().result()
    held = [mine.hold.remote() for _ in range(2)]
    wait_until(lambda: skate.get(replicas()[home].counts.remote())["ongoing"] == 2)
    assert mine.remote().result() != home
    each(lambda model: model.go.set())
    assert {one.result() for one in held} == {home}


def test_the_models_of_a_replica_that_dies_move(web: Web, wait_until: Wait) -> None:
    handle = serve.run(Model.bind(), route_prefix=None)
    mine = handle.options(multiplexed_model_id="a")
    home = mine.remote().result()
    os.kill(skate.get(replicas()[home].__ray_call__.remote(lambda self: os.getpid())), signal.SIGKILL)
    wait_until(lambda: home not in replicas() and len(replicas()) == 3)
    new = mine.remote().result()
    assert new != home
    assert {mine.remote().result() for _ in range(5)} == {new}
    assert loads()["a"] == 1


@serve.deployment(name="Model", num_replicas=3, max_ongoing_requests=4)
class Many(Model.func_or_class):  # type: ignore[name-defined,misc]
    """Keeps forty."""

    @serve.multiplexed(max_num_models_per_replica=40)
    async def model(self, model_id: str) -> str:
        self.loads.append(model_id)
        return model_id


def test_a_hundred_models_of_which_few_are_hot(web: Web) -> None:
    """All three replicas keep 120: beyond one copy of each there is room for some of the hot ones."""
    handle = serve.run(Many.bind(), route_prefix=None)
    asked = [f"m{number}" for number in range(100) for _ in range(max(1, 60 // (number + 1)))]
    random.Random(7).shuffle(asked)
    for _ in range(2):
        calls = [handle.options(multiplexed_model_id=one).remote() for one in asked]
        assert {one.result() for one in calls} == {*replicas()}
    found = loads()
    assert found.keys() == {*asked}
    assert found.total() <= 150, f"{len(asked)} requests were asked twice"
