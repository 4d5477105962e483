"""Continuous batching: items join and leave between the steps of a loop of the user's."""

from __future__ import annotations

import asyncio
import http.client
import json
import random
import threading
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import skate
from skate import serve
from skate.serve._client.client import controller
from skate.serve._observing import metrics
from skate.serve._targets import DeploymentId
from skate.serve.context import RequestContext, request
from skate.serve.exceptions import RayServeException
from skate.serve.openai import openai_app

from .conftest import Web


class Counter:
    """Counts up to a number for each of its callers. Each step waits for a permit."""

    def __init__(self, permits: int = 0) -> None:
        self.permits = asyncio.Semaphore(permits)
        self.steps: list[list[int]] = []
        self.left: list[int] = []
        self.runs = 0

    @serve.batch(max_batch_size=3)
    async def count(self, stream: serve.BatchStream) -> None:
        self.runs += 1
        async for step in stream:
            await self.permits.acquire()
            self.steps.append([item.value for item in step.items])
            self.left += [item.value for item in step.left]
            for item in step.joined:
                assert item in step.items
                item.state = iter(range(item.value))
            for item in step.items:
                number = next(item.state, None)
                if number is None:
                    item.finish()
                elif item.value == 13:
                    raise ValueError("an unlucky step")
                elif item.kwargs.get("bad") == number:
                    item.fail(KeyError(number))
                else:
                    item.send(number)

    def go(self, steps: int) -> None:
        for _ in range(steps):
            self.permits.release()


async def items(stream: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in stream]


async def settle() -> None:
    """Let all tasks go on as far as they can."""
    for _ in range(20):
        await asyncio.sleep(0)


def test_items_join_and_leave_between_steps() -> None:
    async def main() -> None:
        model = Counter()
        calls = [asyncio.create_task(items(model.count(number))) for number in (1, 4, 2, 3)]
        await settle()
        assert not model.steps
        model.go(1)
        await settle()
        late = asyncio.create_task(items(model.count(5)))
        model.go(100)
        assert await asyncio.gather(*calls) == [[*range(number)] for number in (1, 4, 2, 3)]
        assert await late == [*range(5)]
        # Three at most; those that wait take the places of those that end, in their order.
        assert model.steps[:5] == [[1, 4, 2], [1, 4, 2], [4, 2, 3], [4, 3, 5], [4, 3, 5]]
        assert model.left == [1, 2, 4, 3], "the last item leaves with the loop"
        assert model.runs == 1

    asyncio.run(main())


def test_the_loop_ends_when_no_item_is_left_and_begins_with_the_next() -> None:
    async def main() -> None:
        model = Counter(100)
        assert await items(model.count(2)) == [0, 1]
        await settle()
        assert not [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        assert await items(model.count(1)) == [0]
        assert model.runs == 2

    asyncio.run(main())


def test_one_item_fails_alone_after_what_it_was_sent() -> None:
    async def main() -> None:
        model = Counter(100)
        good = asyncio.create_task(items(model.count(3)))
        found = []
        with pytest.raises(KeyError):
            async for number in model.count(3, bad=2):
                found.append(number)
        assert found == [0, 1]
        assert await good == [0, 1, 2]

    asyncio.run(main())


def test_an_item_that_is_cancelled_leaves_before_the_next_step() -> None:
    async def main() -> None:
        model = Counter()
        other = asyncio.create_task(items(model.count(4)))
        waiting = [asyncio.create_task(items(model.count(number))) for number in (9, 8, 7, 6)]
        await settle()
        model.go(1)
        await settle()
        waiting[0].cancel()  # takes part
        waiting[2].cancel()  # waits
        await settle()
        model.go(2)
        await settle()
        assert model.steps == [[4, 9, 8], [4, 9, 8], [4, 8, 6]], "the second step had begun"
        assert model.left == [9]
        model.go(100)
        assert await other == [0, 1, 2, 3]
        assert await waiting[3] == [*range(6)]

    asyncio.run(main())


def test_a_slow_caller_pauses_its_item_alone() -> None:
    async def main() -> None:
        model = Counter(1000)
        async with aclosing(model.count(500)) as slow:
            assert await anext(slow) == 0
            assert await items(model.count(100)) == [*range(100)], "others go on"
            served = sum(500 in step for step in model.steps)
            await settle()
            assert served < 25
            assert [await anext(slow) for _ in range(20)] == [*range(1, 21)]
            await settle()
            assert 20 < sum(500 in step for step in model.steps) < 45, "it goes on, and pauses again"
            steps = len(model.steps)
            await settle()
            assert len(model.steps) == steps, "without a caller that takes results there is no step"
            assert await items(model.count(1)) == [0], "a new one joins all the same"
        await settle()
        assert len(asyncio.all_tasks()) == 1, "the loop has ended with its last item"

    asyncio.run(main())


def test_an_exception_fails_the_items_that_run_and_the_others_run_anew() -> None:
    async def main() -> None:
        model = Counter(100)
        calls = [asyncio.create_task(items(model.count(number))) for number in (3, 13, 5, 2, 1)]
        found = await asyncio.gather(*calls, return_exceptions=True)
        assert found[3:] == [[0, 1], [0]]
        for error in found[:3]:
            assert isinstance(error, ValueError)
            assert 'raise ValueError("an unlucky step")' in "".join(traceback.format_exception(error))
        assert model.runs == 2

    asyncio.run(main())


class Broken:
    def __init__(self) -> None:
        self.runs = 0

    @serve.batch(max_batch_size=1)
    async def start(self, stream: serve.BatchStream) -> None:
        self.runs += 1
        raise OSError("no device")

    @serve.batch(max_batch_size=2)
    async def leave(self, stream: serve.BatchStream) -> None:
        async for step in stream:
            step.items[0].finish()
            return

    @serve.batch
    async def block(self, stream: serve.BatchStream) -> None:
        for _ in stream:
            pass

    @serve.batch
    async def after(self, stream: serve.BatchStream) -> None:
        async for step in stream:
            for item in step.items:
                item.finish()
                item.send("more")


def test_a_loop_that_raises_before_its_first_step_fails_one_batch_at_a_time() -> None:
    async def main() -> None:
        model = Broken()
        found = await asyncio.gather(*(items(model.start(n)) for n in range(3)), return_exceptions=True)
        assert [type(one) for one in found] == [OSError] * 3
        assert model.runs == 3

    asyncio.run(main())


def test_an_async_loop_does_not_block_its_event_loop() -> None:
    async def main() -> None:
        with pytest.raises(TypeError, match="with `async for`"):
            await items(Broken().block(1))

    asyncio.run(main())


def test_a_loop_that_returns_too_early_says_so() -> None:
    async def main() -> None:
        model = Broken()
        first, second = await asyncio.gather(
            items(model.leave(1)), items(model.leave(2)), return_exceptions=True
        )
        assert first == []
        assert isinstance(second, RayServeException)
        assert "Broken.leave returned before its stream had ended" in str(second)

    asyncio.run(main())


def test_what_is_sent_after_the_end_is_a_mistake_that_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        assert await items(Broken().after(1)) == []
        await settle()

    asyncio.run(main())
    assert "Broken.after failed without any call" in caplog.text
    assert "RuntimeError: send() to an item after its finish() or fail()" in caplog.text


class Threaded:
    """Its loop is a plain function."""

    def __init__(self) -> None:
        self.threads: set[int] = set()
        self.reached = threading.Event()
        self.go = threading.Event()

    @serve.batch(max_batch_size=4)
    def count(self, stream: serve.BatchStream) -> None:
        for step in stream:
            self.threads.add(threading.get_ident())
            for item in step.items:
                item.state = 0 if item.state is None else item.state + 1
                if item.state < item.value:
                    item.send(item.state)
                else:
                    item.finish()

    @serve.batch
    def gated(self, stream: serve.BatchStream) -> None:
        for step in stream:
            step.items[0].send("before")
            self.reached.set()
            self.go.wait(60)
            step.items[0].finish()


def test_a_plain_loop_runs_in_a_thread() -> None:
    async def main() -> None:
        model = Threaded()
        assert await asyncio.gather(*(items(model.count(n)) for n in (3, 0, 5, 2, 4))) == [
            [*range(n)] for n in (3, 0, 5, 2, 4)
        ]
        assert threading.get_ident() not in model.threads

    asyncio.run(main())


def test_what_a_plain_loop_sends_comes_before_the_step_ends() -> None:
    async def main() -> None:
        model = Threaded()
        async with aclosing(model.gated(1)) as stream:
            assert await anext(stream) == "before"
            assert not model.go.is_set()
            model.go.set()
            assert await items(stream) == []

    asyncio.run(main())


def test_an_event_loop_ends_although_a_plain_loop_runs() -> None:
    async def main() -> None:
        model = Threaded()
        task = asyncio.create_task(items(model.count(10**9)))
        await asyncio.sleep(0)
        while not model.threads:
            await asyncio.sleep(0)
        assert not task.done()

    asyncio.run(main())  # returns


def test_another_group_has_its_turn() -> None:
    """Calls of one multiplexed model run together; those of another one wait until these have ended."""

    async def main() -> None:
        model = Counter()

        async def call(group: str, number: int) -> list[int]:
            request.set(RequestContext(model_id=group))
            return await items(model.count(number))

        calls = [asyncio.create_task(call(*one)) for one in (("a", 3), ("b", 2), ("a", 4), ("a", 1))]
        await settle()
        model.go(100)
        assert await asyncio.gather(*calls) == [[*range(n)] for n in (3, 2, 4, 1)]
        assert model.steps == [*[[3]] * 4, *[[2]] * 3, *[[4, 1]] * 2, *[[4]] * 3]
        assert model.runs == 3

    asyncio.run(main())


class Rows:
    """Writes into the rows of a cache of fixed size."""

    def __init__(self) -> None:
        self.rows: list[list[Any]] = [[], [], []]

    @serve.batch(max_batch_size=3)
    async def fill(self, stream: serve.BatchStream) -> None:
        async for step in stream:
            slots = [item.slot for item in step.items]
            assert len(set(slots)) == len(slots)
            for item in step.joined:
                self.rows[item.slot] = [item.value] * item.args[1]
            for item in step.items:
                row = self.rows[item.slot]
                assert all(one == item.value for one in row), "nobody else wrote here"
                if row:
                    item.send(row.pop())
                else:
                    item.finish()


def test_slots_are_rows_of_a_cache() -> None:
    async def main() -> None:
        model = Rows()
        found = await asyncio.gather(*(items(model.fill(n, n % 5)) for n in range(30)))
        assert found == [[n] * (n % 5) for n in range(30)]

    asyncio.run(main())


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**9), size=st.integers(1, 4), most=st.integers(1, 2))
def test_whatever_comes_and_goes_all_get_what_is_theirs(seed: int, size: int, most: int) -> None:
    """Calls come at random, some are cancelled, some fail, and now and then the loop itself does."""
    chance = random.Random(seed)
    crashes = 0

    class Model:
        @serve.batch(max_batch_size=size, max_concurrent_batches=most)
        async def count(self, stream: serve.BatchStream) -> None:
            nonlocal crashes
            here: set[Any] = set()
            async for step in stream:
                assert here >= set(step.left)
                here = (here - set(step.left)) | set(step.joined)
                assert set(step.items) <= here
                assert len(here) <= size
                assert len({item.slot for item in here}) == len(here)
                assert all(item.slot < size for item in here)
                assert len({item.args[1] for item in here}) == 1, "one group"
                for _ in range(chance.randint(0, 3)):
                    await asyncio.sleep(0)
                if chance.random() < 0.03:
                    crashes += 1
                    raise OSError("the device fell off")
                for item in step.items:
                    item.state = (item.state or 0) + 1
                    if item.state <= item.value:
                        item.send(item.state)
                    elif item.value % 5:
                        item.finish()
                    else:
                        item.fail(KeyError(item.value))

    async def main() -> None:
        model = Model()

        async def call(number: int, group: str) -> str:
            request.set(RequestContext(model_id=group))
            found: list[int] = []
            try:
                async with aclosing(model.count(number, group)) as stream:
                    async for item in stream:
                        found.append(item)
                        if chance.random() < 0.03:
                            return "left"
                        for _ in range(chance.randint(0, 2)):
                            await asyncio.sleep(0)
            except KeyError:
                assert number % 5 == 0
            except OSError:
                return "crashed"
            assert found == [*range(1, number + 1)]
            return "done"

        tasks = []
        for _ in range(30):
            tasks.append(asyncio.create_task(call(chance.randint(1, 40), chance.choice("aab"))))
            for _ in range(chance.randint(0, 20)):
                await asyncio.sleep(0)
            if chance.random() < 0.2:
                chance.choice(tasks).cancel()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        for one in found:
            assert isinstance(one, asyncio.CancelledError) or one in ("done", "left", "crashed")
        assert crashes or "crashed" not in found
        await settle()
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


def test_callers_have_their_turn_while_a_loop_waits_for_nothing() -> None:
    class Busy:
        @serve.batch(max_batch_size=2)
        async def run(self, stream: serve.BatchStream) -> None:
            async for step in stream:
                for item in step.items:
                    item.send(len(step.items))

    async def main() -> None:
        model = Busy()
        async with aclosing(model.run(1)) as one, aclosing(model.run(2)) as two:
            assert await anext(one) == 1
            assert 2 in [await anext(two) for _ in range(3)]

    asyncio.run(main())


def test_each_step_counts_as_a_batch() -> None:
    def counted(family: str) -> Any:
        return metrics.this.metrics.snapshot().get((family, ("", "", "count")), (0,))

    async def main() -> None:
        model = Counter(100)
        sizes, ran = counted("ray_serve_actual_batch_size"), counted("ray_serve_batch_execution_time_ms")
        await asyncio.gather(*(items(model.count(number)) for number in (3, 2, 5, 1)))
        found = counted("ray_serve_actual_batch_size")
        assert found[0] - sizes[0] == sum(map(len, model.steps))
        assert sum(found[1:]) - sum(sizes[1:]) == len(model.steps)
        assert sum(counted("ray_serve_batch_execution_time_ms")[1:]) - sum(ran[1:]) == len(model.steps)

    asyncio.run(main())


def test_no_generator_takes_a_stream() -> None:
    with pytest.raises(TypeError, match="takes a BatchStream and yields"):

        @serve.batch
        async def wrong(stream: serve.BatchStream) -> AsyncIterator[int]:
            yield 1


# ---------------------------------------------------------------------- in replicas


@serve.deployment(max_ongoing_requests=50, bake_time_s=0, graceful_shutdown_timeout_s=60)
class Words:
    """Streams numbers, one a step. Steps wait until the gate is open."""

    def __init__(self, version: str = "1") -> None:
        self.version = version
        self.is_open = asyncio.Event()
        self.running: list[str] = []
        self.gone: list[str] = []

    @serve.batch(max_batch_size=4)
    async def words(self, stream: serve.BatchStream) -> None:
        async for step in stream:
            self.running = [item.value for item in step.items]
            self.gone += [item.value for item in step.left]
            for item in step.joined:
                item.state = 0
                item.send(f"{item.value} ")
            await self.is_open.wait()
            for item in step.items:
                item.state += 1
                if item.state > item.kwargs["count"]:
                    item.finish()
                else:
                    item.send(f"{item.state}{self.version}" + "." * item.kwargs["padding"] + " ")
            if any(item.value == "crash" for item in step.items):
                raise ValueError("no such word")

    async def __call__(self, request: Any) -> Any:
        asked = request.query_params
        return self.words(asked["name"], count=int(asked["count"]), padding=int(asked.get("padding", 0)))


def replica_of(name: str) -> Any:
    (replica,) = skate.get(controller().replicas.remote(DeploymentId(name, "default"))).values()
    return replica


def ask(replica: Any, function: Callable[[Any], Any]) -> Any:
    return skate.get(replica.__ray_call__.remote(lambda self: function(self._code.servable)))


class Client:
    """A request over a connection of its own, whose answer is read piece by piece."""

    def __init__(self, web: Web, path: str) -> None:
        self.connection = http.client.HTTPConnection(web.host, web.port, timeout=60)
        self.connection.request("GET", path)
        self.answer = self.connection.getresponse()

    def word(self) -> str:
        found = b""
        while not found.endswith(b" "):
            byte = self.answer.read(1)
            assert byte
            found += byte
        return found.decode().strip()

    def rest(self) -> list[str]:
        found = self.answer.read().decode().split()
        self.connection.close()
        return found


def test_streams_over_http_join_and_leave(
    web: Web, wait_until: Callable[[Callable[[], object]], None]
) -> None:
    serve.run(Words.bind())
    replica = replica_of("Words")
    long = Client(web, "/?name=long&count=1000000")
    assert long.word() == "long"
    ask(replica, lambda it: it.is_open.set())
    short = Client(web, "/?name=short&count=2")
    assert [short.word(), *short.rest()] == ["short", "11", "21"]
    assert long.word() == "11"
    other = Client(web, "/?name=other&count=1000000")
    assert other.word() == "other"
    wait_until(lambda: set(ask(replica, lambda it: it.running)) <= {"long", "other"})
    long.answer.close()
    long.connection.close()
    wait_until(lambda: "long" in ask(replica, lambda it: it.gone))
    assert other.word() == "11"
    other.answer.close()
    other.connection.close()


def test_an_http_client_that_reads_slowly_pauses_its_stream(
    web: Web, wait_until: Callable[[Callable[[], object]], None]
) -> None:
    serve.run(Words.bind())
    replica = replica_of("Words")
    slow = Client(web, f"/?name=slow&count=80&padding={1 << 20}")
    ask(replica, lambda it: it.is_open.set())
    quick = Client(web, "/?name=quick&count=1000000000")
    assert quick.word() == "quick"
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            quick.word()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        wait_until(lambda: ask(replica, lambda it: it.running) == ["quick"])
        assert "slow" not in ask(replica, lambda it: it.gone)
    finally:
        done.set()
        reader.join()
    quick.answer.close()
    quick.connection.close()
    found = slow.rest()
    assert [one.rstrip(".") for one in found] == ["slow", *(f"{n}1" for n in range(1, 81))]


def test_a_crash_of_the_loop_cuts_its_streams_off_and_others_run(web: Web) -> None:
    handle = serve.run(Words.bind()).options(stream=True)
    ask(replica_of("Words"), lambda it: it.is_open.set())
    with pytest.raises(ValueError, match="no such word") as raised:
        list(handle.words.remote("crash", count=9, padding=0))
    assert "in words" in str(raised.value), "the traceback of the user's code"
    assert list(handle.words.remote("next", count=1, padding=0)) == ["next ", "11 "]


def test_running_streams_finish_when_a_deployment_is_updated(
    web: Web, wait_until: Callable[[Callable[[], object]], None]
) -> None:
    serve.run(Words.bind("a"))
    old = replica_of("Words")
    one, two = (Client(web, f"/?name={name}&count=3") for name in ("one", "two"))
    assert one.word() == "one"
    update = threading.Thread(target=serve.run, args=(Words.bind("b"),))
    update.start()
    wait_until(lambda: skate.get(old.counts.remote())["draining"])
    ask(old, lambda it: it.is_open.set())
    assert ["two", *one.rest()] == two.rest() == ["two", "1a", "2a", "3a"]
    update.join()
    ask(replica_of("Words"), lambda it: it.is_open.set())
    assert web("/?name=new&count=1").text == "new 1b "


@serve.deployment
class Speaker:
    """A model for OpenAI's API whose requests share steps."""

    @serve.batch(max_batch_size=8)
    def generate(self, stream: serve.BatchStream) -> None:
        for step in stream:
            for item in step.joined:
                item.state = iter(item.value.split())
            for item in step.items:
                word = next(item.state, None)
                if word is None:
                    item.finish()
                else:
                    item.send(word.upper() if item.kwargs.get("temperature", 1.0) > 1 else word)


def test_a_model_of_the_openai_application_is_a_loop(web: Web) -> None:
    serve.run(openai_app({"speaker": Speaker.bind()}))

    def complete(**fields: Any) -> Any:
        body = json.dumps({"model": "speaker", **fields}).encode()
        return web("/v1/completions", body)

    answer = complete(prompt=["one two three", "four five"], temperature=2.0).json()
    assert [one["text"] for one in answer["choices"]] == ["ONETWOTHREE", "FOURFIVE"]
    assert answer["choices"][0]["finish_reason"] == "stop"
    limited = complete(prompt="one two three", max_tokens=2).json()["choices"][0]
    assert (limited["text"], limited["finish_reason"]) == ("onetwo", "length")
    assert complete(prompt="one two", stream=True).text.count('"text"') == 3


def test_in_one_process() -> None:
    handle = serve.run(Speaker.bind(), name="local", _local_testing_mode=True).options(stream=True)
    assert list(handle.generate.remote("a b c")) == ["a", "b", "c"]
    serve.delete("local")
