"""Batches: which calls run together, against rules that hold for every schedule; and the decorator."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import skate
from skate import serve
from skate.serve import batching
from skate.serve._batching.queue import BatchQueue, Waiting
from skate.serve._client.client import controller
from skate.serve._targets import DeploymentId
from skate.serve.exceptions import RayServeException

from .conftest import Web


@settings(max_examples=300, deadline=None)
@given(
    seed=st.integers(0, 10**9),
    size=st.integers(1, 5),
    window=st.sampled_from([0.0, 1.0, 3.0]),
    most=st.integers(1, 3),
)
def test_batches_keep_order_size_and_window(seed: int, size: int, window: float, most: int) -> None:
    """On a virtual clock: calls come, are cancelled, batches end, all at random."""
    chance = random.Random(seed)
    queue = BatchQueue(size, window, most, lambda items: sum(items) if seed % 2 else len(items))
    now, made, running = 0.0, 0, 0
    waiting: list[Waiting] = []
    served: set[int] = set()
    for _ in range(200):
        step = chance.random()
        if step < 0.4:
            weight = chance.randint(1, size) if seed % 2 else 1
            call = Waiting(weight, chance.choice("ab"), now)
            made += 1
            waiting.append(call)
            queue.add(call)
        elif step < 0.5 and waiting:
            call = waiting.pop(chance.randrange(len(waiting)))
            assert queue.remove(call)
            assert not queue.remove(call)
        elif step < 0.7 and running:
            running -= 1
            queue.ended(now)
        else:
            due = queue.due()
            now = max(now, due) if due is not None and chance.random() < 0.5 else now + chance.random()
        while batch := queue.take(now):
            running += 1
            assert running <= most
            assert batch[0] is waiting[0], "the oldest call is in the next batch"
            assert len({one.group for one in batch}) == 1
            assert sum(one.item for one in batch) <= size if seed % 2 else len(batch) <= size
            kin = [one for one in waiting if one.group == batch[0].group]
            assert batch == kin[: len(batch)], "no call overtakes one of its group"
            is_full = len(kin) > len(batch) or sum(one.item for one in batch) >= size
            assert is_full or now >= batch[0].since + window
            waiting = [one for one in waiting if not any(one is other for other in batch)]
            served.update(map(id, batch))
        if running < most and waiting:
            assert queue.due() is not None
            assert queue.due() == waiting[0].since + window


def test_calls_gather_while_the_function_is_busy() -> None:
    queue = BatchQueue(4, 0.01)
    queue.add(Waiting(1, "", 0.0))
    assert queue.take(0.0) == []
    assert len(queue.take(0.01)) == 1
    for _ in range(6):
        queue.add(Waiting(1, "", 0.02))
    assert queue.take(100.0) == [], "the window is over, but the model is busy"
    queue.ended(100.0)
    assert len(queue.take(100.0)) == 4


def test_the_earliest_deadline_runs_first_and_then_the_oldest() -> None:
    queue = BatchQueue(2, 0.0)
    for item, deadline in (("a", 0.0), ("b", 9.0), ("c", 5.0), ("d", 0.0), ("e", 5.0)):
        queue.add(Waiting(item, "", 0.0, deadline))
    found = []
    while batch := queue.take(1.0):
        found.append([one.item for one in batch])
        queue.ended(1.0)
    assert found == [["c", "e"], ["b", "a"], ["d"]]


def test_an_urgent_call_does_not_prolong_the_window_of_an_older_one() -> None:
    queue = BatchQueue(4, 1.0)
    queue.add(Waiting("old", "", 0.0))
    queue.add(Waiting("urgent", "", 0.9, 2.0))
    assert queue.due() == 1.0
    assert queue.take(0.95) == []
    assert [one.item for one in queue.take(1.0)] == ["urgent", "old"]


class Model:
    """Its batches wait until they are let go."""

    def __init__(self) -> None:
        self.batches: list[list[Any]] = []
        self.go = asyncio.Event()

    @serve.batch(max_batch_size=4, batch_wait_timeout_s=0)
    async def square(self, numbers: list[int], plus: list[int]) -> list[Any]:
        self.batches.append(numbers)
        await self.go.wait()
        if 13 in numbers:
            raise ValueError("a bad batch")
        return [
            serve.BatchError(KeyError(number)) if number == 7 else number * number + more
            for number, more in zip(numbers, plus, strict=True)
        ]

    @serve.batch(max_batch_size=3, batch_wait_timeout_s=0)
    async def count(self, limits: list[int]) -> AsyncIterator[list[Any]]:
        for number in range(5):
            yield [number if number < limit else StopIteration for limit in limits]

    @serve.batch(max_batch_size=2, batch_wait_timeout_s=0)
    async def wrong(self, numbers: list[int]) -> list[int]:
        return [*numbers, 1]

    @serve.batch(max_batch_size=2, batch_wait_timeout_s=0)
    def plain(self, numbers: list[int]) -> list[int]:
        return [-number for number in numbers]


def test_one_bad_item_fails_alone() -> None:
    async def main() -> None:
        model = Model()
        calls = [asyncio.ensure_future(model.square(number, plus=1)) for number in (1, 2, 7, 3, 4)]
        await asyncio.sleep(0)
        model.go.set()
        found = await asyncio.gather(*calls, return_exceptions=True)
        assert [*found[:2], *found[3:]] == [2, 5, 10, 17]
        assert isinstance(found[2], KeyError)
        assert model.batches == [[1], [2, 7, 3, 4]]

    asyncio.run(main())


def test_an_exception_fails_its_batch_only() -> None:
    async def main() -> None:
        model = Model()
        model.go.set()
        first = asyncio.ensure_future(model.square(13, 0))
        await asyncio.sleep(0)
        second = asyncio.ensure_future(model.square(2, 0))
        with pytest.raises(ValueError, match="a bad batch"):
            await first
        assert await second == 4
        with pytest.raises(
            RayServeException, match="doesn't preserve batch size: it got 1 items and returned 2"
        ):
            await model.wrong(1)
        assert await asyncio.gather(model.plain(1), model.plain(2)) == [-1, -2]

    asyncio.run(main())


def test_cancelled_items_never_reach_the_model() -> None:
    async def main() -> None:
        model = Model()
        first = asyncio.ensure_future(model.square(1, 0))
        await asyncio.sleep(0)
        waiting = [asyncio.ensure_future(model.square(number, 0)) for number in (2, 3, 4)]
        await asyncio.sleep(0)
        waiting[1].cancel()
        await asyncio.sleep(0)
        model.go.set()
        assert await first == 1
        assert [await waiting[0], await waiting[2]] == [4, 16]
        assert model.batches == [[1], [2, 4]]

    asyncio.run(main())


def test_streams_end_one_by_one() -> None:
    async def main() -> None:
        model = Model()

        async def items(limit: int) -> list[int]:
            return [item async for item in model.count(limit)]

        assert await asyncio.gather(items(2), items(5), items(0)) == [[0, 1], [0, 1, 2, 3, 4], []]

    asyncio.run(main())


class Computing:
    """Writes down when batches begin and callers go on."""

    def __init__(self, holds_s: float) -> None:
        self.holds_s = holds_s
        self.order: list[str] = []

    @serve.batch(max_batch_size=2, batch_wait_timeout_s=0)
    async def run(self, items: list[int]) -> list[int]:
        self.order.append("begin")
        end = time.perf_counter() + self.holds_s
        while time.perf_counter() < end:
            pass
        await asyncio.sleep(0)
        return items

    async def call(self, item: int) -> None:
        await self.run(item)
        self.order.append("answer")


@pytest.mark.parametrize("holds_s, order", [
    (0.0, "begin begin answer begin answer answer answer answer"),
    (0.005, "begin answer begin answer answer begin answer answer"),
])  # fmt: skip
def test_the_next_batch_begins_before_the_answers_unless_it_holds_them_up(
    holds_s: float, order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not holds_s:  # so that it counts as brief on a busy machine, too
        monkeypatch.setattr(batching, "_BRIEF_S", 60.0)

    async def main() -> None:
        model = Computing(holds_s)
        await asyncio.gather(*map(model.call, range(5)))
        assert " ".join(model.order) == order

    asyncio.run(main())


def test_a_batched_function_waits_and_catches_like_any_coroutine() -> None:
    """Only its first step is timed."""

    class Careful:
        @serve.batch(max_batch_size=1)
        async def run(self, items: list[int]) -> list[Any]:
            loop = asyncio.get_running_loop()
            failing: asyncio.Future[None] = loop.create_future()
            loop.call_soon(failing.set_exception, KeyError(items[0]))
            try:
                await failing
            except KeyError:
                if items[0]:
                    raise
            return [await asyncio.sleep(0, "slept") + await asyncio.to_thread(str, items[0])]

    async def main() -> None:
        model = Careful()
        assert await model.run(0) == "slept0"
        with pytest.raises(KeyError, match="1"):
            await model.run(1)

    asyncio.run(main())


def test_sizes_change_at_run_time() -> None:
    async def main() -> None:
        model = Model()
        model.square.set_max_batch_size(2)
        calls = [asyncio.ensure_future(model.square(number, 0)) for number in range(5)]
        await asyncio.sleep(0)
        model.go.set()
        await asyncio.gather(*calls)
        assert model.batches == [[0], [1, 2], [3, 4]]

    asyncio.run(main())


@serve.batch(max_batch_size=3, batch_wait_timeout_s=0)
async def lengths(texts: list[str]) -> list[int]:
    return [*map(len, texts)]


def test_functions_too() -> None:
    async def main() -> None:
        assert await asyncio.gather(*(lengths("x" * n) for n in range(5))) == [0, 1, 2, 3, 4]

    asyncio.run(main())


def test_wrong_options() -> None:
    for options in ({"max_batch_size": 0}, {"batch_wait_timeout_s": -1}, {"max_concurrent_batches": 0}):
        with pytest.raises(ValueError, match="must be"):
            serve.batch(**options)
    with pytest.raises(TypeError):
        serve.batch(max_batch_size="2")
    with pytest.raises(TypeError, match="can only decorate functions"):
        serve.batch(max_batch_size=2)(3)


@serve.deployment(max_ongoing_requests=10)
class Urgent:
    """Batches of one that wait until they are let go."""

    def __init__(self) -> None:
        self.came = 0
        self.order: list[str] = []
        self.go = asyncio.Event()

    @serve.batch(max_batch_size=1, batch_wait_timeout_s=0)
    async def run(self, names: list[str]) -> list[str]:
        self.order += names
        await self.go.wait()
        return names

    async def __call__(self, request: Any) -> str:
        self.came += 1
        return await self.run(request.query_params["name"])


def test_requests_with_deadlines_overtake_others_in_a_replica(
    web: Web, wait_until: Callable[[Callable[[], object]], None]
) -> None:
    serve.run(Urgent.bind())
    name = DeploymentId("Urgent", "default")
    (replica,) = skate.get(controller().replicas.remote(name)).values()

    def came() -> int:
        count: int = skate.get(replica.__ray_call__.remote(lambda self: self._code.servable.came))
        return count

    with ThreadPoolExecutor(4) as threads:
        found = []
        for number, (path, headers) in enumerate(
            [
                ("first", {}),
                ("never", {}),
                ("later", {"x_request_timeout_seconds": "500"}),
                ("soon", {"x_request_timeout_seconds": "100"}),
            ]
        ):
            found.append(threads.submit(web, f"/?name={path}", **headers))
            wait_until(lambda: came() == number + 1)  # noqa: B023
        skate.get(replica.__ray_call__.remote(lambda self: self._code.servable.go.set()))
        assert [one.result().text for one in found] == ["first", "never", "later", "soon"]
    order = skate.get(replica.__ray_call__.remote(lambda self: self._code.servable.order))
    assert order == ["first", "soon", "later", "never"]
