"""Extents never overlap, the count of used bytes is exact, and everything comes back."""

from __future__ import annotations

from unittest import mock

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from skate._store import allocator as module
from skate._store.allocator import PAGE, SEGMENT_SIZE, Allocator, Extent, round_up

from ..effort import effort

CAPACITY = 200 * PAGE
#: Segments as small as this make full ones, new ones and neighbours a matter of a few steps.
SMALL_SEGMENT = 16 * PAGE


def pages(extent: Extent) -> set[tuple[int, int]]:
    first = extent.offset // PAGE
    return {(extent.segment, page) for page in range(first, first + extent.size // PAGE)}


class AllocatorMachine(RuleBasedStateMachine):
    """Random use against a model that knows every page by itself."""

    granted = Bundle("granted")
    freed = Bundle("freed")

    def __init__(self) -> None:
        super().__init__()
        self.patch = mock.patch.object(module, "SEGMENT_SIZE", SMALL_SEGMENT)
        self.patch.start()
        self.allocator = Allocator(CAPACITY)
        self.out: dict[Extent, None] = {}
        self.touched: set[tuple[int, int]] = set()
        self.segments: dict[int, int] = {}

    def teardown(self) -> None:
        for extent in list(self.out):
            self.allocator.free(extent)
        assert self.allocator.used == 0
        self.allocator.cool()
        self.allocator.capacity = sum(self.segments.values())
        for segment, size in sorted(self.segments.items(), key=lambda item: -item[1]):
            grant = self.allocator.allocate(size)
            assert grant is not None
            assert grant.extent.segment in self.segments, f"segment {segment} is not whole again"
        self.patch.stop()

    @rule(target=granted, size=st.integers(1, 24 * PAGE))
    def allocate(self, size: int) -> Extent | object:
        taken = sum(extent.size for extent in self.out)
        grant = self.allocator.allocate(size)
        if grant is None:
            assert taken + round_up(size) > CAPACITY
            return multiple()
        extent = grant.extent
        assert extent.size == round_up(size) >= size
        assert self.segments.setdefault(extent.segment, grant.segment_size) == grant.segment_size
        assert self.allocator.segment_size(extent.segment) == grant.segment_size
        assert 0 <= extent.offset <= extent.offset + extent.size <= grant.segment_size
        assert all(not pages(extent) & pages(other) for other in self.out)
        if not grant.fresh:
            assert pages(extent) <= self.touched, "its pages are not there"
        self.touched |= pages(extent)
        self.out[extent] = None
        return extent

    @rule(target=freed, extent=consumes(granted), warm=st.booleans())
    def free(self, extent: Extent, warm: bool) -> Extent:
        self.allocator.free(extent, warm=warm)
        if not warm:
            self.touched -= pages(extent)
        del self.out[extent]
        return extent

    @rule(extent=freed)
    def free_twice(self, extent: Extent) -> None:
        if pages(extent) & {page for other in self.out for page in pages(other)}:
            return  # given to somebody else meanwhile, in part: nobody could tell
        used, warm = self.allocator.used, self.allocator.warm_bytes
        with pytest.raises(ValueError, match="is free already"):
            self.allocator.free(extent)
        assert (self.allocator.used, self.allocator.warm_bytes) == (used, warm)

    @rule()
    def cool(self) -> None:
        warm = self.allocator.warm_bytes
        punched = self.allocator.cool()
        for extent in punched:
            assert all(not pages(extent) & pages(other) for other in self.out), "memory in use was punched"
            self.touched -= pages(extent)
        assert sum(extent.size for extent in punched) == warm
        assert self.allocator.warm_bytes == 0

    @invariant()
    def used_is_exact(self) -> None:
        assert self.allocator.used == sum(extent.size for extent in self.out) <= CAPACITY

    @invariant()
    def free_pages_that_were_touched_count_as_warm_or_were_given_back(self) -> None:
        in_use = {page for extent in self.out for page in pages(extent)}
        assert self.allocator.warm_bytes <= len(self.touched - in_use) * PAGE


TestAllocatorMachine = AllocatorMachine.TestCase
TestAllocatorMachine.settings = effort(60)


def test_sizes_are_whole_pages() -> None:
    assert [round_up(size) for size in (0, 1, PAGE, PAGE + 1)] == [PAGE, PAGE, PAGE, 2 * PAGE]


def test_a_warm_range_is_preferred_even_where_a_cold_one_fits_better() -> None:
    allocator = Allocator(1 << 30)
    first = allocator.allocate(4 * PAGE)
    assert first is not None
    assert first.fresh
    allocator.free(first.extent)
    again = allocator.allocate(PAGE)
    assert again is not None
    assert again.extent.offset == first.extent.offset
    assert not again.fresh


def test_an_object_larger_than_a_segment_gets_one_of_its_own() -> None:
    allocator = Allocator(1 << 30)
    grant = allocator.allocate(SEGMENT_SIZE + 1)
    assert grant is not None
    assert grant.extent.offset == 0
    assert grant.segment_size == grant.extent.size == SEGMENT_SIZE + PAGE


def test_a_full_store_gives_nothing_and_changes_nothing() -> None:
    allocator = Allocator(4 * PAGE)
    grant = allocator.allocate(3 * PAGE)
    assert grant is not None
    assert allocator.allocate(2 * PAGE) is None
    assert allocator.used == 3 * PAGE
    assert allocator.allocate(PAGE) is not None


@pytest.mark.parametrize("start", [0, 1, 2])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_freeing_what_is_free_in_part_raises_and_changes_nothing(start: int, count: int) -> None:
    allocator = Allocator(1 << 30)
    whole = allocator.allocate(8 * PAGE)
    assert whole is not None
    free = Extent(1, PAGE, 2 * PAGE)
    allocator.free(free)
    wrong = Extent(1, start * PAGE, count * PAGE)
    if pages(wrong) & pages(free):
        with pytest.raises(ValueError):
            allocator.free(wrong)
        assert allocator.used == 6 * PAGE
    else:
        allocator.free(wrong)
        assert allocator.used == (6 - count) * PAGE
