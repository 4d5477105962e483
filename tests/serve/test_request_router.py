"""Custom request routers: their choices are followed, their mistakes harm no request."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

import skate
from skate import serve
from skate.serve._client.client import controller
from skate.serve._targets import DeploymentId
from skate.serve.config import RequestRouterConfig, ValidationError
from skate.serve.experimental.consistent_hash_router import ConsistentHashRouter
from skate.serve.experimental.round_robin_router import RoundRobinRouter
from skate.serve.request_router import (
    FIFOMixin,
    LocalityMixin,
    MultiplexMixin,
    PendingRequest,
    PowerOfTwoChoicesRequestRouter,
    ReplicaID,
    RequestRouter,
    RunningReplica,
)

from ..cluster.waiting import wait_for
from .conftest import Web

Wait = Callable[[Callable[[], object]], None]


def by_name(replicas: list[RunningReplica]) -> list[RunningReplica]:
    return sorted(replicas, key=lambda one: one.replica_id.unique_id)


class ByNumber(FIFOMixin, RequestRouter):
    """The last argument says which replica: its place in the order of their names."""

    def initialize_state(self, prefix: str = "") -> None:
        self.prefix = prefix
        self.seen: list[tuple[str, str, str]] = []

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        assert pending_request is not None
        number = pending_request.args[-1]
        if isinstance(number, bytes):  # the body of a request by HTTP
            number = json.loads(number)
        return [[by_name(candidate_replicas)[number]]]

    def on_request_routed(self, pending_request: PendingRequest, replica_id: ReplicaID, result: Any) -> None:
        self.seen.append((f"{self.prefix}routed", replica_id.unique_id, ""))

    def on_request_completed(self, replica_id: ReplicaID, internal_request_id: str) -> None:
        self.seen.append((f"{self.prefix}completed", replica_id.unique_id, ""))


class Model:
    """Says which replica answers."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.stats: Any = {"weight": 0}

    async def __call__(self, request: Any = None) -> str:
        return serve.get_replica_context().replica_tag

    async def hold(self, number: Any = None) -> str:
        await self.go.wait()
        return serve.get_replica_context().replica_tag

    async def stream(self, number: int) -> Any:
        yield serve.get_replica_context().replica_tag

    async def weigh(self, number: int, weight: Any) -> None:
        self.stats = {"weight": weight}

    def record_routing_stats(self) -> Any:
        return self.stats


def deployed(router: Any, kwargs: dict[str, Any] | None = None, **options: Any) -> Any:
    config = RequestRouterConfig(
        request_router_class=router,
        request_router_kwargs=kwargs or {},
        request_routing_stats_period_s=0.05,
    )
    given = {"num_replicas": 3, "max_ongoing_requests": 2, **options}
    return serve.deployment(**given, request_router_config=config)(Model)


def replicas() -> dict[str, Any]:
    found: dict[str, Any] = skate.get(controller().replicas.remote(DeploymentId("Model", "default")))
    return found


def custom() -> Any:
    """The instance of this process."""
    from skate.serve._client.client import this_process

    async def find() -> Any:
        return client.port(DeploymentId("Model", "default")).choosing._custom

    client = this_process()
    return asyncio.run_coroutine_threadsafe(find(), client.loop).result()


def run(router: Any, kwargs: dict[str, Any] | None = None, prefix: str | None = None, **options: Any) -> Any:
    """Run the model with a request router; return the handle once this process's router is of that class: the
    replicas are those of the test before, whose class it may have still."""
    handle = serve.run(deployed(router, kwargs, **options).bind(), route_prefix=prefix)
    wait_for(lambda: type(custom()).__name__ == router.__name__, "the class in this process")
    return handle


def test_the_class_chooses_for_handles_streams_and_http(web: Web) -> None:
    handle = run(ByNumber, {"prefix": "was "}, "/")
    names = sorted(replicas())
    for number, name in enumerate(names):
        assert {handle.remote(number).result() for _ in range(10)} == {name}
        assert list(handle.options(stream=True).stream.remote(number)) == [name]
        assert {web("/", json.dumps(number).encode()).text for _ in range(5)} == {name}
    seen = Counter(one[:2] for one in custom().seen)
    assert seen == {(f"was {what}", name): 11 for what in ("routed", "completed") for name in names}


@skate.remote(num_cpus=0)
def ask(handle: Any, number: int) -> set[str]:
    return {handle.remote(number).result() for _ in range(5)}


def test_other_processes_have_instances_of_their_own(web: Web) -> None:
    handle = run(ByNumber)
    assert skate.get(ask.remote(handle, 1)) == {sorted(replicas())[1]}


class Ranks(RequestRouter):
    """The first two replicas by name, in this order."""

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        first, second, *_ = by_name(candidate_replicas)
        return [[first], [second]]


def test_the_next_group_is_taken_if_the_first_is_full_and_no_other_replica(
    web: Web, wait_until: Wait
) -> None:
    handle = run(Ranks)
    first, second, _ = sorted(replicas())
    assert {handle.remote().result() for _ in range(5)} == {first}
    held = [handle.hold.remote() for _ in range(4)]
    waits = handle.remote()
    actors = replicas()
    wait_until(
        lambda: [skate.get(actors[one].counts.remote())["ongoing"] for one in (first, second)] == [2, 2]
    )
    for one in (second, first):
        skate.get(actors[one].__ray_call__.remote(lambda self: self._code.servable.go.set()))
    assert sorted(one.result() for one in held) == sorted([first, first, second, second])
    assert waits.result() in (first, second)


@skate.remote(num_cpus=0)
class Caller:
    """Another process. It keeps a credit of the replica that it called last."""

    def call(self, handle: Any) -> str:
        answer: str = handle.remote().result()
        return answer


def test_a_replica_whose_credits_are_elsewhere_is_not_full(web: Web) -> None:
    handle = run(Ranks, max_ongoing_requests=1)
    first, *_ = sorted(replicas())
    callers = [Caller.remote() for _ in range(2)]
    for _ in range(3):
        assert handle.remote().result() == first
        assert [skate.get(one.call.remote(handle)) for one in callers] == [first] * 2


class ByWeight(RequestRouter):
    """The replica that says the highest weight."""

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        assert pending_request is not None
        if pending_request.metadata.call_method == "weigh":
            return [[by_name(candidate_replicas)[pending_request.args[0]]]]
        return [[max(by_name(candidate_replicas), key=lambda one: one.routing_stats.get("weight", 0))]]


def test_routing_stats_reach_the_class(web: Web, wait_until: Wait) -> None:
    handle = run(ByWeight)
    for number, name in enumerate(sorted(replicas())):
        handle.weigh.remote(number, number + 1).result()
        wait_until(lambda: handle.remote().result() == name)  # noqa: B023
    handle.weigh.remote(2, object).result()  # nothing that JSON can hold: the last ones stay
    assert handle.remote().result() == sorted(replicas())[2]


class Broken(RequestRouter):
    """Fails as it is asked to."""

    def initialize_state(self, fails: str = "") -> None:
        if fails == "initialize_state":
            raise ValueError("cannot begin")

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> Any:
        assert pending_request is not None
        if pending_request.args == ["raise"]:
            raise KeyError("no such thing")
        return "nonsense"

    def on_request_routed(self, pending_request: PendingRequest, replica_id: ReplicaID, result: Any) -> None:
        raise KeyError("not this either")


@pytest.mark.parametrize("kwargs", [{}, {"fails": "initialize_state"}, {"unknown": 1}])
def test_a_class_that_fails_harms_no_request(
    web: Web, kwargs: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    handle = serve.run(deployed(Broken, kwargs).bind())
    assert {handle.remote("raise").result() for _ in range(10)} <= {*replicas()}
    assert handle.remote("other").result() in replicas()
    assert web("/").status == 200
    said = [one.getMessage() for one in caplog.records if "request router" in one.getMessage()]
    assert len(said) == len(set(said)) > 0
    assert all("Broken" in one and "Deployment(name='Model'" in one for one in said)
    if not kwargs:
        assert any("KeyError" in one for one in said)
        assert any("a list of lists of replicas" in one for one in said)


class Nobody(RequestRouter):
    """Chooses no replica until it is asked for the third time, for each request."""

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        assert pending_request is not None
        pending_request.kwargs["asked"] = pending_request.kwargs.get("asked", 0) + 1
        return [candidate_replicas] if pending_request.kwargs["asked"] > 2 else []


def test_a_choice_of_nothing_is_made_again(web: Web) -> None:
    handle = run(Nobody)
    waiting = [handle.remote() for _ in range(200)]
    assert {one.result() for one in waiting} <= {*replicas()}


def test_a_replica_that_dies_is_no_candidate_any_more(web: Web, wait_until: Wait) -> None:
    handle = run(Ranks, idempotent=True)
    first, *_ = sorted(replicas())
    wait_for(lambda: handle.remote().result() == first, "the first rank")
    os.kill(skate.get(replicas()[first].__ray_call__.remote(lambda self: os.getpid())), signal.SIGKILL)
    wait_until(lambda: first not in replicas() and len(replicas()) == 3)
    wait_until(lambda: handle.remote().result() == sorted(replicas())[0])


def test_another_class_restarts_nothing(web: Web, wait_until: Wait) -> None:
    handle = run(Ranks)
    before = sorted(replicas())
    assert handle.remote(2).result() == before[0]
    run(ByNumber)
    assert sorted(replicas()) == before
    assert handle.remote(2).result() == before[2]
    serve.run(deployed(ByNumber).options(request_router_config={}).bind(), route_prefix=None)
    assert handle.remote("no number").result() in before


def test_classes_that_are_ready(web: Web) -> None:
    """Once a credit of each replica is here, they choose as they say."""
    handle = run(RoundRobinRouter)
    names = sorted(replicas())
    in_turn = dict.fromkeys(names, 3)
    wait_for(lambda: Counter(handle.remote().result() for _ in range(9)) == in_turn, "equal turns")

    def homes() -> list[set[str]]:
        return [
            {handle.options(session_id=f"user {number}").remote().result() for _ in range(5)}
            for number in range(12)
        ]

    run(ConsistentHashRouter, {"num_fallback_replicas": 0})
    assert all(len(one) == 1 for one in homes())
    assert set.union(*homes()) == {*names}

    run(PowerOfTwoChoicesRequestRouter)
    wait_for(lambda: {handle.remote().result() for _ in range(60)} == {*names}, "calls of all")


class Mixed(FIFOMixin, MultiplexMixin, LocalityMixin, RequestRouter):
    """What Ray's documentation does with the mixins."""

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        assert pending_request is not None
        near = self.rank_replicas_via_locality(candidate_replicas)
        assert near == [candidate_replicas, [], []]
        assert self.apply_locality_routing(pending_request) == {one.replica_id for one in candidate_replicas}
        free = self.select_available_replicas(candidate_replicas)
        lengths = await asyncio.gather(*(one.get_queue_len() for one in candidate_replicas))
        shortest = min(range(len(lengths)), key=lengths.__getitem__)
        return [free, [candidate_replicas[shortest]]]


def test_mixins_and_lengths(web: Web) -> None:
    handle = run(Mixed)
    assert {one.result() for one in [handle.remote() for _ in range(20)]} <= {*replicas()}


def test_the_configuration_is_checked() -> None:
    with pytest.raises(ValidationError, match="request_router_class"):
        RequestRouterConfig(request_router_class=5)  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="max_backoff_s"):
        RequestRouterConfig(max_backoff_s=0)
    with pytest.raises(ValidationError, match="JSON"):
        RequestRouterConfig(request_router_kwargs={"a": object()})
    with pytest.raises(TypeError, match="request_router_config takes"):
        serve.deployment(request_router_config=5)(Model)
    assert RequestRouterConfig().is_default_request_router()
    path = "skate.serve.experimental.round_robin_router:RoundRobinRouter"
    for one in (path, path.replace(":", "."), RoundRobinRouter):
        config = RequestRouterConfig(request_router_class=one)
        assert config.get_request_router_class() is RoundRobinRouter
        assert not config.is_default_request_router()
