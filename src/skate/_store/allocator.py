"""Allocates extents of shared-memory segments. Decisions only: it never touches the memory.

Owner: the daemon's loop. Best fit, lowest address first, neighbours coalesced. A free range records whether
its pages exist already (*warm*). Writing to memory that was never touched is twenty times slower than writing
to warm memory, so the allocator keeps warm ranges for a while.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import NamedTuple

PAGE = 4096
#: Segments have at least this size (bytes); a larger object gets a segment of its own size.
SEGMENT_SIZE = 64 * 1024 * 1024
#: Segments with this number and above are files on disk; those below are shared memory (segment number).
DISK = 1 << 30
#: Files have at least this size (bytes). They are sparse: large ones cost nothing, and there are few of them.
DISK_SEGMENT_SIZE = 1024 * 1024 * 1024


class Extent(NamedTuple):
    """Names a range of a segment."""

    segment: int
    offset: int
    size: int


class Grant(NamedTuple):
    """Holds a granted extent and what its user must do first."""

    extent: Extent
    segment_size: int
    fresh: bool  # some of its pages do not exist yet


class _Range(NamedTuple):
    offset: int
    size: int
    warm: bool


class _Segment:
    __slots__ = ("size", "free")

    def __init__(self, size: int) -> None:
        self.size = size
        self.free: list[_Range] = [_Range(0, size, False)]


def round_up(size: int) -> int:
    """Return the size of the extent for an object of ``size`` bytes: whole pages."""
    return max(PAGE, (size + PAGE - 1) & -PAGE)


class Allocator:
    """Manages all segments of one kind on one node, up to ``capacity`` bytes in granted extents."""

    def __init__(self, capacity: int, *, first: int = 1, segment_size: int = SEGMENT_SIZE) -> None:
        self.capacity = capacity
        self._segment_size = segment_size
        #: Bytes in granted extents.
        self.used = 0
        self._segments: dict[int, _Segment] = {}
        self._last_segment = first - 1

    def allocate(self, size: int) -> Grant | None:
        """Return an extent of at least ``size`` bytes, or None if the capacity does not allow it."""
        size = round_up(size)
        if self.used + size > self.capacity:
            return None
        best: tuple[bool, int, int, int] | None = None
        for number, segment in self._segments.items():
            for index, free in enumerate(segment.free):
                if free.size >= size:
                    # Warm before cold, then the tightest: new pages are the expensive part.
                    key = (not free.warm, free.size, number, index)
                    if best is None or key < best:
                        best = key
        if best is None:
            self._last_segment += 1
            number, index = self._last_segment, 0
            self._segments[number] = _Segment(max(self._segment_size, size))
        else:
            number, index = best[2], best[3]
        segment = self._segments[number]
        free = segment.free.pop(index)
        if free.size > size:
            segment.free.insert(index, _Range(free.offset + size, free.size - size, free.warm))
        self.used += size
        return Grant(Extent(number, free.offset, size), segment.size, not free.warm)

    def free(self, extent: Extent, *, warm: bool = True) -> None:
        """Take an extent back.

        Raises:
            ValueError: the extent overlaps a free range; nothing was changed.
        """
        ranges = self._segments[extent.segment].free
        offset, size = extent.offset, extent.size
        at = bisect_left(ranges, offset, key=lambda r: r.offset)
        before = ranges[at - 1] if at > 0 else None
        after = ranges[at] if at < len(ranges) else None
        if (before and before.offset + before.size > offset) or (after and offset + size > after.offset):
            raise ValueError(f"{extent} is free already, in part or whole")
        self.used -= size
        if before and before.offset + before.size == offset and before.warm == warm:
            ranges.remove(before)
            offset, size = before.offset, before.size + size
        if after and offset + size == after.offset and after.warm == warm:
            ranges.remove(after)
            size += after.size
        insort(ranges, _Range(offset, size, warm), key=lambda r: r.offset)

    def cool(self) -> list[Extent]:
        """Declare every free range cold; return the ranges whose pages go back to the system."""
        punch: list[Extent] = []
        for number, segment in self._segments.items():
            cold: list[_Range] = []
            for free in segment.free:
                if free.warm:
                    punch.append(Extent(number, free.offset, free.size))
                if cold and cold[-1].offset + cold[-1].size == free.offset:
                    cold[-1] = _Range(cold[-1].offset, cold[-1].size + free.size, False)
                else:
                    cold.append(_Range(free.offset, free.size, False))
            segment.free = cold
        return punch

    def segment_size(self, segment: int) -> int:
        """Return the size in bytes of a segment."""
        return self._segments[segment].size

    @property
    def warm_bytes(self) -> int:
        """Return the bytes of free memory whose pages still exist."""
        return sum(r.size for s in self._segments.values() for r in s.free if r.warm)
