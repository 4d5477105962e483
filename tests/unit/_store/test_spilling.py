"""What is read stays where it is, what moves is whole, and in the end memory and disk are empty."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from skate._store.allocator import DISK, PAGE, Extent
from skate._store.spilling import Ask, Command, Copy, Spilling
from skate._store.table import StoreTable

from ..effort import effort
from .test_table import A, B, create, object_of

CAPACITY = 16 * PAGE


def full(disk: int = 1 << 40) -> tuple[StoreTable, Spilling, list[bytes]]:
    """Return a store of 16 objects of A, all of its memory in use."""
    table = StoreTable(CAPACITY)
    table.disk.capacity = disk
    names = [object_of(A, number) for number in range(1, 17)]
    for name in names:
        create(table, A, name)
    return table, Spilling(table), names


def asked(commands: list[Command]) -> dict[bytes, list[bytes]]:
    return {one.owner: one.object_ids for one in commands if isinstance(one, Ask)}


def copies(commands: list[Command]) -> list[Copy]:
    return [one for one in commands if isinstance(one, Copy)]


def test_the_oldest_leave_as_many_as_are_needed() -> None:
    table, spilling, names = full()
    assert asked(spilling.relieve(3 * PAGE)) == {A: names[:5]}  # and a slack of two
    assert spilling.is_busy
    commands = spilling.prepared(A, names[:5])
    assert [one.source.offset for one in copies(commands)] == [PAGE * index for index in range(5)]
    for one in copies(commands):
        assert one.target.segment >= DISK
        spilling.copied(one.target, failed=False)
    assert not spilling.is_busy
    assert table.allocator.used == 11 * PAGE
    assert table.bytes_of_objects(on_disk=True) == table.disk.used == 5 * PAGE
    for name in names:
        table.free(name)
    assert table.allocator.used == table.disk.used == 0


def test_what_is_under_way_is_not_asked_again() -> None:
    _, spilling, names = full()
    spilling.relieve(2 * PAGE)
    assert spilling.relieve(2 * PAGE) == []
    assert asked(spilling.relieve(3 * PAGE)) == {A: names[4:5]}


def test_what_is_pinned_stays() -> None:
    table, spilling, names = full()
    for name in names[1:]:
        table.pin(B, name)
    assert asked(spilling.relieve(CAPACITY)) == {A: names[:1]}
    table.unpin(B, names[7])
    assert asked(spilling.relieve(CAPACITY)) == {A: [names[7]]}


def test_the_owner_pinned_it_before_it_answered() -> None:
    table, spilling, names = full()
    spilling.relieve(0)
    table.pin(A, names[0])
    commands = spilling.prepared(A, names[:2])
    assert [one.source for one in copies(commands)] == [table.objects[names[1]].extent]
    # When it has read it, it may go, and nobody is asked again.
    table.unpin(A, names[0])
    commands = spilling.relieve(CAPACITY)
    assert [one.source for one in copies(commands)] == [table.objects[names[0]].extent]
    assert asked(commands) == {A: names[2:]}


@pytest.mark.parametrize("how", ["pinned", "failed"])
def test_a_copy_that_does_not_count(how: str) -> None:
    table, spilling, names = full()
    spilling.relieve(0)
    copy, other = copies(spilling.prepared(A, names[:2]))
    place = table.objects[names[0]].extent
    if how == "pinned":
        table.pin(B, names[0])
    spilling.copied(copy.target, failed=how == "failed")
    assert table.objects[names[0]].extent == place
    assert table.disk.used == PAGE
    assert (names[0] in table.movable) == (how == "failed")
    spilling.copied(other.target, failed=False)
    assert table.objects[names[1]].extent == other.target


@pytest.mark.parametrize("when", ["asked", "copying"])
@pytest.mark.parametrize("how", ["freed", "ended"])
def test_an_object_that_is_gone_meanwhile(when: str, how: str) -> None:
    table, spilling, names = full()
    spilling.relieve(0)
    commands = spilling.prepared(A, names[:2]) if when == "copying" else []
    if how == "freed":
        table.free(names[0])
        table.free(names[1])
        if when == "asked":
            assert spilling.prepared(A, names[:2]) == []
    else:
        table.process_ended(A)
        spilling.owner_ended(A)
    for one in copies(commands):
        spilling.copied(one.target, failed=False)
    assert not spilling.is_busy
    assert table.disk.used == 0
    assert table.allocator.used == (14 * PAGE if how == "freed" else 0)


def test_written_again_by_a_retry_while_it_is_copied() -> None:
    table, spilling, names = full()
    spilling.relieve(0)
    commands = copies(spilling.prepared(A, names[:2]))
    table.free(names[5])
    again = create(table, B, names[0])
    for one in commands:
        spilling.copied(one.target, failed=False)
    assert table.objects[names[0]].extent == again
    assert table.disk.used == PAGE


def test_a_disk_without_room_ends_it() -> None:
    table, spilling, names = full(disk=2 * PAGE)
    spilling.relieve(2 * PAGE)
    commands = copies(spilling.prepared(A, names[:4]))
    assert len(commands) == 2
    for one in commands:
        spilling.copied(one.target, failed=False)
    # Two more could go, if there were room.
    assert spilling.relieve(PAGE) == []
    assert not spilling.is_busy
    table.disk.capacity = 3 * PAGE
    assert asked(spilling.relieve(PAGE)) == {A: names[4:5]}


def test_an_owner_that_does_not_answer() -> None:
    table, spilling, names = full()
    spilling.relieve(0)
    spilling.give_up()
    assert not spilling.is_busy
    table.free(names[15])
    create(table, B, object_of(B))
    # Nothing of it is asked for, while it is silent; others are.
    assert asked(spilling.relieve(0)) == {B: [object_of(B)]}
    # It was only slow: its word counts from then on.
    assert spilling.prepared(A, names[:2]) == []
    assert table.objects[names[0]].by_request
    commands = spilling.relieve(PAGE * 4)
    assert [one.source for one in copies(commands)] == [table.objects[name].extent for name in names[:2]]
    assert asked(commands) == {A: names[2:5]}


def test_only_the_owner_can_answer() -> None:
    table, spilling, names = full()
    spilling.relieve(0)
    assert spilling.prepared(B, names[:2]) == []
    assert not table.objects[names[0]].by_request


class SpillingMachine(RuleBasedStateMachine):
    """Objects with contents: whoever reads finds what was written, wherever it lies by then."""

    def __init__(self) -> None:
        super().__init__()
        self.table = StoreTable(CAPACITY)
        self.spilling = Spilling(self.table)
        self.table.disk.capacity = 40 * PAGE
        #: Places to contents, as the memory and the files would have them.
        self.bytes: dict[tuple[int, int], int] = {}
        self.contents: dict[bytes, int] = {}
        self.pins: dict[tuple[bytes, bytes], Extent] = {}
        #: Owners by their objects that they read without asking.
        self.optimistic: set[bytes] = set()
        self.asks: list[list[bytes]] = []
        self.copies: list[tuple[Copy, int | None]] = []
        self.last = 0

    def run(self, commands: list[Command]) -> None:
        for one in commands:
            if isinstance(one, Ask):
                self.asks.append(one.object_ids)
            else:
                # What the thread reads may be freed by then; then it must not count.
                self.copies.append((one, self.bytes.get(one.source[:2])))

    @rule(pages=st.integers(1, 4))
    def write(self, pages: int) -> None:
        self.last += 1
        name = object_of(A, self.last)
        grant = self.table.allocate(A, pages * PAGE)
        if grant is None:
            self.run(self.spilling.relieve(pages * PAGE))
            if self.spilling.is_busy:
                return
            grant = self.table.allocate(A, pages * PAGE, on_disk=True)
            if grant is None:
                return
        self.bytes[grant.extent[:2]] = self.last
        self.table.seal(A, name, A, grant.extent, "bytes")
        self.contents[name] = self.last
        self.optimistic.add(name)

    @precondition(lambda self: self.contents)
    @rule(data=st.data(), reader=st.sampled_from([A, B]))
    def pin(self, data: st.DataObject, reader: bytes) -> None:
        name = data.draw(st.sampled_from(sorted(self.contents)))
        stored = self.table.pin(reader, name)
        assert stored is not None
        assert self.bytes[stored.extent[:2]] == self.contents[name]
        self.pins[reader, name] = stored.extent

    @precondition(lambda self: self.pins)
    @rule(data=st.data())
    def unpin(self, data: st.DataObject) -> None:
        reader, name = data.draw(st.sampled_from(sorted(self.pins)))
        del self.pins[reader, name]
        self.table.unpin(reader, name)

    @precondition(lambda self: self.contents)
    @rule(data=st.data())
    def free(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.contents)))
        del self.contents[name]
        self.optimistic.discard(name)
        self.table.free(name)

    @precondition(lambda self: self.asks)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        names = self.asks.pop(data.draw(st.integers(0, len(self.asks) - 1)))
        self.optimistic -= set(names)
        self.run(self.spilling.prepared(A, names))

    @precondition(lambda self: self.copies)
    @rule(data=st.data(), failed=st.booleans())
    def copied(self, data: st.DataObject, failed: bool) -> None:
        copy, content = self.copies.pop(data.draw(st.integers(0, len(self.copies) - 1)))
        if content is not None:
            self.bytes[copy.target[:2]] = content
        self.spilling.copied(copy.target, failed=failed)

    @rule()
    def lose_patience(self) -> None:
        self.spilling.give_up()

    @invariant()
    def what_is_read_lies_where_it_was(self) -> None:
        for (_, name), place in self.pins.items():
            stored = self.table.objects[name]
            assert stored.extent == place

    @invariant()
    def owners_that_were_not_asked_find_it_where_it_was_written(self) -> None:
        for name in self.optimistic:
            place = self.table.objects[name].extent
            assert self.bytes[place[:2]] == self.contents[name]

    @invariant()
    def every_object_is_whole(self) -> None:
        for name, content in self.contents.items():
            assert self.bytes[self.table.objects[name].extent[:2]] == content

    def teardown(self) -> None:
        for reader, name in self.pins:
            self.table.unpin(reader, name)
        for name in self.contents:
            self.table.free(name)
        for names in self.asks:
            self.run(self.spilling.prepared(A, names))
        for copy, _ in self.copies:
            self.spilling.copied(copy.target, failed=False)
        assert (self.table.allocator.used, self.table.disk.used) == (0, 0)
        assert not self.table.objects
        assert not self.table.movable
        assert not self.spilling.is_busy
        assert self.spilling._coming == 0


TestSpillingMachine = SpillingMachine.TestCase
TestSpillingMachine.settings = effort(60)
