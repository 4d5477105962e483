"""Requests that threads send themselves, by tickets: they lose nothing, and use no credit up."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

import skate
from skate import serve
from skate.exceptions import ActorDiedError
from skate.serve._client.call import Call
from skate.serve._client.tickets import Tickets
from skate.serve._router import router as routing
from skate.serve._router.forecast import Forecast
from skate.serve.context import RequestContext
from skate.serve.exceptions import RequestCancelledError
from skate.serve.handle import DeploymentHandle

from .conftest import Web

Wait = Callable[[Callable[[], object]], None]
pytestmark = pytest.mark.time_limit(120)

SLOTS = 4


# ---------------------------------------------------------------------- tickets alone


class Owner:
    """A port whose replicas are functions."""

    router_id = "me"

    def __init__(self, **credits: int) -> None:
        self.router, self.forecast = routing.Router(), Forecast()
        self.is_plain = True
        self.tickets = Tickets(self, asyncio.get_running_loop())
        self.sent: list[routing.Command] = []
        self.deaths: list[str] = []
        self.counted = 0
        self.router.table_changed(credits)
        self.router.submitted("first")
        for name, count in credits.items():
            self.router.answered(name, 1, count, 0)
        self.router.ended("first", True)
        for _ in range(sum(credits.values())):
            assert not self.tickets.send(call())  # a thread wants one from now on
        self.perform([])

    def perform(self, commands: list[routing.Command]) -> None:
        self.sent += [command for command in commands if isinstance(command, routing.Send)]
        self.tickets.renew()

    def method(self, replica: str) -> Callable[..., Any]:
        return lambda meta, *args: f"{replica}: {args[0]()}"

    def count(self, requests: int) -> None:
        self.counted += requests

    def died(self, call: Call, replica: str, error: BaseException) -> None:
        self.deaths.append(replica)
        self.perform(self.tickets.collect() + self.router.replica_gone(replica))


def call(does: Callable[[], object] = str) -> Call:
    return Call("__call__", (does,), {}, RequestContext("id"))


def test_a_thread_that_is_about_to_send_holds_an_update_up() -> None:
    """Else the replica could end before the request is there."""
    begun, go = threading.Event(), threading.Event()

    def slow() -> str:
        begun.set()
        assert go.wait(60)
        return "sent"

    async def main() -> None:
        owner = Owner(a=1)
        tickets, request = owner.tickets, call(slow)
        sending = asyncio.create_task(asyncio.to_thread(tickets.send, request))
        await asyncio.to_thread(begun.wait, 60)
        owner.router.table_changed({"b": 1})
        ready = tickets.replicas_changed()
        assert ready is not None
        assert not ready.done()
        go.set()
        assert await sending
        await asyncio.wait_for(ready, 60)
        assert request.ref == "a: sent"
        assert tickets.replicas_changed() is None  # it is on its way
        assert owner.router.knows("a")
        tickets.ended(request, 1, None)
        await asyncio.sleep(0)
        assert not owner.router.knows("a")

    asyncio.run(main())


def test_nothing_goes_to_a_replica_that_left_the_table() -> None:
    async def main() -> None:
        owner = Owner(a=2)
        assert owner.tickets.send(call())
        owner.router.table_changed({})
        assert owner.tickets.replicas_changed() is None
        assert not owner.tickets.send(call())

    asyncio.run(main())


def test_what_waits_goes_before_what_threads_send() -> None:
    async def main() -> None:
        owner = Owner(a=1)
        request = call()
        assert owner.tickets.send(request)
        owner.perform(owner.tickets.collect() + owner.router.submitted("waits"))
        owner.tickets.ended(request, 1, None)
        assert not owner.tickets.send(call())
        await asyncio.sleep(0)
        assert owner.sent == [routing.Send("waits", "a")]
        assert not owner.tickets.send(call())
        owner.perform(owner.router.ended("waits", True))
        assert owner.tickets.send(call())

    asyncio.run(main())


def test_requests_go_where_the_router_would_send_them() -> None:
    """To the replica that has the fewest from here, and among equals always to the same one."""

    async def main() -> None:
        owner = Owner(a=2, b=2)

        def send() -> Call:
            request = call()
            assert owner.tickets.send(request)
            return request

        for _ in range(3):
            first, second = send(), send()
            assert (first.ticket.replica, second.ticket.replica) == ("a", "b")
            owner.tickets.ended(second, 1, None)
            third = send()
            assert third.ticket.replica == "b"
            owner.tickets.ended(third, 1, None)
            owner.tickets.ended(first, 1, None)
        assert [owner.tickets.send(call()) for _ in range(5)] == [True] * 4 + [False]

    asyncio.run(main())


def test_an_outcome_comes_once() -> None:
    """The loop and a thread may both wait for it."""

    async def main() -> None:
        owner = Owner(a=1)
        request, found = call(), list[object]()
        assert owner.tickets.send(request)
        request.is_watched = True
        request.when_finished(lambda one: found.append(one.value))
        await asyncio.gather(
            *(asyncio.to_thread(owner.tickets.ended, request, number, None) for number in range(8))
        )
        await asyncio.sleep(0)
        assert found == [request.value]
        owner.tickets.collect()
        assert owner.counted == 1
        assert owner.router.credits == 1

    asyncio.run(main())


def test_a_death_is_dealt_with_once() -> None:
    async def main() -> None:
        owner = Owner(a=2, b=1)
        lost = call()
        assert owner.tickets.send(lost)
        where = lost.ticket.replica
        for _ in range(2):
            owner.tickets.ended(lost, None, ActorDiedError("it is gone"))
        await asyncio.sleep(0)
        assert owner.deaths == [where]
        assert not lost.finished
        others = []
        while owner.tickets.send(one := call()):
            others.append(one)
        assert {one.ticket.replica for one in others} == {"a", "b"} - {where}

    asyncio.run(main())


# ---------------------------------------------------------------------- with replicas


@serve.deployment(max_ongoing_requests=SLOTS)
class Counting:
    """Answers with its version."""

    def __init__(self, version: int) -> None:
        self.version = version
        self.there = 0
        self.all_there = asyncio.Event()

    async def __call__(self, value: Any = None) -> tuple[int, Any]:
        return self.version, value

    async def meets(self) -> int:
        """Return once all slots are in use."""
        self.there += 1
        if self.there == SLOTS:
            self.all_there.set()
        await self.all_there.wait()
        return self.there

    async def hangs(self) -> None:
        await asyncio.Event().wait()

    async def raises(self) -> None:
        raise KeyError("not there")

    async def pid(self) -> int:
        return os.getpid()


def run(version: int, **options: Any) -> DeploymentHandle:
    return serve.run(Counting.options(**options).bind(version), route_prefix=None)


class Callers:
    """Threads that call a handle one request after the other."""

    def __init__(self, handle: DeploymentHandle, count: int) -> None:
        self.answers: list[int] = []
        self.errors: list[BaseException] = []
        self._handle = handle
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(one,)) for one in range(count)]

    def _call(self, number: int) -> None:
        value = number
        while not self._over.is_set():
            value += 100
            try:
                version, found = self._handle.remote(value).result(timeout_s=60)
                assert found == value
                self.answers.append(version)
            except BaseException as error:
                self.errors.append(error)

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


def assert_all_slots_are_free(handle: DeploymentHandle) -> None:
    """No credit was lost: as many requests run at a time as there are slots."""
    responses = [handle.meets.remote() for _ in range(SLOTS)]
    assert [one.result(timeout_s=60) for one in responses] == [SLOTS] * SLOTS


@pytest.mark.parametrize("threads", [2, 3 * SLOTS])
def test_updates_under_the_calls_of_many_threads_lose_nothing(
    web: Web, wait_until: Wait, threads: int
) -> None:
    with Callers(run(0), threads) as callers:
        for version in range(1, 5):
            wait_until(lambda: callers.answers.count(version - 1) > 50)  # noqa: B023
            run(version)
        wait_until(lambda: callers.answers.count(4) > 50)
    assert callers.errors == []
    assert {*callers.answers} == {0, 1, 2, 3, 4}
    assert_all_slots_are_free(serve.get_app_handle("default"))


def test_requests_of_threads_go_to_another_replica_if_theirs_dies(web: Web, wait_until: Wait) -> None:
    handle = run(0, num_replicas=2, idempotent=True, health_check_period_s=0.05)
    with Callers(handle, 3) as callers:
        wait_until(lambda: len(callers.answers) > 50)
        os.kill(handle.pid.remote().result(), signal.SIGKILL)
        seen = len(callers.answers)
        wait_until(lambda: len(callers.answers) > seen + 100)
    assert callers.errors == []


def test_results_that_nobody_asks_for_use_no_credit_up(web: Web) -> None:
    handle = run(0)
    for _ in range(3):
        for _ in range(2 * SLOTS):
            handle.remote()
        assert handle.remote("last").result(timeout_s=60) == (0, "last")
    assert_all_slots_are_free(handle)


def test_errors_and_cancelled_requests_use_no_credit_up(web: Web) -> None:
    handle = run(0)
    for _ in range(2 * SLOTS):
        with pytest.raises(KeyError, match="not there"):
            handle.raises.remote().result()
        with pytest.raises(TypeError, match="lock"):
            handle.remote(threading.Lock()).result()
        hanging = handle.hangs.remote()
        hanging.cancel()
        with pytest.raises(RequestCancelledError):
            hanging.result(timeout_s=60)
    assert_all_slots_are_free(handle)


def test_one_result_for_several_readers(web: Web) -> None:
    handle = run(0)
    handle.remote().result()

    async def on_a_loop() -> list[Any]:
        one = handle.remote([1])
        return await asyncio.gather(*(_awaited(one) for _ in range(3)))

    for _ in range(20):
        assert asyncio.run(on_a_loop()) == [(0, [1])] * 3
        inner = handle.remote(2)
        outer = handle.remote(inner)
        assert outer.result(timeout_s=60) == (0, (0, 2))
        assert inner.result() == (0, 2)
        assert skate.get(handle.remote(3)._to_object_ref_sync()) == (0, 3)
    assert_all_slots_are_free(handle)


async def _awaited(response: Any) -> Any:
    return await response
