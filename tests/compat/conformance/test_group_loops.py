"""Concurrency groups of async actors: each has a loop and a thread of its own."""

from __future__ import annotations

import asyncio
import threading

import pytest
import ray
from ray.exceptions import RayActorError, RayTaskError, TaskCancelledError

from compat.conformance.helpers import Gate, differs, until

pytestmark = pytest.mark.usefixtures("session")

#: Longer than any test may take (seconds).
LONG = 100


@ray.remote(concurrency_groups={"io": 1, "cpu": 2})
class Grouped:
    def __init__(self, gate=None):
        if gate is not None:
            ray.get(gate.wait.remote())
        self.constructed = True
        self.event = threading.Event()
        self.blocked = threading.Event()
        self.inside = 0

    @ray.method(concurrency_group="io")
    async def io_blocks(self):
        self.blocked.set()
        return self.event.wait(LONG)

    async def blocks(self):
        self.blocked.set()
        return self.event.wait(LONG)

    @ray.method(concurrency_group="cpu")
    async def is_blocked(self):
        return self.blocked.is_set()

    @ray.method(concurrency_group="cpu")
    def release(self):
        self.event.set()
        return self.constructed

    @ray.method(concurrency_group="io")
    async def io_place(self):
        return threading.get_ident(), id(asyncio.get_running_loop())

    @ray.method(concurrency_group="cpu")
    async def cpu_place(self):
        return threading.get_ident(), id(asyncio.get_running_loop())

    async def place(self):
        return threading.get_ident(), id(asyncio.get_running_loop())

    @ray.method(concurrency_group="io")
    async def io_waits(self):
        self.inside += 1
        await asyncio.sleep(LONG)

    async def count(self):
        return self.inside

    @ray.method(concurrency_group="io")
    async def io_gets(self, inside):
        return [await ref for ref in inside]

    @ray.method(concurrency_group="io")
    async def io_yields(self, count):
        for number in range(count):
            yield number, threading.get_ident()
            await asyncio.sleep(0)

    @ray.method(concurrency_group="io")
    async def io_raises(self):
        raise ValueError("of io")

    @ray.method(concurrency_group="io")
    async def io_names(self):
        context = ray.get_runtime_context()
        await asyncio.sleep(0)
        return context.get_task_name(), context.get_actor_id()

    @ray.method(concurrency_group="io")
    async def io_exits(self):
        ray.actor.exit_actor()


def test_a_coroutine_that_blocks_its_group_blocks_no_other() -> None:
    actor = Grouped.remote()
    blocked = actor.io_blocks.remote()
    until(lambda: ray.get(actor.is_blocked.remote()))
    assert ray.get(actor.count.remote()) == 0
    assert ray.get(actor.release.remote())
    assert ray.get(blocked) is True


def test_a_coroutine_of_no_group_that_blocks_does_not_block_groups() -> None:
    actor = Grouped.remote()
    blocked = actor.blocks.remote()
    until(lambda: ray.get(actor.is_blocked.remote()))
    assert ray.get(actor.io_gets.remote([ray.put(1)])) == [1]
    ray.get(actor.release.remote())
    assert ray.get(blocked) is True


def test_each_group_has_a_loop_and_a_thread_which_its_calls_share() -> None:
    actor = Grouped.remote()
    methods = [actor.io_place, actor.cpu_place, actor.place]
    places = [ray.get(method.remote()) for method in methods]
    assert len({thread for thread, _ in places}) == len({loop for _, loop in places}) == 3
    assert [ray.get(method.remote()) for method in methods] == places


def test_a_group_chosen_by_a_call_is_where_it_runs() -> None:
    actor = Grouped.remote()
    assert ray.get(actor.place.options(concurrency_group="io").remote()) == ray.get(actor.io_place.remote())


def test_no_call_of_a_group_begins_before_the_constructor_has_ended() -> None:
    gate = Gate.remote()
    actor = Grouped.remote(gate)
    calls = [actor.release.remote(), actor.io_gets.remote([ray.put(2)])]
    ray.get(gate.until_arrived.remote())
    assert ray.wait(calls, timeout=0)[0] == []
    ray.get(gate.open.remote())
    assert ray.get(calls) == [True, [2]]


@differs(
    on="ray",
    before="2.60",
    reason="Ray 2.50 does not cancel a coroutine that runs in a concurrency group: it ends by itself.",
    run=False,
)
def test_cancelling_in_a_group_reaches_its_coroutine_and_what_waits_behind_it() -> None:
    actor = Grouped.remote()
    running, queued = actor.io_waits.remote(), actor.io_waits.remote()
    until(lambda: ray.get(actor.count.remote()) == 1)
    ray.cancel(queued)
    with pytest.raises(TaskCancelledError):
        ray.get(queued)
    ray.cancel(running)
    with pytest.raises(TaskCancelledError):
        ray.get(running)


def test_generators_exceptions_and_the_context_in_a_group() -> None:
    actor = Grouped.remote()
    thread, _ = ray.get(actor.io_place.remote())
    items = [ray.get(ref) for ref in actor.io_yields.remote(3)]
    assert items == [(0, thread), (1, thread), (2, thread)]
    with pytest.raises(ValueError, match="of io") as raised:
        ray.get(actor.io_raises.remote())
    assert isinstance(raised.value, RayTaskError)
    name, actor_id = ray.get(actor.io_names.remote())
    assert name == "Grouped.io_names"
    assert actor_id == actor._actor_id.hex()


def test_groups_answer_many_calls_at_once() -> None:
    actor = Grouped.remote()
    refs = [method.remote() for _ in range(200) for method in (actor.io_place, actor.cpu_place, actor.place)]
    assert len(set(ray.get(refs))) == 3


def test_exit_actor_in_a_group() -> None:
    actor = Grouped.remote()
    with pytest.raises(RayActorError):
        ray.get(actor.io_exits.remote())
    with pytest.raises(RayActorError):
        ray.get(actor.place.remote())


# ---------------------------------------------------------------------- groups by name


@ray.remote
class Serial:
    def answer(self):
        return 1


@ray.remote
class Async:
    async def answer(self):
        return 1


@ray.remote(concurrency_groups={"io": 1})
class WithGroups:
    def answer(self):
        return 1


@pytest.mark.parametrize("cls", [Serial, Async, Serial.options(max_concurrency=2), WithGroups])
def test_the_system_group_is_there_in_every_actor(cls: object) -> None:
    actor = cls.remote()
    assert ray.get(actor.answer.options(concurrency_group="_ray_system").remote()) == 1
    assert ray.get(actor.answer.remote()) == 1


@pytest.mark.parametrize("cls", [Serial, Async, WithGroups])
def test_a_group_that_the_actor_does_not_have_is_an_error(cls: object) -> None:
    actor = cls.remote()
    with pytest.raises((ValueError, RayActorError)):
        ray.get(actor.answer.options(concurrency_group="nowhere").remote())
