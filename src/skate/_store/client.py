"""Manages a process's side of the store: mappings, kept extents, and the views that users get.

A view is never invalidated. Each one is exported through a ctypes array of its own, placed in the
segment's mapping. Slices, numpy arrays and memoryviews of it all keep that array alive; when the array is
gone, its weak reference reports the object. Until then the object stays pinned at the daemon.
"""

from __future__ import annotations

import errno
import mmap
import os
import weakref
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from skate._base import descriptors
from skate._store.allocator import DISK, Extent, round_up
from skate._store.segment import write_fresh

if TYPE_CHECKING:
    import ctypes


class _Exporter(weakref.ref):  # type: ignore[type-arg]
    """Reports that the array behind a view is gone. Its callback may run on any thread at any bytecode, so it
    only appends."""

    __slots__ = ("object_id",)
    object_id: bytes


class LocalObject:
    """Holds the facts that this process knows about one object in shared memory."""

    __slots__ = ("extent", "size", "views", "pinned", "kept")

    def __init__(self, extent: Extent, size: int) -> None:
        self.extent = extent
        self.size = size
        self.views = 0
        #: Pinned at the daemon for this process.
        self.pinned = False
        #: Created here: this process may read it without a pin until it frees it.
        self.kept = False


class StoreClient:
    """Manages the mappings, extents and views of one process. Callers hold the process's lock, except for
    ``write_fresh`` and ``view`` of objects that the caller holds."""

    def __init__(self, cache_bytes: int) -> None:
        self._cache_bytes = cache_bytes
        self._maps: dict[int, mmap.mmap] = {}
        self._fds: dict[int, int] = {}
        self._sizes: dict[int, int] = {}
        self._cache: list[Extent] = []
        self._cached = 0
        self._fresh: set[Extent] = set()
        #: Every exporter's reference, by the reference's own id (its object cannot be hashed).
        self._exporters: dict[int, _Exporter] = {}
        #: Views that ended; the reactor drains them.
        self.dead_views: deque[_Exporter] = deque()
        #: Called (from any thread, any bytecode) after an append to ``dead_views``.
        self.on_dead_view: Callable[[], None] | None = None
        self.objects: dict[bytes, LocalObject] = {}
        #: How many threads of this process wait for the daemon's answer about a pin, by object.
        self._asked: dict[bytes, int] = {}

    # ------------------------------------------------------------------ mappings

    def attach(self, segment: int, size: int, fd: int) -> None:
        """Take over the descriptor of a segment. The first write or read maps it."""
        if segment in self._fds:
            os.close(fd)
            return
        self._fds[segment] = fd
        self._sizes[segment] = size

    def has(self, segment: int) -> bool:
        """Tell whether this process can map the segment."""
        return segment in self._fds

    def _map(self, segment: int) -> mmap.mmap:
        """Map a segment, once.

        Raises:
            MemoryError: this process has no room for it.
            OSError: this process has no descriptor left.
        """
        try:
            # Two threads may map the segment at once: one of the mappings is dropped.
            return self._maps.setdefault(segment, mmap.mmap(self._fds[segment], self._sizes[segment]))
        except OSError as error:
            if error.errno != errno.ENOMEM:
                raise descriptors.explained(error) from None
            size = self._sizes[segment] >> 20
            raise MemoryError(f"this process has no room to map {size} MiB of shared memory") from None

    def write_fresh(self, extent: Extent, pieces: list[bytes | memoryview]) -> None:
        """Write to an extent whose pages do not exist yet. Call it without the lock, as it takes time."""
        write_fresh(self._fds[extent.segment], extent.offset, pieces)

    def target(self, extent: Extent) -> memoryview:
        """Return the memory of an extent that this process holds, for writing."""
        mapping = self._maps.get(extent.segment) or self._map(extent.segment)
        return memoryview(mapping)[extent.offset : extent.offset + extent.size]

    # ------------------------------------------------------------------ extents

    def take_cached(self, size: int) -> Extent | None:
        """Return the tightest kept extent for an object of this size, without a message to the daemon.

        The whole extent is returned. ``sealed`` splits off the rest of it, in the order in which the daemon
        does so too.
        """
        size = round_up(size)
        best = -1
        for index, extent in enumerate(self._cache):
            if extent.size >= size and (best < 0 or extent.size < self._cache[best].size):
                best = index
        if best < 0:
            return None
        extent = self._cache.pop(best)
        self._cached -= extent.size
        return extent

    def take_fresh(self, extent: Extent) -> bool:
        """Tell whether an extent from ``take_cached`` has no pages yet."""
        if extent not in self._fresh:
            return False
        self._fresh.discard(extent)
        return True

    def sealed(self, object_id: bytes, extent: Extent, size: int, *, fresh: bool) -> LocalObject:
        """Remember an object written here, and keep the rest of its extent for later.

        ``fresh``: the extent had no pages before, so the rest has none now.

        The daemon splits alike when it reads the Seal (see ``StoreTable.seal``).
        """
        used = round_up(size)
        if extent.size > used:
            rest = Extent(extent.segment, extent.offset + used, extent.size - used)
            self._cache.append(rest)
            self._cached += rest.size
            if fresh:
                self._fresh.add(rest)
        local = self.add(object_id, Extent(extent.segment, extent.offset, used), size)
        local.kept = True
        return local

    def keep(self, extent: Extent, *, fresh: bool = False) -> bool:
        """Keep a free extent for later, if there is room; tell whether it was kept.

        ``fresh``: its pages do not exist yet (see ``take_fresh``).
        """
        if self._cached + extent.size > self._cache_bytes or extent.segment >= DISK:
            return False
        if fresh:
            self._fresh.add(extent)
        self._cache.append(extent)
        self._cached += extent.size
        return True

    def drain_cache(self) -> list[Extent]:
        """Return all kept extents; the caller gives them back."""
        cache, self._cache, self._cached = self._cache, [], 0
        self._fresh.clear()
        return cache

    @property
    def cached_bytes(self) -> int:
        """Return the bytes in kept extents."""
        return self._cached

    # ------------------------------------------------------------------ views

    def add(self, object_id: bytes, extent: Extent, size: int) -> LocalObject:
        """Remember where an object lies."""
        local = self.objects[object_id] = LocalObject(extent, size)
        return local

    def pin_asked(self, object_id: bytes) -> None:
        """Record that a thread asks the daemon for a pin."""
        self._asked[object_id] = self._asked.get(object_id, 0) + 1

    def pin_answered(self, object_id: bytes) -> bool:
        """Record that the thread has used the answer or never will. Tell whether the pin may be given back to
        the daemon.

        The daemon counts one pin for each process, so the pin stays while another thread relies on it.
        """
        left = self._asked.pop(object_id) - 1
        if left:
            self._asked[object_id] = left
        return not left and object_id not in self.objects

    def drop(self, object_id: bytes) -> bool:
        """Forget an object without views. Tell whether its pin may be given back, as no thread waits for
        one."""
        del self.objects[object_id]
        return object_id not in self._asked

    def view(self, object_id: bytes, local: LocalObject) -> memoryview:
        """Return a read-only view that keeps the object in place as long as any part of the view lives."""
        segment = local.extent.segment
        mapping = self._maps.get(segment) or self._map(segment)
        array = _array_type(local.extent.size).from_buffer(mapping, local.extent.offset)
        exporter = _Exporter(array, self._on_dead)
        exporter.object_id = object_id
        self._exporters[id(exporter)] = exporter
        local.views += 1
        return memoryview(array).toreadonly().cast("B")[: local.size]

    def _on_dead(self, exporter: Any) -> None:
        self.dead_views.append(exporter)
        if self.on_dead_view is not None:
            self.on_dead_view()

    def drain_dead(self) -> list[tuple[bytes, LocalObject]]:
        """Return the objects whose last view ended since the last call."""
        ended: list[tuple[bytes, LocalObject]] = []
        while self.dead_views:
            exporter = self.dead_views.popleft()
            self._exporters.pop(id(exporter), None)
            local = self.objects.get(exporter.object_id)
            if local is not None:
                local.views -= 1
                if local.views == 0:
                    ended.append((exporter.object_id, local))
        return ended

    def close(self) -> None:
        """Unmap segments without views; the others stay mapped as long as their views live."""
        self.on_dead_view = None
        for mapping in self._maps.values():
            try:
                mapping.close()
            except BufferError:
                pass  # the views keep the mapping; it goes with the last of them
        for fd in self._fds.values():
            os.close(fd)
        self._maps.clear()
        self._fds.clear()
        self._sizes.clear()
        self.objects.clear()
        self._cache.clear()


_types: dict[int, Any] = {}


def _array_type(size: int) -> type[ctypes.Array[ctypes.c_char]]:
    """Return ``c_char * size``; sizes are whole pages, so there are few."""
    kind = _types.get(size)
    if kind is None:
        import ctypes

        if len(_types) > 1000:
            _types.clear()
        kind = _types[size] = ctypes.c_char * size
    return kind
