"""Who has which memory: what is pinned or referenced stays, and in the end everything is back."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from skate._base import ids
from skate._store.allocator import PAGE, Extent, round_up
from skate._store.table import MAX_ENDED_PROCESSES, StoreTable

from ..effort import effort

CAPACITY = 64 * PAGE
A, B, C = (bytes([letter]) * ids.WORKER_ID_SIZE for letter in b"abc")
PROCESSES = (A, B, C)


def object_of(owner: bytes, number: int = 1) -> bytes:
    return ids.object_id(owner, number)


def create(table: StoreTable, creator: bytes, object_id: bytes, size: int = PAGE) -> Extent:
    grant = table.allocate(creator, size)
    assert grant is not None
    extent = Extent(grant.extent.segment, grant.extent.offset, size)
    assert table.seal(creator, object_id, ids.owner_of(object_id), extent, "bytes")
    return extent


def held_by(table: StoreTable, process: bytes) -> dict[tuple[int, int], int]:
    return {place: size for place, (size, _) in table.held[process].items()}


class _Object:
    """What the model knows of one object."""

    def __init__(self, owner: bytes) -> None:
        self.owner = owner
        #: Where it lies, and who wrote it there; None: nowhere (yet, or any more).
        self.place: Extent | None = None
        self.creator = b""
        self.size = 0
        self.freed = False
        self.pins: set[bytes] = set()
        #: Where it lay when it was lost, and who has views of that.
        self.ghosts: list[tuple[Extent, set[bytes]]] = []
        self.lost = False
        #: Freed, and pinned by these, before it was sealed.
        self.early = False
        self.early_pins: set[bytes] = set()


class _Write(NamedTuple):
    """A process writes an object that it has not sealed."""

    object_id: bytes
    creator: bytes
    place: Extent
    size: int
    again: bool


class StoreTableMachine(RuleBasedStateMachine):
    """Processes write, seal, pin, free, lose and end in any order that their sockets allow.

    An owner hears of an object from its creator, on another connection than the daemon: so it may
    free the object, or end, before the daemon reads the creator's seal. A call may run again, because
    its worker died before it replied, or because what it made was lost.
    """

    def __init__(self) -> None:
        super().__init__()
        self.table = StoreTable(CAPACITY)
        self.alive = set(PROCESSES)
        self.objects: dict[bytes, _Object] = {}
        self.writes: list[_Write] = []
        #: Extents that processes keep for later.
        self.kept: dict[bytes, list[Extent]] = {process: [] for process in PROCESSES}
        self.count = 0

    def some_process(self, data: st.DataObject) -> bytes:
        return data.draw(st.sampled_from(sorted(self.alive)), "process")

    def some_object(self, data: st.DataObject, *, sealed: bool | None = None) -> bytes | None:
        found = [
            key for key, one in self.objects.items() if sealed is None or (one.place is not None) == sealed
        ]
        return data.draw(st.sampled_from(found), "object") if found else None

    # ------------------------------------------------------------------ what happens

    @precondition(lambda self: self.alive)
    @rule(data=st.data(), size=st.integers(1, 12 * PAGE), reuse=st.booleans())
    def begin(self, data: st.DataObject, size: int, reuse: bool) -> None:
        """A process begins to write the result of somebody's task."""
        owner = data.draw(st.sampled_from(PROCESSES), "owner")
        self.count += 1
        object_id = object_of(owner, self.count)
        if self.write(object_id, self.some_process(data), size, reuse, again=False):
            self.objects[object_id] = _Object(owner)

    @precondition(lambda self: self.alive)
    @rule(data=st.data(), size=st.integers(1, 4 * PAGE), lost=st.booleans())
    def begin_again(self, data: st.DataObject, size: int, lost: bool) -> None:
        """A call runs once more: what it made was lost, or its worker died before it could reply."""
        object_id = self.some_object(data)
        if object_id is None:
            return
        one = self.objects[object_id]
        unheard_of = not one.pins and one.creator not in self.alive and not one.ghosts
        if lost or unheard_of:
            self.write(object_id, self.some_process(data), size, False, again=lost)

    def write(self, object_id: bytes, creator: bytes, size: int, reuse: bool, *, again: bool) -> bool:
        fitting = [extent for extent in self.kept[creator] if extent.size >= round_up(size)]
        if reuse and fitting:
            place = fitting[0]
            self.kept[creator].remove(place)
        else:
            grant = self.table.allocate(creator, size)
            if grant is None:
                assert self.table.allocator.used + round_up(size) > CAPACITY
                return False
            place = grant.extent
        self.writes.append(_Write(object_id, creator, place, size, again))
        return True

    @precondition(lambda self: self.writes)
    @rule(data=st.data())
    def seal(self, data: st.DataObject) -> None:
        write = data.draw(st.sampled_from(self.writes), "write")
        self.writes.remove(write)
        place = Extent(write.place.segment, write.place.offset, round_up(write.size))
        if place.size < write.place.size:
            rest = Extent(place.segment, place.offset + place.size, write.place.size - place.size)
            self.kept[write.creator].append(rest)
        one = self.objects.setdefault(write.object_id, _Object(ids.owner_of(write.object_id)))
        news = not (write.again and one.place is not None)
        extent = place._replace(size=write.size)
        assert self.table.seal(write.creator, write.object_id, one.owner, extent, "b", write.again) == news
        one.lost = False
        if news:
            one.place, one.size, one.creator = place, write.size, write.creator
            one.freed = one.early or one.owner not in self.alive
            one.pins |= one.early_pins
            one.early, one.early_pins = False, set()
        self.forget_if_done(write.object_id)

    @rule(data=st.data())
    def seal_repeated(self, data: st.DataObject) -> None:
        object_id = self.some_object(data, sealed=True)
        if object_id is not None:
            one = self.objects[object_id]
            assert one.place is not None
            extent = one.place._replace(size=one.size)
            assert not self.table.seal(one.creator, object_id, one.owner, extent, "bytes")

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def pin(self, data: st.DataObject) -> None:
        object_id = self.some_object(data)
        if object_id is None:
            return
        reader, one = self.some_process(data), self.objects[object_id]
        if any(reader in pins for _, pins in one.ghosts):
            return  # it reads what it has
        writing = any(write.object_id == object_id for write in self.writes)
        if one.place is None and writing and not one.lost:
            self.table.pin_early(reader, object_id)
            one.early_pins.add(reader)
            return
        stored = self.table.pin(reader, object_id)
        if one.place is None:
            assert stored is None
        else:
            assert stored is not None
            assert (stored.extent, stored.size) == (one.place, one.size)
            one.pins.add(reader)

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def unpin(self, data: st.DataObject) -> None:
        object_id = self.some_object(data)
        if object_id is not None:
            reader = self.some_process(data)
            self.table.unpin(reader, object_id)
            self.leave(object_id, reader)
            self.forget_if_done(object_id)

    def leave(self, object_id: bytes, reader: bytes) -> None:
        one = self.objects[object_id]
        one.pins.discard(reader)
        one.early_pins.discard(reader)
        one.ghosts = [(place, pins - {reader}) for place, pins in one.ghosts if pins - {reader}]

    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        object_id = self.some_object(data, sealed=True)
        if object_id is None:
            return
        one = self.objects[object_id]
        self.table.lose(object_id)
        assert one.place is not None
        if one.pins:
            one.ghosts.append((one.place, one.pins))
        one.place, one.pins, one.freed, one.lost = None, set(), False, not one.freed
        assert object_id not in self.table.objects
        self.forget_if_done(object_id)

    @rule(data=st.data())
    def report(self, data: st.DataObject) -> None:
        """Somebody looks for it in vain and tells its owner, which is asked whether that is news."""
        object_id = self.some_object(data, sealed=False)
        if object_id is not None:
            one = self.objects[object_id]
            assert self.table.reported(object_id) == one.lost
            one.lost = False
            self.forget_if_done(object_id)

    @rule(data=st.data(), keep=st.booleans())
    def free(self, data: st.DataObject, keep: bool) -> None:
        """The owner frees the object, perhaps before it is sealed, perhaps once more."""
        object_id = self.some_object(data)
        if object_id is None or self.objects[object_id].owner not in self.alive:
            return
        one = self.objects[object_id]
        # Only what nobody else ever knew of is asked back.
        keeper = one.owner if keep and one.creator == one.owner and one.place and not one.freed else None
        self.table.free(object_id, keeper)
        if keeper is not None and not one.pins - {keeper}:
            assert one.place is not None
            self.kept[keeper].append(one.place)
            assert object_id not in self.table.objects
            one.place, one.pins = None, set()
        elif one.place is not None:
            one.freed = True
        elif one.lost:
            one.lost = False
        else:
            one.early = True
        self.forget_if_done(object_id)

    @rule(data=st.data(), twice=st.booleans())
    def give_back(self, data: st.DataObject, twice: bool) -> None:
        holders = [process for process in PROCESSES if self.kept[process]]
        if holders:
            process = data.draw(st.sampled_from(holders), "process")
            extent = self.kept[process].pop()
            for _ in range(1 + twice):
                self.table.give_back(process, extent.segment, extent.offset)

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        self.end_process(self.some_process(data))

    def end_process(self, process: bytes) -> None:
        self.alive.discard(process)
        self.kept[process].clear()
        self.writes = [write for write in self.writes if write.creator != process]
        self.table.process_ended(process)
        for object_id, one in list(self.objects.items()):
            if one.owner == process:
                one.early = one.lost = False
                one.freed = one.place is not None
            self.leave(object_id, process)
            self.forget_if_done(object_id)

    def forget_if_done(self, object_id: bytes) -> None:
        one = self.objects[object_id]
        if one.freed and not one.pins:
            assert object_id not in self.table.objects, "nobody refers to it"
            one.place, one.freed = None, False
        writing = any(write.object_id == object_id for write in self.writes)
        if one.place is None and not (one.ghosts or one.lost or one.early or writing):
            for reader in one.early_pins:
                self.table.unpin(reader, object_id)  # it is told that there is no such object
            del self.objects[object_id]

    # ------------------------------------------------------------------ what holds

    @invariant()
    def what_is_pinned_or_referenced_is_there(self) -> None:
        there = {object_id for object_id, one in self.objects.items() if one.place is not None}
        assert self.table.objects.keys() == there
        for object_id in there:
            one, stored = self.objects[object_id], self.table.objects[object_id]
            assert (stored.extent, stored.size) == (one.place, one.size)
            assert (stored.pins, stored.freed) == (one.pins, one.freed)

    @invariant()
    def views_of_what_was_lost_keep_their_memory(self) -> None:
        assert self.table.ghosts.keys() == {key for key, one in self.objects.items() if one.ghosts}
        for object_id, ghosts in self.table.ghosts.items():
            found = [(stored.extent, stored.pins) for stored in ghosts]
            assert found == self.objects[object_id].ghosts

    @invariant()
    def what_may_move_is_what_nobody_reads(self) -> None:
        idle = {key for key, one in self.objects.items() if one.place is not None and not one.pins}
        assert self.table.movable.keys() == idle

    @invariant()
    def every_page_is_in_one_hand(self) -> None:
        held = [
            Extent(*place, size) for extents in self.table.held.values()
            for place, (size, _) in extents.items()
        ]  # fmt: skip
        kept = [extent for extents in self.kept.values() for extent in extents]
        assert sorted(held) == sorted([*kept, *(write.place for write in self.writes)])
        used = held + [stored.extent for stored in self.table.objects.values()]
        used += [stored.extent for ghosts in self.table.ghosts.values() for stored in ghosts]
        pages = [
            (extent.segment, page) for extent in used
            for page in range(extent.offset, extent.offset + extent.size, PAGE)
        ]  # fmt: skip
        assert len(pages) == len(set(pages))
        assert self.table.allocator.used == len(pages) * PAGE

    def teardown(self) -> None:
        for process in sorted(self.alive):
            self.end_process(process)
        assert not self.table.objects
        assert not self.table.ghosts
        assert self.table.allocator.used == 0
        assert not self.table.held
        assert not self.table.lost
        assert not self.table.freed_early
        assert not self.table.pinned_early


TestStoreTableMachine = StoreTableMachine.TestCase
TestStoreTableMachine.settings = effort(60)


# ---------------------------------------------------------------------- one by one


def test_read_and_freed_before_its_seal_is_read() -> None:
    table = StoreTable(CAPACITY)
    grant = table.allocate(B, PAGE)
    assert grant is not None
    table.pin_early(A, object_of(A))
    table.free(object_of(A))
    assert table.seal(B, object_of(A), A, grant.extent, "bytes")
    assert table.allocator.used == PAGE, "the owner has a view"
    table.unpin(A, object_of(A))
    assert table.allocator.used == 0


def test_from_grant_to_free() -> None:
    table = StoreTable(CAPACITY)
    create(table, A, object_of(A), 100)
    assert table.bytes_of_objects(on_disk=False) == PAGE
    assert not any(table.held.values())
    table.free(object_of(A))
    assert table.allocator.used == 0


def test_what_is_pinned_goes_with_its_last_pin() -> None:
    table = StoreTable(CAPACITY)
    create(table, A, object_of(A))
    assert table.pin(B, object_of(A)) is table.pin(C, object_of(A)) is not None
    table.free(object_of(A))
    table.unpin(B, object_of(A))
    assert table.allocator.used == PAGE
    table.unpin(C, object_of(A))
    assert table.allocator.used == 0


def test_an_object_freed_before_its_seal_goes_with_the_seal() -> None:
    table = StoreTable(CAPACITY)
    grant = table.allocate(B, PAGE)
    assert grant is not None
    table.free(object_of(A))
    assert table.seal(B, object_of(A), A, grant.extent, "bytes")
    assert not table.objects
    assert table.allocator.used == 0
    assert not table.freed_early


def test_nobody_seals_what_it_does_not_hold() -> None:
    table = StoreTable(CAPACITY)
    grant = table.allocate(A, PAGE)
    assert grant is not None
    with pytest.raises(ValueError, match="which it does not hold"):
        table.seal(B, object_of(B), B, grant.extent, "bytes")
    assert not table.objects


def test_the_rest_of_a_large_extent_stays_in_the_creators_hand() -> None:
    table = StoreTable(CAPACITY)
    grant = table.allocate(A, 4 * PAGE)
    assert grant is not None
    segment, offset, _ = grant.extent
    assert table.seal(A, object_of(A, 1), A, Extent(segment, offset, PAGE + 1), "bytes")
    assert table.seal(A, object_of(A, 2), A, Extent(segment, offset + 2 * PAGE, PAGE), "bytes")
    assert held_by(table, A) == {(segment, offset + 3 * PAGE): PAGE}


def test_a_freed_extent_goes_to_its_keeper_unless_somebody_reads_it() -> None:
    table = StoreTable(CAPACITY)
    extent = create(table, A, object_of(A, 1))
    table.free(object_of(A, 1), A)
    assert held_by(table, A) == {(extent.segment, extent.offset): PAGE}
    create(table, A, object_of(A, 2))
    table.pin(B, object_of(A, 2))
    table.free(object_of(A, 2), A)
    assert len(table.held[A]) == 1
    table.unpin(B, object_of(A, 2))
    assert table.allocator.used == PAGE


def test_readers_keep_what_a_dead_owner_had() -> None:
    table = StoreTable(CAPACITY)
    create(table, A, object_of(A))
    table.pin(B, object_of(A))
    table.process_ended(A)
    assert object_of(A) in table.objects
    table.process_ended(B)
    assert table.allocator.used == 0


def test_a_result_outlives_the_worker_that_made_it() -> None:
    table = StoreTable(CAPACITY)
    create(table, B, object_of(A))
    table.process_ended(B)
    assert object_of(A) in table.objects


def test_a_result_sealed_after_its_owner_ended_does_not_stay_for_ever() -> None:
    """B runs a task of A. A dies, and B, which is to be ended for it, gets its result out before."""
    table = StoreTable(CAPACITY)
    grant = table.allocate(B, PAGE)
    assert grant is not None
    table.process_ended(A)
    table.seal(B, object_of(A), A, grant.extent, "bytes")
    table.process_ended(B)
    assert not table.objects
    assert table.allocator.used == 0


def test_a_retry_that_seals_the_same_result_loses_no_memory() -> None:
    """B seals the result of A's task and dies before it replies; the task runs again on C.

    C's library has split the extent that it held, as it does whenever it seals (StoreClient.sealed):
    it goes on to use the rest for its next object.
    """
    table = StoreTable(CAPACITY)
    create(table, B, object_of(A, 1))
    table.process_ended(B)
    grant = table.allocate(C, 4 * PAGE)
    assert grant is not None
    segment, offset, _ = grant.extent
    table.seal(C, object_of(A, 1), A, Extent(segment, offset, PAGE), "bytes")
    assert table.seal(C, object_of(C, 2), C, Extent(segment, offset + PAGE, PAGE), "bytes")
    table.free(object_of(C, 2))
    table.free(object_of(A, 1))
    for rest in list(table.held.get(C, {})):
        table.give_back(C, *rest)
    assert table.allocator.used == 0


def test_frees_of_objects_that_never_came_are_forgotten_with_their_owner() -> None:
    table = StoreTable(CAPACITY)
    table.free(object_of(A))  # its creator died before the seal
    table.process_ended(B)
    table.process_ended(A)
    assert not table.freed_early


def test_memory_that_nobody_wrote_is_fresh_for_the_next_one() -> None:
    """Who is told that pages are there writes through its mapping: a SIGBUS if none are left."""
    table = StoreTable(CAPACITY)
    grant = table.allocate(A, 2 * PAGE)
    assert grant is not None
    assert grant.fresh
    table.give_back(A, grant.extent.segment, grant.extent.offset)  # the system had no memory for it
    again = table.allocate(B, 2 * PAGE)
    assert again is not None
    assert again.extent == grant.extent
    assert again.fresh


def test_memory_that_was_written_is_warm_for_the_next_one() -> None:
    table = StoreTable(CAPACITY)
    extent = create(table, A, object_of(A))
    table.free(object_of(A))
    again = table.allocate(B, PAGE)
    assert again is not None
    assert again.extent == extent
    assert not again.fresh


def test_repeats_and_unknown_ids_change_nothing() -> None:
    table = StoreTable(CAPACITY)
    extent = create(table, A, object_of(A))
    table.pin(B, object_of(A))
    table.pin(B, object_of(A))
    table.unpin(B, object_of(A))
    table.unpin(B, object_of(A))
    table.unpin(B, object_of(C))
    table.give_back(A, extent.segment, extent.offset)
    table.process_ended(C)
    assert table.pin(B, object_of(C)) is None
    assert table.allocator.used == PAGE
    assert not table.seal(A, object_of(A), A, extent, "bytes")


def test_a_full_store_names_its_largest_holders() -> None:
    table = StoreTable(1 << 30)
    create(table, A, object_of(A), 3 << 20)
    create(table, B, object_of(B), 1 << 20)
    text = table.describe_full(1 << 30, "/spill")
    assert "an object of 1024.0 MiB does not fit: 4.0 MiB of 1024.0 MiB of shared memory" in text
    assert text.index(A.hex()) < text.index(B.hex())
    assert "/spill has no room for more (it holds 0.0 MiB of them)" in text
    assert "init(object_store_memory=BYTES)" in text


# ---------------------------------------------------------------------- lost, and made again


def lost_with_a_reader() -> tuple[StoreTable, Extent]:
    table = StoreTable(CAPACITY)
    extent = create(table, B, object_of(A))
    table.pin(C, object_of(A))
    table.lose(object_of(A))
    return table, extent


def write(table: StoreTable, creator: bytes, size: int = PAGE) -> Extent:
    grant = table.allocate(creator, size)
    assert grant is not None
    return grant.extent


def test_what_is_lost_is_not_there_and_its_memory_is_free() -> None:
    table = StoreTable(CAPACITY)
    create(table, B, object_of(A))
    table.lose(object_of(A))
    assert table.pin(C, object_of(A)) is None
    assert table.allocator.used == 0
    assert not table.movable
    table.lose(object_of(A))
    assert table.lost == {object_of(A)}


def test_what_is_lost_after_its_owner_s_end_is_not_remembered() -> None:
    """A reader's view kept it; nobody is left who could report the loss, or free it."""
    table = StoreTable(CAPACITY)
    create(table, B, object_of(A))
    table.pin(C, object_of(A))
    table.process_ended(A)
    table.lose(object_of(A))
    assert not table.lost


def test_what_never_was_cannot_be_lost() -> None:
    table = StoreTable(CAPACITY)
    table.lose(object_of(A))
    assert not table.lost


def test_a_view_of_what_was_lost_keeps_its_memory() -> None:
    table, _ = lost_with_a_reader()
    assert table.allocator.used == PAGE
    table.unpin(B, object_of(A))
    assert table.allocator.used == PAGE
    table.unpin(C, object_of(A))
    assert table.allocator.used == 0
    assert not table.ghosts


def test_a_view_of_what_was_lost_goes_with_its_process() -> None:
    table, _ = lost_with_a_reader()
    table.process_ended(C)
    assert table.allocator.used == 0


def test_what_was_made_again_lies_elsewhere_while_the_old_is_read() -> None:
    table, before = lost_with_a_reader()
    extent = write(table, B)
    assert extent != before
    assert table.seal(B, object_of(A), A, extent, "bytes", again=True)
    assert not table.lost
    stored = table.pin(B, object_of(A))
    assert stored is not None
    assert stored.extent == extent
    table.free(object_of(A))
    table.unpin(B, object_of(A))
    assert table.allocator.used == PAGE, "C reads what it has"
    table.unpin(C, object_of(A))
    assert table.allocator.used == 0


def test_lost_twice_with_a_reader_each() -> None:
    table, _ = lost_with_a_reader()
    table.seal(B, object_of(A), A, write(table, B), "bytes", again=True)
    table.pin(B, object_of(A))
    table.lose(object_of(A))
    assert table.allocator.used == 2 * PAGE
    table.unpin(C, object_of(A))
    assert table.allocator.used == PAGE
    table.unpin(B, object_of(A))
    assert table.allocator.used == 0


def test_what_is_there_stays_when_its_call_runs_again_for_something_else() -> None:
    table = StoreTable(CAPACITY)
    extent = create(table, B, object_of(A))
    table.pin(C, object_of(A))
    assert not table.seal(B, object_of(A), A, write(table, B), "bytes", again=True)
    assert table.objects[object_of(A)].extent == extent
    assert table.objects[object_of(A)].pins == {C}
    assert table.allocator.used == PAGE


def test_a_retry_replaces_what_the_attempt_before_it_sealed() -> None:
    table = StoreTable(CAPACITY)
    create(table, B, object_of(A))
    table.objects[object_of(A)].by_request = True
    extent = write(table, C)
    assert table.seal(C, object_of(A), A, extent, "bytes")
    stored = table.objects[object_of(A)]
    assert (stored.extent, stored.creator, stored.by_request) == (extent, C, True)
    assert table.allocator.used == PAGE
    table.free(object_of(A), None, B)
    assert object_of(A) in table.objects, "that was about the attempt before"
    table.free(object_of(A), None, C)
    assert table.allocator.used == 0


def test_the_rest_of_an_extent_stays_held_if_what_was_made_again_was_there() -> None:
    table = StoreTable(CAPACITY)
    create(table, B, object_of(A))
    extent = write(table, B, 3 * PAGE)
    table.seal(B, object_of(A), A, extent._replace(size=PAGE), "bytes", again=True)
    assert held_by(table, B) == {(extent.segment, extent.offset + PAGE): 2 * PAGE}
    assert table.allocator.used == 3 * PAGE


def test_what_is_freed_while_it_is_lost_is_forgotten() -> None:
    """The call that makes it again still runs: when it has replied, its owner frees what it made."""
    table = StoreTable(CAPACITY)
    create(table, B, object_of(A))
    table.lose(object_of(A))
    table.free(object_of(A))
    assert not table.lost
    assert not table.freed_early
    table.seal(B, object_of(A), A, write(table, B), "bytes", again=True)
    table.free(object_of(A))
    assert table.allocator.used == 0


def test_a_loss_is_reported_once() -> None:
    """From then on the call that makes it again may have sealed it: a free may come before that seal."""
    table = StoreTable(CAPACITY)
    create(table, B, object_of(A))
    assert not table.reported(object_of(A))
    table.lose(object_of(A))
    assert table.reported(object_of(A))
    assert not table.reported(object_of(A))
    table.free(object_of(A))
    table.seal(B, object_of(A), A, write(table, B), "bytes", again=True)
    assert table.allocator.used == 0
    assert not table.objects


def test_what_was_lost_is_forgotten_with_its_owner() -> None:
    table = StoreTable(CAPACITY)
    create(table, B, object_of(A))
    table.lose(object_of(A))
    table.process_ended(A)
    assert not table.lost
    table.seal(B, object_of(A), A, write(table, B), "bytes", again=True)
    assert table.allocator.used == 0


def test_what_a_process_made_for_others_that_nobody_has_freed() -> None:
    table = StoreTable(CAPACITY)
    create(table, B, object_of(A, 1))
    create(table, B, object_of(A, 2))
    create(table, B, object_of(C, 3))
    create(table, B, object_of(B, 4))
    create(table, A, object_of(C, 5))
    table.pin(C, object_of(A, 2))
    table.free(object_of(A, 2))
    assert table.created_by(B) == {A: [object_of(A, 1)], C: [object_of(C, 3)]}


def test_only_so_many_ended_processes_are_remembered() -> None:
    table = StoreTable(CAPACITY)
    for number in range(MAX_ENDED_PROCESSES + 1):
        table.process_ended(number.to_bytes(ids.WORKER_ID_SIZE, "big"))
    assert len(table._ended) == MAX_ENDED_PROCESSES
    first = bytes(ids.WORKER_ID_SIZE)
    create(table, B, object_of(first))
    assert object_of(first) in table.objects
