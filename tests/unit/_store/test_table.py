"""Who has which memory: what is pinned or referenced stays, and in the end everything is back."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from skate._base import ids
from skate._store.allocator import PAGE, Extent, round_up
from skate._store.table import StoreTable

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
    """What the model knows of one object, from the moment that its creator begins to write it."""

    def __init__(self, owner: bytes, creator: bytes, place: Extent, size: int) -> None:
        self.owner = owner
        self.creator = creator
        self.place = place
        self.size = size
        self.sealed = False
        self.freed = False
        self.pins: set[bytes] = set()


class StoreTableMachine(RuleBasedStateMachine):
    """Processes write, seal, pin, free and end in any order that their sockets allow.

    An owner hears of an object from its creator, on another connection than the daemon: so it may
    free the object, or end, before the daemon reads the creator's seal.
    """

    def __init__(self) -> None:
        super().__init__()
        self.table = StoreTable(CAPACITY)
        self.alive = set(PROCESSES)
        self.objects: dict[bytes, _Object] = {}
        #: Extents that processes keep for later.
        self.kept: dict[bytes, list[Extent]] = {process: [] for process in PROCESSES}
        self.count = 0

    def some_process(self, data: st.DataObject) -> bytes:
        return data.draw(st.sampled_from(sorted(self.alive)), "process")

    def some_object(self, data: st.DataObject, *, sealed: bool | None = None) -> bytes | None:
        found = [key for key, one in self.objects.items() if sealed is None or one.sealed == sealed]
        return data.draw(st.sampled_from(found), "object") if found else None

    # ------------------------------------------------------------------ what happens

    @precondition(lambda self: self.alive)
    @rule(data=st.data(), size=st.integers(1, 12 * PAGE), reuse=st.booleans())
    def begin(self, data: st.DataObject, size: int, reuse: bool) -> None:
        """A process takes memory and begins to write the result of somebody's task."""
        creator = self.some_process(data)
        owner = data.draw(st.sampled_from(PROCESSES), "owner")
        fitting = [extent for extent in self.kept[creator] if extent.size >= round_up(size)]
        if reuse and fitting:
            place = fitting[0]
            self.kept[creator].remove(place)
        else:
            grant = self.table.allocate(creator, size)
            if grant is None:
                assert self.table.allocator.used + round_up(size) > CAPACITY
                return
            place = grant.extent
        self.count += 1
        self.objects[object_of(owner, self.count)] = _Object(owner, creator, place, size)

    @rule(data=st.data())
    def seal(self, data: st.DataObject) -> None:
        object_id = self.some_object(data, sealed=False)
        if object_id is None:
            return
        one = self.objects[object_id]
        extent = Extent(one.place.segment, one.place.offset, one.size)
        assert self.table.seal(one.creator, object_id, one.owner, extent, "bytes")
        one.sealed = True
        used = round_up(one.size)
        if used < one.place.size:
            rest = Extent(one.place.segment, one.place.offset + used, one.place.size - used)
            self.kept[one.creator].append(rest)
        one.place = Extent(one.place.segment, one.place.offset, used)
        self.forget_if_done(object_id)

    @rule(data=st.data())
    def seal_again(self, data: st.DataObject) -> None:
        object_id = self.some_object(data, sealed=True)
        if object_id is not None and object_id in self.table.objects:
            one = self.objects[object_id]
            extent = Extent(one.place.segment, one.place.offset, one.size)
            assert not self.table.seal(one.creator, object_id, one.owner, extent, "bytes")

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def pin(self, data: st.DataObject) -> None:
        object_id = self.some_object(data)
        if object_id is None:
            return
        reader, one = self.some_process(data), self.objects[object_id]
        stored = self.table.pin(reader, object_id)
        if not one.sealed:
            assert stored is None
        elif stored is not None:
            assert (stored.extent, stored.size) == (one.place, one.size)
            one.pins.add(reader)

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def unpin(self, data: st.DataObject) -> None:
        object_id = self.some_object(data)
        if object_id is not None:
            reader = self.some_process(data)
            self.table.unpin(reader, object_id)
            self.objects[object_id].pins.discard(reader)
            self.forget_if_done(object_id)

    @rule(data=st.data(), keep=st.booleans())
    def free(self, data: st.DataObject, keep: bool) -> None:
        """The owner frees the object, perhaps before it is sealed, perhaps once more."""
        object_id = self.some_object(data)
        if object_id is None or self.objects[object_id].owner not in self.alive:
            return
        one = self.objects[object_id]
        # Only what nobody else ever knew of is asked back.
        keeper = one.owner if keep and one.creator == one.owner and one.sealed and not one.freed else None
        self.table.free(object_id, keeper)
        one.freed = True
        if keeper is not None and not one.pins - {keeper}:
            self.kept[keeper].append(one.place)
            del self.objects[object_id]
            assert object_id not in self.table.objects
        else:
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
        for object_id, one in list(self.objects.items()):
            if one.creator == process and not one.sealed:
                del self.objects[object_id]
        self.table.process_ended(process)
        for object_id, one in list(self.objects.items()):
            one.pins.discard(process)
            self.forget_if_done(object_id)

    def forget_if_done(self, object_id: bytes) -> None:
        one = self.objects[object_id]
        if one.sealed and not one.pins and (one.freed or one.owner not in self.alive):
            if one.owner in self.alive or one.creator not in self.alive:
                assert object_id not in self.table.objects, "nobody refers to it"
            if object_id not in self.table.objects:
                del self.objects[object_id]

    # ------------------------------------------------------------------ what holds

    @invariant()
    def what_is_pinned_or_referenced_is_there(self) -> None:
        for object_id, one in self.objects.items():
            if one.sealed and (one.pins or (not one.freed and one.owner in self.alive)):
                stored = self.table.objects[object_id]
                assert stored.extent == one.place
                assert stored.pins == one.pins

    @invariant()
    def used_is_exact(self) -> None:
        held = sum(size for extents in self.table.held.values() for size, _ in extents.values())
        assert self.table.allocator.used == held + self.table.bytes_of_objects(on_disk=False)
        kept = sum(extent.size for extents in self.kept.values() for extent in extents)
        writing = sum(one.place.size for one in self.objects.values() if not one.sealed)
        assert held == kept + writing

    def teardown(self) -> None:
        for process in sorted(self.alive):
            self.end_process(process)
        assert not self.table.objects
        assert self.table.allocator.used == 0
        assert not self.table.held


TestStoreTableMachine = StoreTableMachine.TestCase
TestStoreTableMachine.settings = effort(60)


# ---------------------------------------------------------------------- one by one


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
