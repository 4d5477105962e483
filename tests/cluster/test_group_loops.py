"""Loops of concurrency groups, where they are skate's own business. (The rest: the conformance suite.)"""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Any

import pytest

import skate
from skate.api import RayContext as Session
from skate.exceptions import ActorDiedError, TaskCancelledError

from .waiting import wait_for

#: Longer than any test may take (seconds).
LONG = 100


@skate.remote(concurrency_groups={"io": 1, "other": 1})
class Grouped:
    def __init__(self) -> None:
        self.blocked = threading.Event()
        self.inside = 0
        self.caught = 0
        self.kept: Any = None

    async def blocks(self) -> None:
        self.blocked.set()
        threading.Event().wait(LONG)

    async def count(self) -> tuple[int, int]:
        return self.inside, self.caught

    async def pid(self) -> int:
        return os.getpid()

    @skate.method(concurrency_group="other")
    async def is_blocked(self) -> bool:
        return self.blocked.is_set()

    @skate.method(concurrency_group="other")
    async def threads(self) -> list[str]:
        return sorted(one.name for one in threading.enumerate() if one.name.startswith("skate-group"))

    @skate.method(concurrency_group="io")
    async def waits(self) -> None:
        self.inside += 1
        try:
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            self.caught += 1
            raise

    @skate.method(concurrency_group="io")
    async def echo(self, value: Any) -> Any:
        return value

    @skate.method(concurrency_group="io")
    async def exits(self) -> None:
        skate.actor.exit_actor()

    @skate.method(concurrency_group="io")
    async def a_task_raises(self, error: BaseException) -> str:
        async def task() -> None:
            raise error

        self.kept = asyncio.get_running_loop().create_task(task())
        await asyncio.sleep(0)
        return "answered"


def test_a_cancelled_coroutine_of_a_group_leaves_its_place_to_the_next(session: Session) -> None:
    actor = Grouped.remote()
    running, queued, last = actor.waits.remote(), actor.waits.remote(), actor.echo.remote("last")
    wait_for(lambda: skate.get(actor.count.remote()) == (1, 0), "the first")
    for cancelled in (queued, running):
        skate.cancel(cancelled)
        with pytest.raises(TaskCancelledError):
            skate.get(cancelled)
    assert skate.get(last) == "last"
    assert skate.get(actor.count.remote()) == (1, 1)


def test_threads_start_at_the_first_call_of_their_group(session: Session) -> None:
    actor = Grouped.remote()
    assert skate.get(actor.threads.remote()) == ["skate-group-other"]
    skate.get(actor.echo.remote(1))
    assert skate.get(actor.threads.remote()) == ["skate-group-io", "skate-group-other"]


def test_exit_actor_in_a_group_while_a_coroutine_of_no_group_blocks(session: Session) -> None:
    actor = Grouped.remote()
    blocked = actor.blocks.remote()
    wait_for(lambda: skate.get(actor.is_blocked.remote()), "the blocking call")
    with pytest.raises(ActorDiedError, match="exit_actor"):
        skate.get(actor.exits.remote())
    with pytest.raises(ActorDiedError, match="exit_actor"):
        skate.get(blocked)


def test_a_task_that_a_method_made_does_not_end_the_loop_of_its_group(session: Session) -> None:
    actor = Grouped.remote()
    assert skate.get(actor.a_task_raises.remote(KeyboardInterrupt())) == "answered"
    assert skate.get(actor.echo.remote("goes on")) == "goes on"
    actor.a_task_raises.remote(SystemExit(0))
    with pytest.raises(ActorDiedError):
        for _ in range(1000):
            skate.get(actor.echo.remote(1))


def test_many_calls_to_all_groups_from_several_processes(session: Session) -> None:
    actor = Grouped.remote()

    @skate.remote(num_cpus=0)
    def calls(handle: Any, number: int) -> int:
        refs = [handle.echo.remote(i) for i in range(number)]
        others = [handle.is_blocked.remote() for _ in range(number)]
        more = [handle.count.remote() for _ in range(number)]
        assert not any(skate.get(others))
        assert skate.get(more) == [(0, 0)] * number
        return sum(skate.get(refs))

    assert skate.get([calls.remote(actor, 200) for _ in range(3)]) == [sum(range(200))] * 3
