"""Creates the memory itself: memfd segments (and files, see ``disk``), made by the daemon, mapped by all.

Segments have no name in a file system. When the last process that has the descriptor or a mapping ends, the
kernel frees the memory, so nothing has to be unlinked and nothing can leak.
"""

from __future__ import annotations

import mmap
import os

from skate._store import disk
from skate._store.allocator import Extent

_MADV_REMOVE = getattr(mmap, "MADV_REMOVE", 9)


class Segments:
    """Holds the daemon's descriptors of segments."""

    def __init__(self) -> None:
        self._fds: dict[int, int] = {}
        self._maps: dict[int, mmap.mmap] = {}

    def create(self, segment: int, size: int) -> None:
        """Make the segment; the kernel provides its pages when they are written.

        Raises:
            OSError: this process has no descriptor left, or may not make files of that size.
        """
        self._add(segment, size, os.memfd_create(f"skate-{segment}", os.MFD_CLOEXEC))

    def create_on_disk(self, segment: int, size: int, folder: str) -> None:
        """Make a segment that is a sparse file in that folder.

        Raises:
            OSError: the folder refuses the file.
        """
        self._add(segment, size, disk.open_nameless(folder))

    def _add(self, segment: int, size: int, fd: int) -> None:
        try:
            os.ftruncate(fd, size)
        except OSError:
            os.close(fd)
            raise
        self._fds[segment] = fd

    def has(self, segment: int) -> bool:
        """Tell whether the segment was made. A segment that could not be made is tried again with its next
        extent."""
        return segment in self._fds

    def fd(self, segment: int) -> int:
        """Return the descriptor, which a message carries to a process."""
        return self._fds[segment]

    def punch(self, segment: int, offset: int, size: int) -> None:
        """Give the pages of a free range back to the system."""
        try:
            self._map(segment).madvise(_MADV_REMOVE, offset, size)
        except OSError:
            pass  # the file system cannot do that: the range is used again later

    def memory(self, extent: Extent) -> memoryview:
        """Return the bytes of an extent."""
        return memoryview(self._map(extent.segment))[extent.offset : extent.offset + extent.size]

    def _map(self, segment: int) -> mmap.mmap:
        mapping = self._maps.get(segment)
        if mapping is None:
            fd = self._fds[segment]
            mapping = self._maps[segment] = mmap.mmap(fd, os.fstat(fd).st_size)
        return mapping


def write_fresh(fd: int, offset: int, pieces: list[bytes | memoryview]) -> None:
    """Write to pages that were never touched, through the descriptor.

    The kernel then fills each page once: it neither clears it first nor takes a fault for it, which
    is twice as fast as writing through the mapping. A lack of memory is an error here, not a SIGBUS, and
    other threads run meanwhile.

    Raises:
        OSError: ENOSPC or ENOMEM: the system has no memory left.
    """
    left = [memoryview(piece).cast("B") for piece in pieces if len(piece)]
    while left:
        written = os.pwritev(fd, left[:_MAX_PIECES], offset)
        offset += written
        while left and written >= left[0].nbytes:
            written -= left.pop(0).nbytes
        if written:
            left[0] = left[0][written:]


#: The most pieces that one system call takes (IOV_MAX).
_MAX_PIECES = 1024
