"""Async actors, threaded actors, concurrency groups."""

from __future__ import annotations

import asyncio
import threading

import pytest
import ray
from ray.exceptions import RayTaskError

from compat.conformance.helpers import Gate, Record, until

pytestmark = pytest.mark.usefixtures("session")


@ray.remote
class Meeting:
    """Async: its calls wait for each other."""

    def __init__(self):
        self.event = asyncio.Event()
        self.inside = 0
        self.most = 0

    async def wait(self):
        self.inside += 1
        self.most = max(self.most, self.inside)
        await self.event.wait()
        self.inside -= 1
        return self.most

    async def open(self):
        self.event.set()

    async def count(self):
        return self.inside

    async def fail(self):
        await asyncio.sleep(0)
        raise ValueError("async")


# ---------------------------------------------------------------------- async actors


def test_async_calls_interleave() -> None:
    meeting = Meeting.remote()
    refs = [meeting.wait.remote() for _ in range(5)]
    until(lambda: ray.get(meeting.count.remote()) == 5)
    ray.get(meeting.open.remote())
    assert ray.get(refs) == [5] * 5


def test_max_concurrency_of_async_actors() -> None:
    gate = Gate.remote()

    @ray.remote(max_concurrency=2)
    class Two:
        def __init__(self):
            self.inside = self.most = 0

        async def call(self):
            self.inside += 1
            self.most = max(self.most, self.inside)
            await gate.wait.remote()
            self.inside -= 1
            return self.most

    two = Two.remote()
    refs = [two.call.remote() for _ in range(5)]
    ray.get(gate.until_arrived.remote(2))
    ray.get(gate.open.remote())
    assert ray.get(refs) == [2] * 5


def test_async_errors() -> None:
    meeting = Meeting.remote()
    with pytest.raises(ValueError, match="async"):
        ray.get(meeting.fail.remote())
    with pytest.raises(RayTaskError):
        ray.get(meeting.fail.remote())
    assert ray.get(meeting.count.remote()) == 0


def test_await_in_actors() -> None:
    @ray.remote
    def double(x):
        return 2 * x

    @ray.remote
    class Awaiter:
        async def one(self, refs):
            return await refs[0]

        async def many(self, n):
            return await asyncio.gather(*[double.remote(i) for i in range(n)])

        async def waited(self, n):
            refs = [double.remote(i) for i in range(n)]
            done, rest = await asyncio.wait([asyncio.wrap_future(ref.future()) for ref in refs])
            return len(done), len(rest)

        async def failing(self):
            @ray.remote
            def broken():
                raise KeyError("k")

            try:
                await broken.remote()
            except KeyError as error:
                return type(error).__name__

    awaiter = Awaiter.remote()
    assert ray.get(awaiter.one.remote([double.remote(4)])) == 8
    assert ray.get(awaiter.many.remote(4)) == [0, 2, 4, 6]
    assert ray.get(awaiter.waited.remote(3)) == (3, 0)
    assert "KeyError" in ray.get(awaiter.failing.remote())


def test_await_in_the_driver() -> None:
    @ray.remote
    def double(x):
        return 2 * x

    async def main():
        return await double.remote(1), await asyncio.gather(double.remote(2), double.remote(3))

    assert asyncio.run(main()) == (2, [4, 6])


def test_await_with_a_time_limit() -> None:
    gate = Gate.remote()

    async def main():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(gate.wait.remote(), timeout=0.1)

    asyncio.run(main())
    ray.get(gate.open.remote())


def test_futures() -> None:
    @ray.remote
    def double(x):
        return 2 * x

    @ray.remote
    def broken():
        raise KeyError("k")

    assert double.remote(4).future().result(timeout=60) == 8
    with pytest.raises(KeyError):
        broken.remote().future().result(timeout=60)


def test_plain_methods_of_async_actors_run_too() -> None:
    @ray.remote
    class Mixed:
        def __init__(self):
            self.n = 0

        async def a(self):
            self.n += 1
            return self.n

        def b(self):
            self.n += 10
            return self.n

    mixed = Mixed.remote()
    assert ray.get(mixed.a.remote()) == 1
    assert ray.get(mixed.b.remote()) == 11


def test_async_actors_share_one_loop_and_thread() -> None:
    @ray.remote
    class Same:
        async def where(self):
            return threading.get_ident(), id(asyncio.get_running_loop())

    same = Same.remote()
    assert len(set(ray.get([same.where.remote() for _ in range(5)]))) == 1


def test_context_of_async_calls() -> None:
    @ray.remote
    class Who:
        async def who(self, gate):
            before = ray.get_runtime_context().get_task_id()
            await gate.wait.remote()
            return before, ray.get_runtime_context().get_task_id()

    gate, who = Gate.remote(), Who.remote()
    refs = [who.who.remote(gate) for _ in range(3)]
    ray.get(gate.until_arrived.remote(3))
    ray.get(gate.open.remote())
    found = ray.get(refs)
    assert all(before == after for before, after in found)
    assert len({before for before, _ in found}) == 3


def test_async_functions_are_no_tasks() -> None:
    with pytest.raises((ValueError, TypeError)):

        @ray.remote
        async def task():
            return 1

        ray.get(task.remote())


def test_async_actors_call_each_other_and_themselves() -> None:
    @ray.remote
    class Ring:
        async def set(self, other):
            self.other = other

        async def round(self, n):
            return 0 if n == 0 else 1 + await self.other.round.remote(n - 1)

    first, second = Ring.remote(), Ring.remote()
    ray.get([first.set.remote(second), second.set.remote(first)])
    assert ray.get(first.round.remote(6)) == 6
    ray.get(first.set.remote(first))
    assert ray.get(first.round.remote(4)) == 4


def test_what_an_async_method_leaves_running_goes_on() -> None:
    @ray.remote
    class Background:
        def __init__(self):
            self.done = asyncio.Event()
            self.go = asyncio.Event()

        async def start(self):
            async def work():
                await self.go.wait()
                self.done.set()

            self.task = asyncio.create_task(work())

        async def finish(self):
            self.go.set()
            await self.done.wait()
            return True

    background = Background.remote()
    ray.get(background.start.remote())
    assert ray.get(background.finish.remote())


# ---------------------------------------------------------------------- threaded actors


def test_threaded_actors() -> None:
    @ray.remote(max_concurrency=3)
    class Threaded:
        def __init__(self):
            self.barrier = threading.Barrier(3)

        def meet(self):
            self.barrier.wait(60)
            return threading.get_ident()

    threaded = Threaded.remote()
    assert len(set(ray.get([threaded.meet.remote() for _ in range(3)]))) == 3


def test_threaded_actors_keep_to_their_limit() -> None:
    @ray.remote(max_concurrency=2)
    class Threaded:
        def __init__(self):
            self.lock = threading.Lock()
            self.inside = self.most = 0

        def call(self, gate):
            with self.lock:
                self.inside += 1
                self.most = max(self.most, self.inside)
            ray.get(gate.wait.remote())
            with self.lock:
                self.inside -= 1
                return self.most

    gate, threaded = Gate.remote(), Threaded.remote()
    refs = [threaded.call.remote(gate) for _ in range(5)]
    ray.get(gate.until_arrived.remote(2))
    ray.get(gate.open.remote())
    assert ray.get(refs) == [2] * 5


def test_a_serial_actor_runs_one_call_at_a_time() -> None:
    record, gate = Record.remote(), Gate.remote()

    @ray.remote
    class Serial:
        def call(self, i):
            ray.get(record.add.remote(("in", i)))
            ray.get(gate.wait.remote())
            ray.get(record.add.remote(("out", i)))

    serial = Serial.remote()
    refs = [serial.call.remote(i) for i in range(3)]
    ray.get(gate.until_arrived.remote())
    ray.get(gate.open.remote())
    ray.get(refs)
    assert ray.get(record.all.remote()) == [(what, i) for i in range(3) for what in ("in", "out")]


# ---------------------------------------------------------------------- concurrency groups


def grouped_class():
    @ray.remote(concurrency_groups={"io": 2, "compute": 1})
    class Grouped:
        def __init__(self):
            self.inside = 0

        @ray.method(concurrency_group="io")
        async def read(self, gate):
            self.inside += 1
            await gate.wait.remote()
            return self.inside

        @ray.method(concurrency_group="compute")
        async def compute(self, gate):
            await gate.wait.remote()
            return "computed"

        async def default(self):
            return "default"

        async def count(self):
            return self.inside

    return Grouped


def test_groups_do_not_wait_for_each_other() -> None:
    blocked, open_gate, actor = Gate.remote(), Gate.remote(), grouped_class().remote()
    ray.get(open_gate.open.remote())
    held = [actor.read.remote(blocked) for _ in range(2)]
    ray.get(blocked.until_arrived.remote(2))
    assert ray.get(actor.compute.remote(open_gate)) == "computed"
    assert ray.get(actor.default.remote()) == "default"
    ray.get(blocked.open.remote())
    ray.get(held)


def test_a_group_keeps_to_its_limit() -> None:
    gate, actor = Gate.remote(), grouped_class().remote()
    refs = [actor.read.remote(gate) for _ in range(5)]
    ray.get(gate.until_arrived.remote(2))
    assert ray.get(actor.count.remote()) == 2
    ray.get(gate.open.remote())
    assert max(ray.get(refs)) == 5


def test_a_group_chosen_at_the_call() -> None:
    gate, open_gate, actor = Gate.remote(), Gate.remote(), grouped_class().remote()
    ray.get(open_gate.open.remote())
    held = actor.compute.remote(gate)
    ray.get(gate.until_arrived.remote())
    assert ray.get(actor.compute.options(concurrency_group="io").remote(open_gate)) == "computed"
    ray.get(gate.open.remote())
    assert ray.get(held) == "computed"


def test_groups_of_threads() -> None:
    @ray.remote(concurrency_groups={"io": 2})
    class Threads:
        def __init__(self):
            self.barrier = threading.Barrier(2)

        @ray.method(concurrency_group="io")
        def meet(self):
            self.barrier.wait(60)
            return True

        def alone(self):
            return threading.get_ident()

    threads = Threads.remote()
    assert ray.get([threads.meet.remote(), threads.meet.remote()]) == [True, True]
    assert len(set(ray.get([threads.alone.remote() for _ in range(3)]))) == 1


def test_an_unknown_group_is_refused() -> None:
    with pytest.raises((ValueError, RuntimeError, AssertionError, RayTaskError)):

        @ray.remote(concurrency_groups={"io": 1})
        class Wrong:
            @ray.method(concurrency_group="no-such-group")
            def call(self):
                return 1

        ray.get(Wrong.remote().call.remote())
