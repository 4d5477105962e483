"""Queue: order, limits, blocking between processes, batches, coroutines, the end."""

from __future__ import annotations

import asyncio
import queue as standard
from typing import Any

import numpy
import pytest

import skate
from skate.exceptions import ActorDiedError
from skate.util.queue import Empty, Full, Queue

pytestmark = pytest.mark.usefixtures("runtime")


@pytest.fixture
def queue() -> Queue:
    return Queue()


@pytest.fixture
def small() -> Queue:
    return Queue(maxsize=2)


@skate.remote(num_cpus=0)
def put_all(queue: Queue, items: list[Any]) -> None:
    for item in items:
        queue.put(item)


@skate.remote(num_cpus=0)
def get_many(queue: Queue, count: int) -> list[Any]:
    return [queue.get() for _ in range(count)]


def waiting(queue: Queue) -> tuple[int, int]:
    """Return how many readers and writers wait."""
    look = queue.actor.__ray_call__.remote(
        lambda actor: (len(actor._readers._waiting), len(actor._writers._waiting))
    )
    return skate.get(look)


def until_waiting(queue: Queue, readers: int, writers: int) -> None:
    while waiting(queue) != (readers, writers):
        pass


def test_first_in_first_out(queue: Queue) -> None:
    for i in range(10):
        queue.put(i)
    assert queue.qsize() == queue.size() == len(queue) == 10
    assert [queue.get() for _ in range(10)] == list(range(10))
    assert queue.empty()


def test_any_item(queue: Queue) -> None:
    array = numpy.arange(100_000)
    for item in (None, array, lambda: 5, {"a": [1]}):
        queue.put(item)
    assert queue.get() is None
    assert (queue.get() == array).all()
    assert queue.get()() == 5
    assert queue.get() == {"a": [1]}


def test_refs(queue: Queue) -> None:
    queue.put(skate.put("value"))
    queue.put([skate.put("kept a ref")])
    assert queue.get() == "value"
    assert skate.get(queue.get()[0]) == "kept a ref"


def test_full_and_empty(small: Queue) -> None:
    assert small.empty()
    assert not small.full()
    small.put(1)
    small.put_nowait(2)
    assert small.full()
    with pytest.raises(Full):
        small.put_nowait(3)
    with pytest.raises(Full):
        small.put(3, block=False)
    with pytest.raises(Full, match=r"0\.01"):
        small.put(3, timeout=0.01)
    assert [small.get_nowait(), small.get()] == [1, 2]
    with pytest.raises(Empty):
        small.get_nowait()
    with pytest.raises(Empty):
        small.get(block=False)
    with pytest.raises(Empty, match=r"0\.01"):
        small.get(timeout=0.01)


def test_errors_are_those_of_the_standard_library() -> None:
    assert issubclass(Empty, standard.Empty)
    assert issubclass(Full, standard.Full)


def test_a_late_put_left_no_item(small: Queue) -> None:
    small.put_nowait_batch([1, 2])
    with pytest.raises(Full):
        small.put(3, timeout=0.01)
    assert small.get_nowait_batch(2) == [1, 2]
    assert small.empty()


def test_a_late_get_takes_no_item(queue: Queue) -> None:
    with pytest.raises(Empty):
        queue.get(timeout=0.01)
    queue.put(1)
    assert queue.get() == 1


@pytest.mark.parametrize("call", ["put", "get"])
def test_negative_timeout(queue: Queue, call: str) -> None:
    with pytest.raises(ValueError, match="timeout"):
        queue.put(1, timeout=-1) if call == "put" else queue.get(timeout=-1)
    assert queue.empty()


def test_batches(small: Queue) -> None:
    with pytest.raises(Full, match="room for 2 of these 3"):
        small.put_nowait_batch([1, 2, 3])
    assert small.empty()
    small.put_nowait_batch(iter([1, 2]))
    with pytest.raises(Empty, match="has 2 of the 3"):
        small.get_nowait_batch(3)
    assert small.get_nowait_batch(0) == []
    assert small.get_nowait_batch(2) == [1, 2]
    with pytest.raises(TypeError):
        small.get_nowait_batch("2")  # type: ignore[arg-type]
    with pytest.raises(ValueError):
        small.get_nowait_batch(-1)
    with pytest.raises(TypeError):
        small.put_nowait_batch(5)  # type: ignore[arg-type]


def test_between_tasks(small: Queue) -> None:
    reader = get_many.remote(small, 50)
    writer = put_all.remote(small, list(range(50)))
    skate.get(writer)
    assert skate.get(reader) == list(range(50))


def test_a_blocked_reader_gets_what_comes(queue: Queue) -> None:
    reader = get_many.remote(queue, 1)
    until_waiting(queue, 1, 0)
    queue.put("here")
    assert skate.get(reader) == ["here"]


def test_a_blocked_writer_comes_in_when_there_is_room(small: Queue) -> None:
    small.put_nowait_batch([1, 2])
    writer = put_all.remote(small, [3])
    until_waiting(small, 0, 1)
    assert small.qsize() == 2
    assert [small.get(), small.get(), small.get()] == [1, 2, 3]
    skate.get(writer)


def test_whoever_waits_longest_is_served_first(queue: Queue) -> None:
    readers = []
    for count in range(1, 5):
        readers.append(get_many.remote(queue, 1))
        until_waiting(queue, count, 0)
    queue.put_nowait_batch(range(4))
    assert skate.get(readers) == [[0], [1], [2], [3]]


def test_many_waiting_readers_do_not_keep_a_writer_out(queue: Queue) -> None:
    # More than the calls that an async actor runs at a time by default.
    refs = [queue.actor.get.remote(None) for _ in range(1200)]
    queue.put_nowait_batch(range(1200))
    assert skate.get(refs) == list(range(1200))


def test_the_queue_of_many_copies_is_one(queue: Queue) -> None:
    @skate.remote(num_cpus=0)
    class Holder:
        def __init__(self, queue: Queue) -> None:
            self.queue = queue

        def add(self, item: Any) -> None:
            self.queue.put(item)

    holders = [Holder.remote(queue) for _ in range(2)]
    skate.get([holder.add.remote(i) for i, holder in enumerate(holders)])
    assert sorted(queue.get_nowait_batch(2)) == [0, 1]


def test_coroutines(small: Queue) -> None:
    async def main() -> list[int]:
        async def produce() -> None:
            for i in range(20):
                await small.put_async(i)

        async def consume() -> list[int]:
            return [await small.get_async() for _ in range(20)]

        got, _ = await asyncio.gather(consume(), produce())
        with pytest.raises(Empty):
            await small.get_async(timeout=0.01)
        with pytest.raises(Empty):
            await small.get_async(block=False)
        await small.put_async(1)
        await small.put_async(2, block=False)
        with pytest.raises(Full):
            await small.put_async(3, timeout=0.01)
        with pytest.raises(Full):
            await small.put_async(3, block=False)
        with pytest.raises(ValueError, match="timeout"):
            await small.put_async(3, timeout=-1)
        return got

    assert asyncio.run(main()) == list(range(20))


def test_a_cancelled_reader_loses_no_item(queue: Queue) -> None:
    async def main() -> None:
        reader = asyncio.ensure_future(queue.get_async())
        await asyncio.sleep(0)
        until_waiting(queue, 1, 0)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader

    asyncio.run(main())
    queue.put("precious")
    assert queue.get() == "precious"


def test_options_of_the_actor() -> None:
    queue = Queue(actor_options={"name": "the queue", "max_concurrency": 5})
    queue.put(3)
    assert skate.get(skate.get_actor("the queue").size.remote()) == 1


@pytest.mark.parametrize("force", [False, True])
def test_shutdown(force: bool) -> None:
    queue = Queue()
    reader = get_many.remote(queue, 1)
    until_waiting(queue, 1, 0)
    queue.shutdown(force=force)
    with pytest.raises(ActorDiedError):
        skate.get(reader)
    with pytest.raises(RuntimeError, match="shut down"):
        queue.put(1)
    queue.shutdown()
