"""Readers of a queue that die, or that give up: an item is returned once, or goes to the next reader."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

import skate
from skate.exceptions import ActorDiedError, WorkerCrashedError
from skate.util import _queue_readers
from skate.util._queue_readers import Handed, Reader
from skate.util.queue import Empty, Queue


@pytest.fixture
def queue(runtime: None) -> Queue:
    return Queue()


@skate.remote(num_cpus=0)
class Process:
    """A process that reads, and dies where it is told to."""

    def get(self, queue: Queue) -> Any:
        return queue.get()

    def die_before_returning(self, queue: Queue, take: str, *args: Any) -> None:
        mine = _queue_readers.this_process()
        mine.returned = lambda ticket: os.kill(os.getpid(), signal.SIGKILL)
        getattr(queue, take)(*args)

    def die_after_returning(self, queue: Queue, take: str, *args: Any) -> None:
        getattr(queue, take)(*args)
        os.kill(os.getpid(), signal.SIGKILL)

    def die_busy(self, queue: Queue) -> None:
        """Die with the item here, but not yet given to the coroutine that waits for it."""

        async def main() -> None:
            task = asyncio.ensure_future(queue.get_async())
            await asyncio.sleep(0)
            queue.put("item")  # its reply comes behind that of the get, on the same connection
            assert not task.done()
            os.kill(os.getpid(), signal.SIGKILL)

        asyncio.run(main())

    def cancel_busy(self, queue: Queue) -> None:
        """The same, cancelled in place of dying."""

        async def main() -> None:
            task = asyncio.ensure_future(queue.get_async())
            await asyncio.sleep(0)
            queue.put("item")
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(main())

    def alarm(self, queue: Queue) -> str:
        """A signal handler ends the wait with an exception of its own."""

        def handler(*_: object) -> None:
            raise TimeoutError("mine")

        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        try:
            queue.get()
        except TimeoutError as error:
            return str(error)
        return "no alarm"


def waiting(queue: Queue) -> int:
    return skate.get(queue.actor.__ray_call__.remote(lambda actor: len(actor._readers._waiting)))


def until_waiting(queue: Queue, readers: int) -> None:
    while waiting(queue) != readers:
        pass


def until_gone(queue: Queue) -> None:
    while not skate.get(queue.actor.__ray_call__.remote(lambda actor: len(actor._handed._gone))):
        pass


def dies(ref: Any) -> None:
    with pytest.raises((ActorDiedError, WorkerCrashedError)):
        skate.get(ref)


def test_a_reader_that_waits_and_dies_leaves_the_line(queue: Queue) -> None:
    first, second = Process.remote(), Process.remote()
    first.get.remote(queue)
    until_waiting(queue, 1)
    taken = second.get.remote(queue)
    until_waiting(queue, 2)
    skate.kill(first)
    until_waiting(queue, 1)
    queue.put("item")
    assert skate.get(taken) == "item"


@pytest.mark.parametrize("take", [("get",), ("get", False), ("get_nowait_batch", 2)])
def test_what_was_not_returned_goes_to_the_next(queue: Queue, take: tuple[Any, ...]) -> None:
    queue.put_nowait_batch([1, 2, 3])
    dies(Process.remote().die_before_returning.remote(queue, *take))
    until_gone(queue)
    assert [queue.get() for _ in range(3)] == [1, 2, 3]
    assert queue.empty()


@pytest.mark.parametrize("take", [("get",), ("get", False), ("get_nowait_batch", 1)])
def test_what_was_returned_does_not_come_again(queue: Queue, take: tuple[Any, ...]) -> None:
    queue.put_nowait_batch([1, 2, 3])
    dies(Process.remote().die_after_returning.remote(queue, *take))
    until_gone(queue)
    assert [queue.get() for _ in range(2)] == [2, 3]
    assert queue.empty()


def test_it_goes_to_a_reader_that_waits(queue: Queue) -> None:
    dying = Process.remote().die_before_returning.remote(queue, "get")
    until_waiting(queue, 1)
    other = Process.remote().get.remote(queue)
    until_waiting(queue, 2)
    queue.put("item")
    dies(dying)
    assert skate.get(other) == "item"


def test_a_coroutine_that_has_not_run_since(queue: Queue) -> None:
    dies(Process.remote().die_busy.remote(queue))
    assert queue.get(timeout=3600) == "item"


def test_a_coroutine_that_is_cancelled_with_its_item_there(queue: Queue) -> None:
    process = Process.remote()
    skate.get(process.cancel_busy.remote(queue))
    assert queue.get(timeout=3600) == "item"
    dies(process.die_after_returning.remote(queue, "size"))
    until_gone(queue)
    assert queue.empty()


def test_a_handler_that_raises_loses_nothing(queue: Queue) -> None:
    process = Process.remote()
    assert skate.get(process.alarm.remote(queue)) == "mine"
    until_waiting(queue, 0)
    queue.put("item")
    assert queue.get() == "item"


def test_timeouts_leave_nothing_behind(queue: Queue) -> None:
    for _ in range(3):
        with pytest.raises(Empty):
            queue.get(timeout=0.01)
    assert waiting(queue) == 0
    queue.put("item")
    assert queue.get(timeout=3600) == "item"


def test_an_item_that_cannot_be_unpickled_is_an_error_once(queue: Queue) -> None:
    queue.put(Poison(1))
    queue.put("item")
    with pytest.raises(Exception, match="poison"):
        queue.get()
    assert queue.get() == "item"


class Poison:
    """Can be unpickled as often as it says."""

    def __init__(self, times: int) -> None:
        self.times = times

    def __reduce__(self) -> Any:
        return (Poison, (self.times - 1,)) if self.times else (fail, ())


def fail() -> None:
    raise ValueError("poison")


@skate.remote(num_cpus=0, max_retries=0)
def read(queue: Queue, path: str, pids: Queue) -> None:
    pids.put(os.getpid())
    while True:
        item = queue.get()
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(fd, b"%d\n" % item)
        os.close(fd)


def test_readers_killed_at_any_time(queue: Queue, tmp_path: Path) -> None:
    """No item twice; lost are only those that a reader had returned and had not written down."""
    pids, path, kills, items = Queue(), str(tmp_path / "read"), 12, 1200
    pending = [read.remote(queue, path, pids) for _ in range(3)]
    for i in range(kills):
        queue.put_nowait_batch(range(i * items // kills, (i + 1) * items // kills))
        pid = pids.get()
        os.kill(pid, signal.SIGKILL)
        pending.append(read.remote(queue, path, pids))
    for _ in range(3):
        os.kill(pids.get(), signal.SIGKILL)
    for ref in pending:
        dies(ref)
    until_waiting(queue, 0)
    while skate.get(queue.actor.__ray_call__.remote(lambda actor: bool(actor._handed._out))):
        pass
    written = [int(line) for line in Path(path).read_text().split()] if os.path.exists(path) else []
    left = queue.get_nowait_batch(queue.size())
    seen = written + left
    assert len(seen) == len(set(seen))
    assert items - (kills + 3) <= len(seen) <= items


# --------------------------------------------------------------------------- the table


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    return Reader(b"r", str(tmp_path))


@pytest.fixture
def handed(tmp_path: Path) -> Handed:
    return Handed(str(tmp_path))


def test_unreturned_items_come_back_in_order(reader: Reader, handed: Handed) -> None:
    tickets = [reader.ticket() for _ in range(3)]
    for ticket, items in zip(tickets, (["a"], ["b", "c"], ["d"]), strict=True):
        handed.note(ticket, items)
    reader.returned(tickets[0])
    assert handed.left(b"r") == ["b", "c", "d"]
    assert handed.left(b"r") == []
    assert handed.is_gone(tickets[0])


def test_a_slot_is_used_again(reader: Reader, handed: Handed) -> None:
    first = reader.ticket()
    handed.note(first, ["a"])
    reader.returned(first)
    second = reader.ticket()
    assert second[1] == first[1]
    handed.note(second, ["b"])
    assert handed.left(b"r") == ["b"]


def test_what_is_returned_is_let_go(reader: Reader, handed: Handed) -> None:
    ticket = reader.ticket()
    handed.note(ticket, ["a"])
    assert handed.sweep()
    reader.returned(ticket)
    assert not handed.sweep()


def test_taking_back(reader: Reader, handed: Handed) -> None:
    ticket = reader.ticket()
    assert handed.take_back(ticket) is None
    handed.note(ticket, ["a"])
    assert handed.take_back((*ticket[:2], ticket[2] + 1)) is None
    assert handed.take_back(ticket) == ["a"]
    assert handed.left(b"r") == []


def test_readers_without_a_file_are_not_followed(handed: Handed) -> None:
    handed.note((b"unknown", 0, 1), ["a"])
    assert not handed.sweep()
    assert handed.left(b"unknown") == []


def test_more_gets_than_slots(reader: Reader, handed: Handed) -> None:
    reader._free = []
    ticket = reader.ticket()
    assert ticket == _queue_readers.UNTRACKED
    reader.returned(ticket)
    handed.note(ticket, ["a"])
    assert reader.ticket() == _queue_readers.UNTRACKED
