"""Actors that run several calls at a time: async, threaded, in concurrency groups."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from typing import Any

import numpy as np
import pytest

import skate
from skate.api import RayContext as Session
from skate.exceptions import ActorDiedError, RayTaskError

from .waiting import wait_for


@skate.remote
class Async:
    """Methods interleave on one loop."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.event = asyncio.Event()
        self.active = self.most = 0
        self.kept: Any = None

    async def wait(self) -> str:
        await self.event.wait()
        return "woken"

    async def set(self) -> None:
        self.event.set()

    async def same(self, value: Any) -> Any:
        return value

    async def call(self, other: Any, value: Any) -> Any:
        return await other.same.remote(value)

    async def fail(self) -> None:
        await asyncio.sleep(0)
        raise KeyError("async")

    async def crowd(self, size: int) -> int:
        self.active += 1
        self.most = max(self.most, self.active)
        if self.active == size:
            self.event.set()
        await self.event.wait()
        self.active -= 1
        return self.most

    async def keep(self, refs: list[Any]) -> None:
        self.kept = refs

    async def read(self) -> Any:
        return await self.kept[0]

    async def leave(self) -> None:
        skate.actor.exit_actor()

    async def name(self) -> str | None:
        await asyncio.sleep(0)
        return skate.get_runtime_context().get_task_name()

    def plain(self) -> bool:
        return threading.current_thread() is threading.main_thread()

    async def crash(self) -> None:
        os._exit(3)


def test_methods_interleave(session: Session) -> None:
    actor = Async.remote()
    waiting = [actor.wait.remote() for _ in range(20)]
    assert skate.wait(waiting, timeout=0)[0] == []
    skate.get(actor.set.remote())
    assert skate.get(waiting) == ["woken"] * 20


def test_a_thousand_at_a_time_by_default_and_no_more_than_asked_for(session: Session) -> None:
    actor = Async.remote()
    assert max(skate.get([actor.crowd.remote(1000) for _ in range(1000)])) == 1000
    narrow = Async.options(max_concurrency=3).remote()
    assert max(skate.get([narrow.crowd.remote(3) for _ in range(30)])) == 3


def test_awaiting_other_actors_and_tasks(session: Session) -> None:
    first, second = Async.remote(), Async.remote()
    assert skate.get([first.call.remote(second, i) for i in range(100)]) == list(range(100))


@skate.remote
class CalledBack:
    """Is called back with the values of refs."""

    async def run(self, other: Any) -> Any:
        loop, found = asyncio.get_running_loop(), list[Any]()
        loop.set_exception_handler(lambda _, context: found.append(repr(context["exception"])))
        over = asyncio.Event()

        def fails(value: Any, error: BaseException | None) -> None:
            raise KeyError("a bug of the callback")

        def ends(value: Any, error: BaseException | None) -> None:
            found.append(type(error).__name__)
            over.set()

        one = other.same.remote(1)
        one._call_back(fails)
        one._call_back(lambda value, error: found.append((value, error)))
        other.fail.remote()._call_back(ends)
        await over.wait()
        at_once, later = list[Any](), list[Any]()
        at_once.append(one._call_back(lambda value, error: later.append(value)))
        at_once += later
        await asyncio.sleep(0)
        return found, at_once, later


def test_callbacks_of_refs_on_a_loop(session: Session) -> None:
    """One that raises keeps nothing from the others; of a value that is there it is called soon."""
    found, at_once, later = skate.get(CalledBack.remote().run.remote(Async.remote()))
    assert found[:2] == ["KeyError('a bug of the callback')", (1, None)]
    assert "RayTaskError" in found[2]
    assert at_once == [None]
    assert later == [1]


def test_errors_and_plain_methods_of_async_actors(session: Session) -> None:
    actor = Async.remote()
    with pytest.raises(KeyError) as caught:
        skate.get(actor.fail.remote())
    assert isinstance(caught.value, RayTaskError)
    assert "in fail" in str(caught.value)
    assert skate.get(actor.plain.remote()) is True
    assert skate.get([actor.name.remote(), actor.same.remote(1)]) == ["Async.name", 1]


def test_a_coroutine_that_blocks_its_loop_is_warned_of(
    session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    @skate.remote
    def slow_square(x: int) -> int:
        time.sleep(0.02)
        return x * x

    @skate.remote
    class Blocks:
        async def method(self) -> int:
            return skate.get(slow_square.remote(2)) + skate.get(slow_square.remote(3))

    assert skate.get(Blocks.remote().method.remote()) == 13
    said = ""

    def warned() -> bool:
        nonlocal said
        said += capsys.readouterr().err
        return said.endswith("instead.\n")

    wait_for(warned, "the warning")
    assert said.count("waits in get() or wait() on its event loop, in Blocks.method") == 1


@skate.remote
class Blocking:
    """Calls another actor, and blocks its own loop until that has run."""

    async def call(self, other: Any, path: str) -> bool:
        other.touch.remote(path)
        while not os.path.exists(path):
            time.sleep(0.001)
        return True

    async def nothing(self) -> None:
        pass

    async def keep(self, value: Any) -> list[Any]:
        return [skate.put(value)]

    async def block(self, path: str) -> None:
        while not os.path.exists(path):
            time.sleep(0.001)


@skate.remote
class Toucher:
    def touch(self, path: str) -> None:
        open(path, "w").close()


@pytest.mark.parametrize("traffic", [True, False])
def test_a_loop_that_is_blocked_after_a_call_sends_it(session: Session, tmp_path: Any, traffic: bool) -> None:
    blocking, toucher = Blocking.remote(), Toucher.remote()
    skate.get([blocking.nothing.remote(), toucher.touch.remote(str(tmp_path / "first"))])
    for number in range(3):
        if traffic:
            skate.get([blocking.nothing.remote() for _ in range(100)])
        assert skate.get(blocking.call.remote(toucher, str(tmp_path / str(number))))


def test_a_loop_that_is_blocked_hands_out_its_objects(session: Session, tmp_path: Any) -> None:
    blocking, path = Blocking.remote(), str(tmp_path / "path")
    (ref,) = skate.get(blocking.keep.remote([1, 2]))
    blocked = blocking.block.remote(path)
    assert skate.get(ref) == [1, 2]
    open(path, "w").close()
    skate.get(blocked)


def test_large_values_and_refs_in_async_actors(session: Session) -> None:
    actor = Async.remote()
    array = np.arange(300_000)
    assert (skate.get(actor.same.remote(array)) == array).all()
    skate.get(actor.keep.remote([skate.put(array)]))
    assert (skate.get(actor.read.remote()) == array).all()


def test_an_async_actor_ends(session: Session) -> None:
    actor = Async.remote()
    with pytest.raises(ActorDiedError, match=r"exit_actor\(\) was called"):
        skate.get(actor.leave.remote())
    other = Async.options(max_restarts=1, max_task_retries=0).remote()
    with pytest.raises(skate.exceptions.RayActorError, match="exited with code 3"):
        skate.get(other.crash.remote())
    assert skate.get(other.same.remote(5)) == 5


def test_an_asyncio_driver(session: Session) -> None:
    actor = Async.remote()

    async def main() -> list[Any]:
        return await asyncio.gather(*[actor.same.remote(i) for i in range(3000)])

    assert asyncio.run(main()) == list(range(3000))


@skate.remote(max_concurrency=4)
class Threaded:
    """Calls run on threads."""

    def __init__(self) -> None:
        self.barrier = threading.Barrier(4)

    def meet(self) -> int:
        return self.barrier.wait()

    def same(self, value: Any) -> Any:
        return value

    def fail(self) -> None:
        raise ValueError("in a thread")

    def nested(self, other: Any, value: Any) -> Any:
        return skate.get(other.same.remote(value))


def test_threads(session: Session) -> None:
    actor = Threaded.remote()
    assert sorted(skate.get([actor.meet.remote() for _ in range(8)])) == [0, 0, 1, 1, 2, 2, 3, 3]
    with pytest.raises(ValueError, match="in a thread"):
        skate.get(actor.fail.remote())
    other = Threaded.remote()
    assert skate.get([actor.nested.remote(other, i) for i in range(50)]) == list(range(50))


def test_a_threaded_actor_can_be_called_by_itself(session: Session) -> None:
    actor = Threaded.remote()
    assert skate.get(actor.nested.remote(actor, 7)) == 7


@skate.remote(concurrency_groups={"io": 2, "one": 1})
class Grouped:
    """Two groups and the default."""

    def __init__(self) -> None:
        self.active: dict[str, int] = {}
        self.most: dict[str, int] = {}

    async def _in(self, group: str) -> int:
        self.active[group] = self.active.get(group, 0) + 1
        self.most[group] = max(self.most.get(group, 0), self.active[group])
        for _ in range(5):
            await asyncio.sleep(0)
        self.active[group] -= 1
        return self.most[group]

    @skate.method(concurrency_group="io")
    async def io(self) -> int:
        return await self._in("io")

    async def free(self, group: str) -> int:
        return await self._in(group)


def test_concurrency_groups(session: Session) -> None:
    actor = Grouped.remote()
    assert max(skate.get([actor.io.remote() for _ in range(20)])) == 2
    assert max(skate.get([actor.free.remote("default") for _ in range(20)])) > 2
    assert max(skate.get([actor.free.options(concurrency_group="one").remote("one") for _ in range(20)])) == 1


def test_a_group_that_is_not_defined_is_refused() -> None:
    class Wrong:
        @skate.method(concurrency_group="nowhere")
        def work(self) -> None: ...

    with pytest.raises(ValueError, match="'nowhere'"):
        skate.remote(Wrong)
    with pytest.raises(ValueError, match="positive integer"):
        Threaded.options(max_concurrency=0)


@skate.remote(concurrency_groups={"io": 2})
class OneGroup:
    def answer(self) -> int:
        return 42


@skate.remote(concurrency_groups={"io": 2})
class AsyncGrouped:
    async def answer(self) -> int:
        return 42


@pytest.mark.parametrize("kind", [OneGroup, AsyncGrouped])
def test_a_group_that_there_is_not(session: Session, kind: Any) -> None:
    actor = kind.remote()
    with pytest.raises(ValueError, match="group 'nobody'.*it has: io"):
        skate.get(actor.answer.options(concurrency_group="nobody").remote())
    assert skate.get(actor.answer.options(concurrency_group="io").remote()) == 42
