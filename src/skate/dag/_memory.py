"""Manages shared memory of a compiled graph: buffers that are reused, and read in place.

Each member that makes large values has segments of its own: memfds, sent to a receiver once, mapped
there once. A segment holds one value at a time::

    first page: a byte for each member | from the second page on: the value, in the layout of BUFFERS

The writer sets the bytes of the receivers of the value. A receiver clears its own byte when nothing in its
process refers to the value any more; until then its views keep their contents. A segment whose bytes are all
zero is free. So no message is needed, and the byte can be cleared where the last view ends, also in a
finalizer.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import weakref
from collections.abc import Sequence
from typing import Any

from skate._serialize.values import Serialized
from skate._store.segment import write_fresh

#: The number of bytes before the value, which is also the most members that a graph can have.
PAGE = 4096


class Segment:
    """One buffer of this process."""

    __slots__ = ("number", "size", "_fd", "mapping", "touched", "known")

    def __init__(self, number: int, size: int) -> None:
        self.number = number
        self.size = size
        # Closed with the last reference: a thread may be writing when the graph ends.
        self._fd = open(os.memfd_create("skate-graph", os.MFD_CLOEXEC), "r+b", buffering=0)
        os.ftruncate(self.fd, size)
        self.mapping = mmap.mmap(self.fd, size)
        #: The end of the pages that were written.
        self.touched = PAGE
        #: Members that have it mapped.
        self.known: set[int] = set()

    @property
    def fd(self) -> int:
        """The descriptor, for others to map."""
        return self._fd.fileno()

    @property
    def is_free(self) -> bool:
        """Tell whether no member refers to its value."""
        return self.mapping.find(b"\1", 0, PAGE) < 0

    def release(self) -> None:
        """Mark the buffer as free, as its value was not sent."""
        self.mapping[:PAGE] = bytes(PAGE)

    def write(self, value: Serialized) -> None:
        """Write the value. Takes time: call it without the lock.

        Raises:
            OSError: the system has no memory left.
        """
        end = PAGE + value.laid_out_size
        if end > self.touched:
            write_fresh(self.fd, PAGE, value.pieces())
            self.touched = end
        else:
            value.write_into(memoryview(self.mapping)[PAGE:end])

    def __del__(self) -> None:
        self._fd.close()


class Segments:
    """The buffers of this process in one graph. Called under the process's lock, but for ``Segment.write``.

    Args:
        first_size: bytes of a buffer at least.
    """

    def __init__(self, first_size: int) -> None:
        self._first_size = first_size
        self._segments: list[Segment] = []
        self._last = 0

    def take(self, size: int, receivers: Sequence[int]) -> tuple[Segment, list[Segment]]:
        """Return a buffer for a value of this size and these members, and the buffers dropped for it.

        The buffer is the smallest free one that is large enough, or a new one. A new one replaces the free
        ones that are too small, as the values have grown.
        """
        wanted = PAGE + size
        best: Segment | None = None
        small: list[Segment] = []
        for segment in self._segments:
            if segment.is_free:
                if segment.size < wanted:
                    small.append(segment)
                elif best is None or segment.size < best.size:
                    best = segment
        dropped: list[Segment] = []
        if best is None:
            dropped = small
            self._segments = [one for one in self._segments if one not in dropped]
            self._last += 1
            best = Segment(self._last, PAGE + round_size(max(size, self._first_size)))
            self._segments.append(best)
        for member in receivers:
            best.mapping[member] = 1
        return best, dropped

    @property
    def count(self) -> int:
        """The number of buffers."""
        return len(self._segments)

    def close(self) -> None:
        """Drop all buffers; processes that have mapped them keep them."""
        self._segments.clear()


def round_size(size: int) -> int:
    """Return a size with some room for growth: the next multiple of an eighth of a power of two."""
    step = max(PAGE, 1 << max(0, size.bit_length() - 4))
    return -(-size // step) * step


class _Exporter(weakref.ref):  # type: ignore[type-arg]
    """Clears the byte of a value when the array behind its views is deleted."""

    __slots__ = ("mapping", "byte")
    mapping: mmap.mmap
    byte: int


class Windows:
    """The buffers of others that this process has mapped. Called under the process's lock.

    Args:
        me: the number of this member.
    """

    def __init__(self, me: int) -> None:
        self._me = me
        self._maps: dict[tuple[int, int], mmap.mmap] = {}
        self._exporters: dict[int, _Exporter] = {}

    def attach(self, member: int, segment: int, size: int, fd: int) -> None:
        """Map a buffer of another member; takes over the descriptor."""
        try:
            self._maps[member, segment] = mmap.mmap(fd, size)
        finally:
            os.close(fd)

    def view(self, member: int, segment: int, size: int) -> memoryview:
        """Return a read-only view of the value in a buffer, which is free when the last view is deleted."""
        mapping = self._maps[member, segment]
        array = (ctypes.c_char * (len(mapping) - PAGE)).from_buffer(mapping, PAGE)
        exporter = _Exporter(array, self._ended)
        exporter.mapping, exporter.byte = mapping, self._me
        self._exporters[id(exporter)] = exporter
        return memoryview(array).toreadonly().cast("B")[:size]

    def _ended(self, exporter: Any) -> None:
        # May run at any line, also of the runtime: take no lock, touch nothing that may be half changed.
        self._exporters.pop(id(exporter), None)
        exporter.mapping[exporter.byte] = 0

    def forget(self, member: int, segment: int) -> None:
        """Drop a buffer that will not be used again; views of it stay valid."""
        self._maps.pop((member, segment), None)

    def close(self) -> None:
        """Drop all buffers."""
        self._maps.clear()
