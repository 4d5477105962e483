"""Shared memory on a played machine: extents, seals, pins, and what is done when there is no room."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from skate._node.objects.copier import Outcome
from skate._store.allocator import DISK
from skate._wire import node

from ..machines import DRIVER, Node, Socket, Worker, playing

MIB = 1 << 20
SIZE = 600 * 1024


def name(number: int) -> bytes:
    """An object of the driver."""
    return DRIVER + number.to_bytes(8, "little")


class Store:
    """A driver and a worker, and a store of 1 MiB."""

    def __init__(self) -> None:
        self.here = Node(1, 0, 20)
        self.here.settle()
        self.worker = next(iter(self.here.played.values()))
        self.here.driver.heard.clear()

    @property
    def driver(self) -> Socket:
        return self.here.driver

    def say(self, message: Any, process: Worker | None = None) -> list[Any]:
        """Return what the process hears then."""
        socket = process.socket if process is not None else self.driver
        socket.heard.clear()
        socket.said.append(message)
        socket.drain()
        return list(socket.heard)

    def allocate(self, size: int, process: Worker | None = None) -> node.Extent:
        (extent,) = [one for one in self.say(node.Allocate(1, size), process) if isinstance(one, node.Extent)]
        return extent

    def put(self, number: int, size: int = SIZE, process: Worker | None = None) -> node.Extent:
        extent = self.allocate(size, process)
        assert not extent.error, extent.error
        self.say(node.Seal(name(number), extent.segment, extent.offset, size, "bytes"), process)
        return extent

    def heard(self, kind: type[Any], socket: Socket | None = None) -> list[Any]:
        return [one for one in (socket or self.driver).heard if isinstance(one, kind)]

    def copied(self, error: OSError | None = None) -> None:
        """The thread is through with what it was given."""
        copier = self.here.machine.effects.copier
        outcomes: list[Outcome] = [(copy.target, error) for copy in self.here.machine.copies]
        self.here.machine.copies.clear()
        copier.has_outcomes = True  # type: ignore[misc]
        copier.take_outcomes = lambda: outcomes  # type: ignore[method-assign]
        self.here.daemon.spilling.collect()
        copier.has_outcomes = False  # type: ignore[misc]


@pytest.fixture
def store(tmp_path: Any) -> Iterator[Store]:
    with playing():
        store = Store()
        store.here.daemon.spilling._folder = str(tmp_path)
        yield store


# ---------------------------------------------------------------------- room


def test_the_descriptor_of_a_segment_comes_along_once(store: Store) -> None:
    first, second = store.allocate(1000), store.allocate(1000)
    assert first.has_fd and not second.has_fd and first.segment == second.segment
    assert store.allocate(1000, store.worker).has_fd, "another process has not got it"
    store.say(node.SegmentMissed(first.segment))
    assert store.allocate(1000).has_fd


def test_ahead_of_need_there_is_an_answer_at_once(store: Store) -> None:
    store.put(1)
    (extent,) = store.say(node.Allocate(0, SIZE))
    assert extent.error == "full"


def test_what_is_kept_is_called_in(store: Store) -> None:
    kept = store.allocate(SIZE)
    assert store.say(node.Allocate(2, SIZE), store.worker) == [node.TrimExtents()]
    assert store.heard(node.TrimExtents), "everybody is asked"
    store.say(node.ReturnExtents([(kept.segment, kept.offset)]))
    (extent,) = store.heard(node.Extent, store.worker.socket)
    assert (extent.request, extent.error) == (2, "")


def test_objects_move_to_disk_when_their_owner_is_ready(store: Store) -> None:
    store.put(1)
    store.say(node.Allocate(2, SIZE), store.worker)
    (ask,) = store.heard(node.PrepareMove)
    assert ask.object_ids == [name(1)]
    store.say(node.Prepared([name(1)]))
    assert not store.heard(node.Extent, store.worker.socket), "it is being copied"
    store.copied()
    (extent,) = store.heard(node.Extent, store.worker.socket)
    assert (extent.request, extent.error) == (2, "")
    (pinned,) = store.say(node.Pin(3, name(1)))
    assert pinned.segment != extent.segment and pinned.size == SIZE, "it is read from the file"


def test_when_the_disk_takes_nothing_the_creator_is_refused(store: Store) -> None:
    store.put(1)
    store.say(node.Allocate(2, SIZE), store.worker)
    store.say(node.ReturnExtents([]))
    store.say(node.Prepared([name(1)]))
    store.here.daemon.store.disk.capacity = 0
    store.here.daemon.spilling.look_for_room = lambda *, insist=False: None  # type: ignore[method-assign]
    store.copied(OSError(28, "No space left on device"))
    store.worker.socket.said.append(node.ReturnExtents([]))
    store.worker.socket.drain()
    (answer,) = store.heard(node.Extent, store.worker.socket)
    assert (answer.request, answer.size) == (2, 0) and "does not fit" in answer.error
    (event,) = [one for one in store.here.daemon.context.events if one["source_type"] == "OBJECT_STORE"]
    assert "No space left on device" in event["message"]


def test_a_stopped_process_holds_nobody_up_for_long(store: Store) -> None:
    store.allocate(SIZE)
    store.say(node.Allocate(2, SIZE), store.worker)
    store.say(node.ReturnExtents([]), store.worker)  # the driver does not answer
    store.here.time_passes()
    store.worker.socket.drain()
    (extent,) = store.heard(node.Extent, store.worker.socket)
    assert extent.request == 2 and extent.segment >= DISK, "it writes to disk"


def test_a_process_that_hangs_up_is_granted_nothing(store: Store) -> None:
    kept = store.allocate(SIZE)
    store.say(node.Allocate(2, SIZE), store.worker)
    store.here.crash(store.worker)
    store.worker.socket.drain()
    assert not store.here.daemon.objects._admission.waiting
    store.say(node.ReturnExtents([(kept.segment, kept.offset)]))
    assert store.worker.id not in store.here.daemon.store.held


# ---------------------------------------------------------------------- pins


def test_a_pin_waits_for_its_seal(store: Store) -> None:
    extent = store.allocate(SIZE, store.worker)
    assert store.say(node.Pin(5, name(1))) == []
    store.say(node.Seal(name(1), extent.segment, extent.offset, SIZE, "bytes"), store.worker)
    (pinned,) = store.heard(node.Pinned)
    assert (pinned.request, pinned.error, pinned.size) == (5, "", SIZE)


def test_a_pin_of_what_is_never_sealed_is_answered(store: Store) -> None:
    assert store.say(node.Pin(5, name(1))) == []
    store.here.time_passes()
    (pinned,) = store.heard(node.Pinned)
    assert pinned.error == "the node's store does not have it (any more)"


def test_a_pin_that_is_over_before_its_seal_is_not_answered(store: Store) -> None:
    extent = store.allocate(SIZE, store.worker)
    store.say(node.Pin(5, name(1)))
    store.say(node.Unpin(name(1)))
    store.say(node.Seal(name(1), extent.segment, extent.offset, SIZE, "bytes"), store.worker)
    assert not store.heard(node.Pinned)
    assert store.here.daemon.store.objects[name(1)].pins == set()


def test_the_memory_of_a_freed_object_goes_to_the_next(store: Store) -> None:
    store.put(1)
    store.say(node.Allocate(2, SIZE), store.worker)
    store.say(node.Free([name(1)], False))
    (extent,) = store.heard(node.Extent, store.worker.socket)
    assert not extent.error


def test_what_a_dead_process_read_and_wrote_is_free(store: Store) -> None:
    store.put(1)
    store.say(node.Pin(1, name(1)), store.worker)
    store.allocate(1000, store.worker)
    store.say(node.Free([name(1)], False))
    assert name(1) in store.here.daemon.store.objects, "it is read"
    store.here.crash(store.worker)
    store.here.settle()
    assert store.here.daemon.store.objects == {}
    assert store.here.daemon.store.allocator.used == 0


def test_objects_are_lost_on_request_of_a_test(store: Store) -> None:
    store.put(1)
    store.say(node.Lose([name(1)]))
    (ask,) = store.heard(node.PrepareMove)
    assert ask.object_ids == [name(1)] and name(1) in store.here.daemon.store.objects
    store.say(node.Prepared([name(1)]))
    assert name(1) not in store.here.daemon.store.objects
