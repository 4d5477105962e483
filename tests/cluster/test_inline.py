"""The in-process mode, as its users see it: the same answers, in this process, in one order."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import warnings
import weakref
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skate
from skate._worker.process import current
from skate.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    DeadlockError,
    GetTimeoutError,
    PendingCallsLimitExceeded,
    RayTaskError,
    TaskCancelledError,
    TaskKilledError,
)

from . import processes
from .waiting import wait_for


@pytest.fixture
def inline(leak_check: None) -> Iterator[None]:
    skate.init(mode="inline", num_cpus=2)
    yield


@skate.remote
class Record:
    """What happened, in its order."""

    def __init__(self) -> None:
        self.items: list[Any] = []

    def add(self, item: Any) -> None:
        self.items.append(item)

    def all(self) -> list[Any]:
        return self.items


@skate.remote
class Gate:
    def __init__(self) -> None:
        self.opened = asyncio.Event()

    async def wait(self) -> str:
        await self.opened.wait()
        return "open"

    async def open(self) -> None:
        self.opened.set()


@skate.remote
def echo(value: Any) -> Any:
    return value


def all_of(record: Any) -> list[Any]:
    found: list[Any] = skate.get(record.all.remote())
    return found


# ---------------------------------------------------------------------- where and when


def test_nothing_but_this_process(inline: None) -> None:
    @skate.remote
    def where() -> tuple[int, str]:
        return os.getpid(), threading.current_thread().name

    assert skate.get(where.remote()) == (os.getpid(), "skate-inline")
    assert processes.of_driver(os.getpid()) == {}


def test_a_call_runs_when_it_is_made(inline: None) -> None:
    record = Record.remote()

    @skate.remote
    def outer() -> None:
        record.add.remote("outer begins")
        inner.remote()
        record.add.remote("outer ends")

    @skate.remote
    def inner() -> None:
        record.add.remote("inner")

    record.add.remote("before")
    outer.remote()
    record.add.remote("after")
    # Nobody waited for any of them.
    assert current.process.core is not None
    assert all_of(record) == ["before", "outer begins", "inner", "outer ends", "after"]


def test_what_waits_lets_others_go_on(inline: None) -> None:
    record, gate = Record.remote(), Gate.remote()

    @skate.remote
    def waits(name: str) -> str:
        record.add.remote(f"{name} waits")
        skate.get(gate.wait.remote())
        record.add.remote(f"{name} goes on")
        return name

    refs = [waits.remote("a"), waits.remote("b")]
    record.add.remote("driver")
    assert skate.wait(refs, num_returns=2, timeout=0) == ([], refs)
    with pytest.raises(GetTimeoutError, match="2 of 2"):
        skate.get(refs, timeout=0)
    gate.open.remote()
    assert skate.get(refs) == ["a", "b"]
    items = all_of(record)
    assert items[:3] == ["a waits", "b waits", "driver"]
    assert sorted(items[3:]) == ["a goes on", "b goes on"]


def test_a_consumer_before_its_producer(inline: None) -> None:
    from skate.util.queue import Queue

    queue = Queue(maxsize=2)

    @skate.remote
    def consume() -> list[int]:
        return [queue.get() for _ in range(20)]

    @skate.remote
    def produce() -> None:
        for i in range(20):
            queue.put(i)

    found = consume.remote()
    produce.remote()
    assert skate.get(found) == list(range(20))


def test_a_task_that_waits_in_its_own_way(inline: None) -> None:
    """Nobody can see that it waits for what only its caller will do: its caller goes on all the same."""
    read_end, write_end = os.pipe()

    @skate.remote
    def read() -> bytes:
        return os.read(read_end, 10)

    ref = read.remote()
    os.write(write_end, b"hello")
    assert skate.get(ref) == b"hello"
    os.close(read_end)
    os.close(write_end)


def test_recursion(inline: None) -> None:
    @skate.remote
    def descend(depth: int) -> int:
        return 0 if not depth else 1 + skate.get(descend.remote(depth - 1))

    assert skate.get(descend.remote(200)) == 200


def test_a_chain_and_a_wide_graph(inline: None) -> None:
    gate = Gate.remote()

    @skate.remote
    def first(word: str) -> int:
        return 0

    @skate.remote
    def following(number: int) -> int:
        return number + 1

    ref = first.remote(gate.wait.remote())
    for _ in range(300):
        ref = following.remote(ref)
    wide = [following.remote(ref) for _ in range(100)]
    gate.open.remote()
    assert skate.get(wide) == [301] * 100


def test_threads_of_the_program(inline: None) -> None:
    record = Record.remote()

    def work(which: int) -> None:
        for i in range(50):
            assert skate.get(echo.remote(i)) == i
            record.add.remote(which)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(all_of(record)) == sorted(list(range(4)) * 50)


# ---------------------------------------------------------------------- values


def test_everything_is_a_copy(inline: None) -> None:
    kept: list[Any] = []

    @skate.remote
    def change(items: list[int]) -> list[int]:
        items.append(4)
        kept.append(items)
        return items

    @skate.remote
    class Holder:
        def __init__(self) -> None:
            self.items = [1]

        def get(self) -> list[int]:
            return self.items

    items = [1, 2, 3]
    assert skate.get(change.remote(items)) == [1, 2, 3, 4]
    assert items == [1, 2, 3]
    assert kept == []  # the function has a copy of what it captured
    holder = Holder.remote()
    skate.get(holder.get.remote()).append(2)
    assert skate.get(holder.get.remote()) == [1]
    ref = skate.put(items)
    items.append(4)
    first, second = skate.get([ref, ref])
    assert first == second == [1, 2, 3]
    assert first is not second


def test_arrays_are_read_only(inline: None) -> None:
    @skate.remote
    def write(array: Any) -> None:
        array[0] = 1

    array = np.zeros(100_000)
    for found in (skate.get(skate.put(array)), skate.get(echo.remote(array))):
        with pytest.raises(ValueError, match="read-only"):
            found[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        skate.get(write.remote(array))
    assert array[0] == 0


def test_what_cannot_be_pickled_fails_by_its_path(inline: None) -> None:
    lock = threading.Lock()
    with pytest.raises(TypeError, match=r"argument of echo: args\[0\]\['lock'\] is a _thread.lock"):
        echo.remote({"lock": lock})
    with pytest.raises(TypeError, match=r"put value: value\[1\] is a _thread.lock"):
        skate.put([1, lock])

    @skate.remote
    def captures() -> Any:
        return lock

    with pytest.raises(TypeError, match="the variable 'lock' captured by captures"):
        captures.remote()

    @skate.remote
    def returns() -> Any:
        return threading.Lock()

    with pytest.raises(TypeError, match="cannot return it: the result is a _thread.lock"):
        skate.get(returns.remote())


def test_refs_in_arguments_stay_refs(inline: None) -> None:
    @skate.remote
    def look(value: int, inside: list[Any]) -> tuple[int, str, int]:
        return value, type(inside[0]).__name__, skate.get(inside[0])

    ref = skate.put(5)
    assert skate.get(look.remote(ref, [ref])) == (5, "ObjectRef", 5)

    @skate.remote
    def captured() -> int:
        return skate.get(ref) + 1  # type: ignore[no-any-return]

    assert skate.get(captured.remote()) == 6


def test_a_value_goes_with_its_last_ref(inline: None) -> None:
    core = current.process.core
    assert core is not None
    ref = skate.put(np.ones(100_000))
    name = ref.binary()
    inside = skate.put([ref])
    del ref
    gc.collect()
    assert name in core.refs.entries
    found = skate.get(inside)[0]
    del inside
    gc.collect()
    assert skate.get(found)[0] == 1
    array = weakref.ref(skate.get(found))
    del found
    gc.collect()
    assert array() is None
    assert core.refs.entries == {}


def test_arguments_and_results_are_dropped(inline: None) -> None:
    seen: list[Any] = []

    @skate.remote
    class Keeper:
        def take(self, array: Any) -> None:
            self.last = weakref.ref(array)

        def gone(self) -> bool:
            gc.collect()
            return self.last() is None

    keeper = Keeper.remote()
    skate.get(keeper.take.remote(np.ones(10)))
    assert skate.get(keeper.gone.remote())
    assert seen == []


# ---------------------------------------------------------------------- errors and retries


def test_an_exception_keeps_its_type_and_brings_its_traceback(inline: None) -> None:
    class Own(KeyError):
        def __init__(self, code: int) -> None:
            super().__init__(code)
            self.code = code

    @skate.remote
    def fail() -> None:
        raise Own(7)

    with pytest.raises(KeyError) as caught:
        skate.get(fail.remote())
    assert isinstance(caught.value, RayTaskError)
    assert caught.value.code == 7  # type: ignore[attr-defined]
    assert "in fail" in str(caught.value)
    with pytest.raises(KeyError):
        skate.get(echo.remote(fail.remote()))


def test_retries_after_exceptions(inline: None) -> None:
    record = Record.remote()

    @skate.remote(max_retries=3, retry_exceptions=[ValueError])
    def third_time() -> int:
        record.add.remote("try")
        if len(all_of(record)) < 3:
            raise ValueError("not yet")
        return len(all_of(record))

    @skate.remote(max_retries=3, retry_exceptions=[ValueError])
    def other() -> None:
        record.add.remote("other")
        raise KeyError("no retry for this")

    assert skate.get(third_time.remote()) == 3
    with pytest.raises(KeyError):
        skate.get(other.remote())
    assert all_of(record).count("other") == 1


def test_num_returns(inline: None) -> None:
    @skate.remote(num_returns=2)
    def two() -> tuple[int, int]:
        return 1, 2

    first, second = two.remote()
    assert skate.get([second, first]) == [2, 1]
    assert two.options(num_returns=0).remote() is None
    with pytest.raises(ValueError, match="num_returns=3"):
        skate.get(two.options(num_returns=3).remote())


def test_sys_exit_in_a_task(inline: None) -> None:
    @skate.remote
    def leave() -> None:
        sys.exit(3)

    with pytest.raises(skate.exceptions.WorkerCrashedError, match=r"sys\.exit\(3\) was called in task leave"):
        skate.get(leave.remote())


# ---------------------------------------------------------------------- deadlocks


def test_an_actor_that_waits_for_its_own_later_call(inline: None) -> None:
    @skate.remote
    class Own:
        def outer(self, me: list[Any]) -> Any:
            return skate.get(me[0].inner.remote())

        def inner(self) -> int:
            return 1

    own = Own.remote()
    with pytest.raises(
        DeadlockError, match=r"(?s)Own.outer waits at .*Own.inner is queued behind Own.outer"
    ) as caught:
        skate.get(own.outer.remote([own]))
    assert "test_inline.py" in str(caught.value)
    assert skate.get(own.inner.remote()) == 1


def test_two_actors_in_a_circle(inline: None) -> None:
    @skate.remote
    class Half:
        def ask(self, path: list[Any]) -> Any:
            return skate.get(path[0].ask.remote(path[1:])) if path else "end"

    a, b = Half.remote(), Half.remote()
    assert skate.get(a.ask.remote([b])) == "end"
    with pytest.raises(DeadlockError):
        skate.get(a.ask.remote([b, a]))


def test_a_wait_with_a_timeout_is_no_deadlock(inline: None) -> None:
    @skate.remote
    class Own:
        def outer(self, me: list[Any]) -> str:
            ref = me[0].inner.remote()
            try:
                skate.get(ref, timeout=0.01)
            except GetTimeoutError:
                return "in time"
            return "not reached"

        def inner(self) -> None:
            pass

    own = Own.remote()
    assert skate.get(own.outer.remote([own])) == "in time"


# ---------------------------------------------------------------------- cancel, kill


def test_cancel_what_has_not_begun(inline: None) -> None:
    gate, record = Gate.remote(), Record.remote()

    @skate.remote
    class Busy:
        def hold(self, gate: list[Any]) -> str:
            return skate.get(gate[0].wait.remote())  # type: ignore[no-any-return]

        def note(self, record: Any) -> None:
            record.add.remote("ran")

    busy = Busy.remote()
    held = busy.hold.remote([gate])
    queued, waiting = busy.note.remote(record), echo.remote(held)
    skate.cancel(queued)
    skate.cancel(waiting)
    for ref in (queued, waiting):
        with pytest.raises(TaskCancelledError):
            skate.get(ref)
    gate.open.remote()
    assert skate.get(held) == "open"
    assert all_of(record) == []


@pytest.mark.parametrize("force", [False, True])
def test_cancel_what_waits(inline: None, force: bool) -> None:
    gate, record = Gate.remote(), Record.remote()

    @skate.remote
    def waits() -> None:
        try:
            skate.get(gate.wait.remote())
        except KeyboardInterrupt:
            record.add.remote("interrupted")
            raise

    ref = waits.remote()
    skate.cancel(ref, force=force)
    with pytest.raises(TaskKilledError if force else TaskCancelledError):
        skate.get(ref)
    wait_for(lambda: all_of(record) == ["interrupted"], "the interrupt")


def test_cancel_a_coroutine(inline: None) -> None:
    gate = Gate.remote()
    ref = gate.wait.remote()
    skate.cancel(ref)
    with pytest.raises(TaskCancelledError):
        skate.get(ref)


def test_kill(inline: None) -> None:
    gate = Gate.remote()

    @skate.remote
    class Waits:
        def wait(self, gate: list[Any]) -> None:
            skate.get(gate[0].wait.remote())

    waits = Waits.options(name="waits").remote()
    running, queued = waits.wait.remote([gate]), waits.wait.remote([gate])
    skate.kill(waits)
    for ref in (running, queued, waits.wait.remote([gate])):
        with pytest.raises(ActorDiedError, match=r"killed by `ray\.kill`.*test_inline.py"):
            skate.get(ref)
    with pytest.raises(ValueError, match="no living actor"):
        skate.get_actor("waits")


def test_a_restart(inline: None) -> None:
    gate = Gate.remote()

    @skate.remote(max_restarts=1)
    class Fragile:
        def __init__(self) -> None:
            self.calls = 0
            self.again = skate.get_runtime_context().was_current_actor_reconstructed

        def count(self) -> tuple[int, bool]:
            self.calls += 1
            return self.calls, self.again

        def wait(self, gate: list[Any]) -> None:
            skate.get(gate[0].wait.remote())

    fragile = Fragile.remote()
    assert skate.get([fragile.count.remote(), fragile.count.remote()]) == [(1, False), (2, False)]
    lost, kept = fragile.wait.remote([gate]), fragile.count.remote()
    skate.kill(fragile, no_restart=False)
    with pytest.raises(ActorUnavailableError):
        skate.get(lost)
    assert skate.get(kept) == (1, True)
    skate.kill(fragile, no_restart=False)
    with pytest.raises(ActorDiedError, match="restarted 1 times"):
        skate.get(fragile.count.remote())


def test_exit_actor_and_what_was_done_before(inline: None) -> None:
    @skate.remote
    class Leaves:
        def work(self) -> int:
            return 1

        def leave(self) -> None:
            skate.actor.exit_actor()

    actor = Leaves.remote()
    done, left = actor.work.remote(), actor.leave.remote()
    assert skate.get(done) == 1
    with pytest.raises(ActorDiedError, match=r"exit_actor\(\) was called in Leaves.leave"):
        skate.get(left)
    with pytest.raises(TypeError, match="not an actor"):
        skate.actor.exit_actor()


def test_a_constructor_that_raises(inline: None) -> None:
    @skate.remote
    class Bad:
        def __init__(self) -> None:
            raise RuntimeError("no")

        def call(self) -> None:
            pass

    bad = Bad.remote()
    for _ in range(2):
        with pytest.raises(ActorDiedError, match="RuntimeError: no"):
            skate.get(bad.call.remote())


# ---------------------------------------------------------------------- actors


def test_an_actor_has_a_thread_of_its_own(inline: None) -> None:
    import sqlite3

    @skate.remote
    class Database:
        def __init__(self) -> None:
            self.connection = sqlite3.connect(":memory:")  # refuses to be used on other threads

        def query(self) -> int:
            found: int = self.connection.execute("SELECT 1").fetchone()[0]
            return found

    database = Database.remote()

    @skate.remote
    def ask(database: Any) -> int:
        return skate.get(database.query.remote())  # type: ignore[no-any-return]

    assert skate.get([database.query.remote(), ask.remote(database)]) == [1, 1]


def test_names(inline: None) -> None:
    one = Record.options(name="one").remote()
    with pytest.raises(skate.exceptions.ActorAlreadyExistsError, match="is already taken"):
        Record.options(name="one").remote()
    same = Record.options(name="one", get_if_exists=True).remote()
    assert same == one == skate.get_actor("one")
    Record.options(name="other", namespace="elsewhere", lifetime="detached").remote()
    skate.get_actor("other", namespace="elsewhere").add.remote(1)
    assert all_of(skate.get_actor("other", namespace="elsewhere")) == [1]
    with pytest.raises(ValueError, match="no living actor"):
        skate.get_actor("other")
    assert sorted(found["name"] for found in skate.util.list_named_actors(all_namespaces=True)) == [
        "one",
        "other",
    ]
    skate.kill(skate.get_actor("other", namespace="elsewhere"))


def test_an_actor_ends_with_its_last_handle(inline: None) -> None:
    actor = Record.options(name="short").remote()
    actor.add.remote(1)
    del actor
    gc.collect()
    with pytest.raises(ValueError, match="no living actor"):
        skate.get_actor("short")


def test_pending_calls(inline: None) -> None:
    gate = Gate.options(max_pending_calls=2).remote()
    refs = [gate.wait.remote(), gate.wait.remote()]
    with pytest.raises(PendingCallsLimitExceeded, match="max_pending_calls"):
        gate.wait.remote()
    skate.cancel(refs[0])
    with pytest.raises(TaskCancelledError):
        skate.get(refs[0])
    gate.open.remote()
    assert skate.get(refs[1]) == "open"


def test_async_actors_interleave(inline: None) -> None:
    @skate.remote
    class Async:
        def __init__(self) -> None:
            self.loop = asyncio.get_running_loop()
            self.event = asyncio.Event()
            self.log: list[str] = []

        async def wait(self, name: str) -> list[str]:
            self.log.append(f"{name} waits")
            await self.event.wait()
            self.log.append(f"{name} goes on")
            return self.log

        async def open(self) -> bool:
            self.event.set()
            return asyncio.get_running_loop() is self.loop

        async def other(self, actor: list[Any]) -> str:
            return await actor[0].echo.remote("through")

        async def echo(self, value: Any) -> Any:
            return value

        async def blocks(self, actor: list[Any]) -> Any:
            return skate.get(actor[0].echo.remote("blocking"))  # on its loop

    actor = Async.remote()
    waiting = [actor.wait.remote(name) for name in ("a", "b")]
    assert skate.get(actor.open.remote()) is True
    assert skate.get(waiting[1]) == ["a waits", "b waits", "a goes on", "b goes on"]
    assert skate.get(actor.other.remote([actor])) == "through"
    assert skate.get(actor.blocks.remote([Async.remote()])) == "blocking"


def test_two_async_actors_that_call_each_other(inline: None) -> None:
    @skate.remote
    class Ping:
        async def ping(self, other: list[Any], left: int) -> int:
            if not left:
                return 0
            me = skate.get_runtime_context().current_actor
            return 1 + await other[0].ping.remote([me], left - 1)

    a, b = Ping.remote(), Ping.remote()
    assert skate.get(a.ping.remote([b], 20)) == 20


def test_refs_in_a_loop_of_the_driver(inline: None) -> None:
    gate = Gate.remote()

    async def main() -> list[Any]:
        waiting = asyncio.gather(gate.wait.remote(), echo.remote(1))
        await gate.open.remote()
        return await waiting

    assert asyncio.run(main()) == ["open", 1]
    assert gate.wait.remote().future().result() == "open"


def test_threaded_actors_and_groups(inline: None) -> None:
    @skate.remote(max_concurrency=2, concurrency_groups={"io": 1})
    class Threaded:
        def __init__(self) -> None:
            self.barrier = threading.Barrier(2, timeout=10)

        def meet(self) -> int:
            return self.barrier.wait()

        @skate.method(concurrency_group="io")
        def read(self) -> str:
            return "read"

    actor = Threaded.remote()
    both = [actor.meet.remote(), actor.meet.remote()]
    assert skate.get(actor.read.remote()) == "read"
    assert sorted(skate.get(both)) == [0, 1]
    with pytest.raises(ValueError, match="does not define"):
        skate.get(actor.read.options(concurrency_group="nobody").remote())


def test_an_instance_may_clean_up(inline: None, tmp_path: Path) -> None:
    """``__ray_shutdown__``: when the last handle is gone or the actor leaves, not when it is killed."""

    @skate.remote
    class Plain:
        def __init__(self, path: Path) -> None:
            self.path = path

        def leave(self) -> None:
            skate.actor.exit_actor()

        def __ray_shutdown__(self) -> None:
            self.path.touch()

    @skate.remote
    class Async:
        def __init__(self, path: Path) -> None:
            self.path = path

        async def leave(self) -> None:
            skate.actor.exit_actor()

        async def __ray_shutdown__(self) -> None:
            await asyncio.sleep(0)
            self.path.touch()

    for kind in (Plain, Async):
        dropped, left, killed = (
            tmp_path / f"{kind.__name__}-{name}" for name in ("dropped", "left", "killed")
        )
        actor = kind.remote(dropped)
        skate.get(actor.__ray_ready__.remote())
        del actor
        wait_for(dropped.exists, "the farewell of an actor without handles")
        actor = kind.remote(left)
        with pytest.raises(ActorDiedError):
            skate.get(actor.leave.remote())
        wait_for(left.exists, "the farewell of an actor that leaves")
        actor = kind.remote(killed)
        skate.get(actor.__ray_ready__.remote())
        skate.kill(actor)
        assert not killed.exists()


def test_graphs(inline: None) -> None:
    from skate.dag import InputNode

    @skate.remote
    class Adder:
        def add(self, x: int) -> int:
            return x + 1

    with InputNode() as number:
        graph = Adder.bind().add.bind(echo.bind(number))
    assert skate.get(graph.execute(1)) == 2
    adder = Adder.remote()
    with InputNode() as number:
        graph = adder.add.bind(number)
    with pytest.raises(NotImplementedError, match="in-process mode"):
        graph.experimental_compile()


# ---------------------------------------------------------------------- generators


def test_generators(inline: None) -> None:
    @skate.remote
    def count(n: int) -> Iterator[int]:
        yield from range(n)

    assert [skate.get(ref) for ref in count.remote(200)] == list(range(200))
    found = skate.get(count.options(num_returns="dynamic").remote(3))
    assert [skate.get(ref) for ref in found] == [0, 1, 2]
    with pytest.raises(StopIteration):
        next(count.remote(0))


def test_a_generator_without_end_is_stopped(inline: None) -> None:
    record = Record.remote()

    @skate.remote
    def forever(ahead: int = 0) -> Iterator[int]:
        number = 0
        try:
            while True:
                yield number
                number += 1
        finally:
            record.add.remote("stopped")

    items = forever.remote()
    assert [skate.get(next(items)) for _ in range(100)] == list(range(100))
    del items
    wait_for(lambda: all_of(record) == ["stopped"], "the end of the generator")
    items = forever.options(_generator_backpressure_num_objects=2).remote()
    assert [skate.get(next(items)) for _ in range(5)] == list(range(5))
    del items
    wait_for(lambda: all_of(record) == ["stopped"] * 2, "the end of the second generator")


def test_an_exception_is_the_last_item(inline: None) -> None:
    @skate.remote
    def breaks() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    first, last = list(breaks.remote())
    assert skate.get(first) == 1
    with pytest.raises(ValueError, match="broken"):
        skate.get(last)


def test_async_generators(inline: None) -> None:
    @skate.remote
    class Async:
        async def count(self, n: int) -> AsyncIterator[int]:
            for i in range(n):
                await asyncio.sleep(0)
                yield i

    actor = Async.remote()
    assert [skate.get(ref) for ref in actor.count.remote(5)] == list(range(5))

    async def main() -> list[int]:
        return [await ref async for ref in actor.count.remote(3)]

    assert asyncio.run(main()) == [0, 1, 2]


# ---------------------------------------------------------------------- what a session says of itself


def test_context_and_resources(leak_check: None) -> None:
    skate.init(mode="inline", num_cpus=3, num_gpus=2, resources={"token": 1}, namespace="mine")

    @skate.remote(num_cpus=2, num_gpus=1)
    def facts() -> dict[str, Any]:
        context = skate.get_runtime_context()
        return {
            "task": context.get_task_id(),
            "name": context.get_task_name(),
            "resources": context.get_assigned_resources(),
            "gpus": skate.get_gpu_ids(),
            "namespace": context.namespace,
            "available": skate.available_resources()["CPU"],
            "actor": context.get_actor_id(),
        }

    ref = facts.options(name="asked").remote()
    found = skate.get(ref)
    assert found == {
        "task": ref.task_id().hex(), "name": "asked", "resources": {"CPU": 2.0, "GPU": 1.0}, "gpus": [0],
        "namespace": "mine", "available": 1.0, "actor": None,
    }  # fmt: skip
    assert skate.cluster_resources()["token"] == 1
    assert skate.available_resources()["CPU"] == 3
    [node] = skate.nodes()
    assert node["Alive"]
    assert node["NodeID"] == skate.get_runtime_context().get_node_id()

    @skate.remote(num_gpus=1)
    class OnGpu:
        def which(self) -> tuple[list[int], str | None]:
            return skate.get_gpu_ids(), skate.get_runtime_context().get_actor_id()

    first, second = OnGpu.remote(), OnGpu.remote()
    gpus = skate.get([first.which.remote(), second.which.remote()])
    assert [ids for ids, _ in gpus] == [[0], [1]]
    assert gpus[0][1] == first._actor_id.hex()
    assert "GPU" not in skate.available_resources()


def test_what_a_real_session_would_treat_otherwise_is_named(
    inline: None, capfd: pytest.CaptureFixture[str]
) -> None:
    @skate.remote(num_cpus=64, resources={"unicorn": 1})
    def large() -> int:
        return 1

    @skate.remote(runtime_env={"env_vars": {"A": "1"}})
    def with_variables() -> str | None:
        return os.environ.get("A")

    assert skate.get([large.remote(), large.remote()]) == [1, 1]
    assert skate.get(with_variables.remote()) is None
    err = capfd.readouterr().err
    assert err.count("task large needs") == 1
    assert "unicorn" in err
    assert "task with_variables has a runtime_env, which in-process mode does not enter" in err


def test_the_state_api(inline: None) -> None:
    from skate.util import state

    gate = Gate.options(name="gate").remote()
    ref = gate.wait.remote()
    [running] = [one for one in state.list_tasks() if one.state not in ("FINISHED", "FAILED")]
    assert running.name == "Gate.wait"
    assert "test_inline.py" in str(running.call_site)
    assert [(one.class_name, one.name, one.state) for one in state.list_actors()] == [
        ("Gate", "gate", "ALIVE")
    ]
    gate.open.remote()
    skate.get(ref)


def test_helpers(inline: None) -> None:
    from skate.util import ActorPool
    from skate.util.multiprocessing import Pool

    @skate.remote
    class Doubler:
        def double(self, x: int) -> int:
            return 2 * x

    pool = ActorPool([Doubler.remote(), Doubler.remote()])
    assert list(pool.map(lambda actor, x: actor.double.remote(x), range(5))) == [0, 2, 4, 6, 8]
    with Pool(2) as workers:
        assert workers.map(abs, range(-5, 0)) == [5, 4, 3, 2, 1]


# ---------------------------------------------------------------------- beginning and end


def test_the_mode_of_the_environment(leak_check: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKATE_MODE", "inline")
    assert skate.get(echo.remote(1)) == 1  # without init
    assert processes.of_driver(os.getpid()) == {}
    skate.shutdown()
    with pytest.raises(ConnectionError):
        skate.init("/nowhere")  # the program says where it wants to run
    skate.init(mode="cluster", num_cpus=1)
    assert processes.of_driver(os.getpid()) != {}


def test_wrong_modes(leak_check: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="mode is 'inline' or 'cluster', got 'thread'"):
        skate.init(mode="thread")
    with pytest.raises(ValueError, match="cannot join 'auto'"):
        skate.init("auto", mode="inline")
    monkeypatch.setenv("SKATE_MODE", "local")
    with pytest.raises(ValueError, match="SKATE_MODE is"):
        skate.init()


def test_shutdown_ends_what_waits(leak_check: None, capfd: pytest.CaptureFixture[str]) -> None:
    skate.init(mode="inline")
    gate = Gate.remote()

    @skate.remote
    def waits() -> None:
        skate.get(gate.wait.remote())

    ref = waits.remote()
    skate.shutdown()
    assert capfd.readouterr().err == ""
    del ref
    skate.init(mode="inline")  # functions and classes are bound anew
    assert skate.get(echo.remote(2)) == 2
    assert skate.get(Record.remote().all.remote()) == []


def test_shutdown_names_what_it_cannot_end(leak_check: None, capfd: pytest.CaptureFixture[str]) -> None:
    skate.init(mode="inline")
    read_end, write_end = os.pipe()

    @skate.remote
    def reads() -> bytes:
        return os.read(read_end, 1)

    ref = reads.remote()
    skate.shutdown()
    err = capfd.readouterr().err
    assert "1 call(s) still run after shutdown(), among reads" in err
    os.write(write_end, b"x")  # the leak check waits for its thread
    os.close(write_end)
    wait_for(
        lambda: not any(t.name == "skate-inline" for t in threading.enumerate()), "the end of the thread"
    )
    os.close(read_end)
    del ref


@pytest.mark.parametrize("where", ["get", "remote"])
def test_an_interrupt(inline: None, where: str) -> None:
    """Ctrl-C is raised in the program, wherever that is; what runs goes on, and the session too."""
    gate, record = Gate.remote(), Record.remote()
    main, (read_end, write_end) = threading.main_thread().ident, os.pipe()
    assert main is not None

    @skate.remote
    def waits() -> str:
        return skate.get(gate.wait.remote())  # type: ignore[no-any-return]

    @skate.remote
    def reads() -> bytes:
        signal.pthread_kill(main, signal.SIGINT)  # its caller pauses
        found = os.read(read_end, 1)
        record.add.remote("read")
        return found

    @skate.remote
    class Interrupts:
        async def later(self) -> None:
            await asyncio.sleep(0.05)
            signal.pthread_kill(main, signal.SIGINT)

    interrupts = Interrupts.remote()
    if where == "get":
        ref = waits.remote()
        interrupts.later.remote()
        with pytest.raises(KeyboardInterrupt):
            skate.get(ref)
        gate.open.remote()
        assert skate.get(ref) == "open"
    else:
        with pytest.raises(KeyboardInterrupt):
            reads.remote()
            skate.get(gate.wait.remote())
        os.write(write_end, b"x")
        wait_for(lambda: all_of(record) == ["read"], "the task that was not interrupted")
    os.close(read_end)
    os.close(write_end)
    assert skate.get(echo.remote(1)) == 1


def test_a_forked_child_says_so(inline: None) -> None:
    skate.get(echo.remote(1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12: there are threads
        child = os.fork()
    if not child:
        try:
            skate.get(echo.remote(2))
        except RuntimeError as error:
            os._exit(0 if "forked" in str(error) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert skate.get(echo.remote(3)) == 3


def test_breakpoints_of_the_debugger(tmp_path: Path) -> None:
    """``python -m pdb`` sets them on the main thread; they hold where tasks run, and nobody hurries on."""
    program = tmp_path / "program.py"
    program.write_text(
        "import skate\n"
        "skate.init(mode='inline')\n"
        "@skate.remote\n"
        "def task(x):\n"
        "    y = x + 1\n"
        "    return y\n"
        "print('result', skate.get(task.remote(41)))\n"
    )
    commands = "b 6\nc\np ('y is', y)\nc\nq\n"
    done = subprocess.run(
        [sys.executable, "-m", "pdb", str(program)],
        input=commands, capture_output=True, text=True,
    )  # fmt: skip
    assert "('y is', 42)" in done.stdout, done.stdout + done.stderr
    assert "result 42" in done.stdout


def test_asyncio_is_not_imported_for_nothing() -> None:
    program = (
        "import skate, sys\n"
        "skate.init(mode='inline')\n"
        "f = skate.remote(lambda: 1)\n"
        "assert skate.get(f.remote()) == 1\n"
        "heavy = {'asyncio', 'numpy', 'sqlite3', 'multiprocessing'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
