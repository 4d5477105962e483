"""Who waits for shared memory, for what, and in which order they are served."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from skate._store.admission import (
    Admission,
    Allocation,
    AskToTrim,
    Command,
    GrantExtent,
    GrantOnDisk,
    MakeRoom,
    Refuse,
)
from skate._store.allocator import Extent
from skate._store.table import StoreTable

from ..effort import effort

MIB = 1 << 20
#: Of the store here.
CAPACITY = 4 * MIB
EVERYBODY = [b"a", b"b", b"c"]


class Store:
    """A store whose commands are carried out at once; nothing comes free by itself."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.table = StoreTable(capacity)
        self.admission = Admission(self.table)
        self.granted: list[tuple[bytes, Extent]] = []
        self.on_disk: list[bytes] = []
        self.refused: list[bytes] = []
        self.asked: list[bytes] = []
        self.relieved: list[int] = []
        #: Something is under way that may free memory.
        self.moving = False
        self.gave_up = 0

    def run(self, commands: list[Command]) -> None:
        pending = deque(commands)
        while pending:
            command = pending.popleft()
            if isinstance(command, GrantExtent):
                self.granted.append((command.allocation.process, command.grant.extent))
            elif isinstance(command, GrantOnDisk):
                self.on_disk.append(command.allocation.process)
            elif isinstance(command, Refuse):
                self.refused.append(command.allocation.process)
            elif isinstance(command, AskToTrim):
                self.asked += command.processes
            elif isinstance(command, MakeRoom):
                self.relieved.append(command.size)
                pending.extend(self.admission.room_made(self.moving))
            else:
                self.gave_up += 1

    def wants(self, process: bytes, size: int = 3 * MIB, request: int = 1) -> None:
        self.run(self.admission.allocate(Allocation(process, request, size), EVERYBODY))

    def answers(self, process: bytes) -> None:
        self.run(self.admission.returned(process))

    def gives_back(self, index: int = 0) -> None:
        """One that was granted an extent returns it."""
        process, extent = self.granted.pop(index)
        self.table.give_back(process, extent.segment, extent.offset)
        self.answers(process)

    def has(self) -> list[bytes]:
        return [process for process, _ in self.granted]


@pytest.fixture
def store() -> Store:
    """One whose memory is in use, by process a."""
    store = Store()
    store.wants(b"a")
    assert store.has() == [b"a"] and not store.admission.waiting
    assert store.relieved == [0], "some slack is made for the next"
    return store


# ---------------------------------------------------------------------- waiting for what may come


def test_all_are_asked_for_what_they_keep(store: Store) -> None:
    store.wants(b"b")
    assert store.asked == EVERYBODY
    assert store.relieved[1:] == [3 * MIB], "and objects begin to move"
    assert store.admission.waiting and store.has() == [b"a"]


def test_it_is_granted_when_memory_is_returned(store: Store) -> None:
    store.wants(b"b")
    store.gives_back()
    assert store.has() == [b"b"] and not store.admission.waiting


def test_it_is_granted_when_memory_comes_free(store: Store) -> None:
    store.wants(b"b")
    _, extent = store.granted.pop()
    store.table.give_back(b"a", extent.segment, extent.offset)
    store.run(store.admission.freed())
    assert store.has() == [b"b"]


def test_it_goes_to_disk_when_nothing_more_can_come(store: Store) -> None:
    store.wants(b"b")
    for process in EVERYBODY:
        assert store.on_disk == []
        store.answers(process)
    assert store.on_disk == [b"b"] and not store.admission.waiting


def test_not_while_objects_are_on_their_way_to_disk(store: Store) -> None:
    store.moving = True
    store.wants(b"b")
    for process in EVERYBODY:
        store.answers(process)
    assert store.on_disk == [] and store.admission.waiting
    store.moving = False
    store.run(store.admission.freed())  # the last copy failed
    assert store.on_disk == [b"b"]


def test_a_process_that_ends_has_answered(store: Store) -> None:
    store.wants(b"b")
    store.answers(b"b")
    store.answers(b"c")
    for process, extent in store.granted:
        store.table.give_back(process, extent.segment, extent.offset)
    store.run(store.admission.ended(b"a"))
    assert store.has() == [b"a", b"b"]


def test_one_that_hangs_up_wants_nothing_any_more(store: Store) -> None:
    store.wants(b"b")
    store.wants(b"c", size=MIB // 2)
    store.run(store.admission.disconnected(b"b"))
    assert store.has() == [b"a", b"c"], "the one behind is served"
    assert not store.admission.waiting


# ---------------------------------------------------------------------- order


def test_a_small_one_does_not_overtake_a_large_one(store: Store) -> None:
    """Or a large one would wait for ever while small ones take what comes free."""
    store.wants(b"b")
    store.wants(b"c", size=MIB // 2)
    assert store.has() == [b"a"]
    assert store.relieved[-1] == 3 * MIB + MIB // 2, "room for all that wait"
    store.gives_back()
    assert store.has() == [b"b", b"c"]


def test_those_behind_are_served_when_the_first_goes_to_disk(store: Store) -> None:
    store.wants(b"b")
    store.wants(b"c", size=MIB // 2)
    for process in EVERYBODY:
        store.answers(process)
    assert (store.on_disk, store.has()) == ([b"b"], [b"a", b"c"])


def test_very_many_go_to_disk_one_after_the_other(store: Store) -> None:
    for number in range(3000):
        store.wants(b"w%d" % number)
    for process in EVERYBODY:
        store.answers(process)
    assert store.on_disk == [b"w%d" % number for number in range(3000)]


def test_what_no_memory_could_hold_is_written_to_disk_at_once(store: Store) -> None:
    store.wants(b"b", size=CAPACITY + 1)
    assert store.on_disk == [b"b"] and store.asked == []


def test_ahead_of_need_is_not_at_the_expense_of_others(store: Store) -> None:
    store.wants(b"b", request=0)
    assert store.refused == [b"b"] and store.asked == []
    store.wants(b"b")
    store.wants(b"c", size=4096, request=0)
    assert store.refused == [b"b", b"c"], "others wait"
    store.gives_back()
    store.wants(b"c", size=4096, request=0)
    assert store.has() == [b"b", b"c"]


# ---------------------------------------------------------------------- processes that do not answer


def test_stopped_processes_hold_up_nobody_for_long(store: Store) -> None:
    store.wants(b"b")
    store.answers(b"a")
    store.answers(b"c")
    store.run(store.admission.timed_out())
    assert (store.on_disk, store.gave_up) == ([b"b"], 1)


def test_nobody_waits_for_a_stopped_process_a_second_time(store: Store) -> None:
    store.wants(b"b")
    store.answers(b"a")
    store.answers(b"c")
    store.run(store.admission.timed_out())
    store.asked.clear()
    store.wants(b"c")
    assert store.asked == [b"a", b"c"]
    store.answers(b"a")
    store.answers(b"c")
    assert store.on_disk == [b"b", b"c"]
    store.answers(b"b")  # it goes on
    store.asked.clear()
    store.wants(b"c")
    assert store.asked == EVERYBODY


def test_a_timeout_while_nobody_waits_changes_nothing(store: Store) -> None:
    assert store.admission.timed_out() == []


def test_time_runs_on_while_objects_are_being_copied(store: Store) -> None:
    store.moving = True
    store.wants(b"b")
    store.run(store.admission.timed_out())
    assert store.admission.waiting and store.gave_up == 1


# ---------------------------------------------------------------------- everything at random


class Anything(RuleBasedStateMachine):
    """Processes want, return, answer, stop and hang up in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.store = Store()
        self.wanted: list[tuple[bytes, int]] = []  # in their order, none that hung up
        self.last = 0

    def served(self) -> int:
        return len(self.store.granted) + len(self.store.on_disk) + self.returned

    returned = 0

    @rule(size=st.integers(1, CAPACITY + MIB))
    def wants(self, size: int) -> None:
        self.last += 1
        process = b"p%d" % self.last
        self.wanted.append((process, size))
        self.store.run(self.store.admission.allocate(Allocation(process, 1, size), self.processes()))

    def processes(self) -> list[bytes]:
        return [b"p%d" % number for number in range(1, self.last + 1)]

    @precondition(lambda self: self.store.granted)
    @rule(data=st.data())
    def gives_back(self, data: st.DataObject) -> None:
        self.returned += 1
        self.store.gives_back(data.draw(st.integers(0, len(self.store.granted) - 1)))

    @precondition(lambda self: self.last)
    @rule(data=st.data())
    def answers(self, data: st.DataObject) -> None:
        self.store.answers(data.draw(st.sampled_from(self.processes())))

    @rule(moving=st.booleans())
    def moves(self, moving: bool) -> None:
        self.store.moving = moving
        self.store.run(self.store.admission.freed())

    @rule()
    def time_passes(self) -> None:
        self.store.run(self.store.admission.timed_out())
        assert self.store.moving or not self.store.admission.waiting

    @invariant()
    def the_first_one_waits_for_something(self) -> None:
        queue = self.store.admission._queue
        assert self.served() + len(queue) == len(self.wanted), "each is served once, or waits"
        if queue:
            first = queue[0]
            assert first.asked or self.store.moving, "it waits for nothing"
            order = [process for process, _ in self.wanted]
            waiting = [one.allocation.process for one in queue]
            assert waiting == [one for one in order if one in waiting], "in their order"
            grant = self.store.table.allocate(first.allocation.process, first.allocation.size)
            assert grant is None, "it waits for what is free"


TestAnything = Anything.TestCase
TestAnything.settings = effort(60)
