"""Writes, views, pins, moves and frees objects of this process in shared memory.

The node daemon owns the store; this process writes into extents that the daemon granted, and reads objects
in place that are pinned for it. Extents of freed objects are kept for the next ones (see ``_store.client``).
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from skate._base import errors
from skate._base.hooks import unset
from skate._base.user_errors import full_name
from skate._serialize.values import Serialized
from skate._store.allocator import Extent, round_up
from skate._store.client import LocalObject, StoreClient
from skate._transport.connection import Connection, Handler
from skate._transport.reactor import Timer
from skate._wire import node
from skate._wire.worker import SHARED
from skate._worker.objects import segments
from skate._worker.objects.refs import ObjectEntry, RefTable
from skate._worker.process.context import ProcessContext
from skate._worker.process.daemon_link import DaemonLink

#: After a result up to this size, an extent for the next one is requested in advance.
_MAX_PREFETCH_BYTES = 32 * 1024 * 1024

#: The location of a value in shared memory: size, segment, offset.
_LOCATION = struct.Struct("<QIQ")


class NotInStore(Exception):
    """An object is not at the location that its owner gave; it may be made again."""

    def __init__(self, object_id: bytes) -> None:
        super().__init__(object_id)
        self.object_id = object_id


class SharedMemory:
    """Writes and reads the objects of this process in the node's store."""

    def __init__(
        self, context: ProcessContext, daemon: DaemonLink, refs: RefTable, store: StoreClient
    ) -> None:
        self._context = context
        self._lock = context.lock
        self._daemon = daemon
        self._refs = refs
        self._store = store
        self._trim: Timer | None = None
        #: Counts dropped refs, so that their memory can be used again. Under the lock; set by Core.
        self.drain: Callable[[], None] = unset

    def handlers(self) -> dict[type, Handler]:
        """Return the handlers of the daemon's messages about the store."""
        return {
            node.Extent: self._extent,
            node.Pinned: self._pinned,
            node.PrepareMove: self._prepare_move,
            node.TrimExtents: self._trim_extents,
        }

    def _extent(self, connection: Connection, message: node.Extent) -> None:
        message = segments.attached(self._store, connection, message)
        if not self._daemon.answered(message):
            self.prefetched(message)  # or the wait for it was interrupted

    def _pinned(self, connection: Connection, message: node.Pinned) -> None:
        self._daemon.answered(segments.attached(self._store, connection, message))

    # ------------------------------------------------------------------ writing

    def store_value(
        self, object_id: bytes, serialized: Serialized, kind: type, *, mine: bool, again: bool = False
    ) -> tuple[int, bytes]:
        """Store a large value in shared memory; return the kind and data that stand for it in messages.

        Args:
            object_id: its id.
            serialized: the value.
            kind: its type.
            mine: this process owns the object and may read it without asking.
            again: the call that makes it is repeated: see ``Seal.again``.

        Raises:
            ObjectStoreFullError: there is no room for it.
            MemoryError: this process has no memory for it; it may be sealed all the same.
        """
        if serialized.size <= self._context.config.max_inline_bytes:
            return serialized.kind, serialized.to_bytes()
        extent, fresh = self._allocate(serialized.laid_out_size)
        size = serialized.laid_out_size
        try:
            if fresh:
                self._write_fresh(extent, serialized)
            else:
                serialized.write_into(self._store.target(extent))
        except BaseException:
            with self._context.locked:
                self._daemon.send(node.ReturnExtents([(extent.segment, extent.offset)]))
            raise
        label = full_name(kind)
        with self._context.locked:
            local = self._store.sealed(object_id, extent, size, fresh=fresh)
            if not mine:
                # The owner frees it, so this extent will not come back: request the next one now.
                del self._store.objects[object_id]
                if extent.size <= _MAX_PREFETCH_BYTES and not self._store.cached_bytes:
                    self._daemon.send(node.Allocate(0, serialized.laid_out_size))
            place = local.extent
            self._daemon.send(node.Seal(object_id, place.segment, place.offset, size, label, again))
            # Before any process hears of the object: if this one dies then, the daemon has read its seal.
            self._daemon.flush()
        return SHARED, _LOCATION.pack(size, local.extent.segment, local.extent.offset)

    def _allocate(self, size: int) -> tuple[Extent, bool]:
        """Return an extent, and whether it is fresh: its pages are not allocated yet."""
        with self._context.locked:
            self.drain()  # an object that was just dropped may give its extent
            extent = self._store.take_cached(size)
            if extent is not None:
                return extent, self._store.take_fresh(extent)
        reply = self._daemon.request(lambda request: node.Allocate(request, size), self.prefetched)
        if reply.error:
            raise errors.ObjectStoreFullError(reply.error)
        return Extent(reply.segment, reply.offset, reply.size), reply.fresh

    def _write_fresh(self, extent: Extent, serialized: Serialized) -> None:
        try:
            self._store.write_fresh(extent, serialized.pieces())
        except OSError as error:
            raise segments.unwritable(extent, error) from None

    def prefetched(self, message: node.Extent) -> None:
        """Keep an extent that was requested in advance. Under the lock."""
        if message.error:
            return
        extent = Extent(message.segment, message.offset, message.size)
        if self._store.keep(extent, fresh=message.fresh):
            if self._trim is None:
                self._arm_trim()
        else:
            self._daemon.send(node.ReturnExtents([(extent.segment, extent.offset)]))

    # ------------------------------------------------------------------ reading

    def own_view(self, entry: ObjectEntry, location: bytes) -> memoryview:
        """Return the bytes of an object that this process owns, without waiting for the pin.

        Only the owner frees an object, and its Free would follow this Pin on the same connection: so
        the daemon cannot reuse the memory before it has read the Pin. No other process may do this, nor
        the owner once the daemon has requested to move the object (see ``_prepare_move``).
        """
        size, segment, offset = _LOCATION.unpack(location)
        with self._lock:
            local = self._store.objects.get(entry.id)
            try:
                if local is None and not entry.by_request and self._store.has_segment(segment):
                    extent = Extent(segment, offset, round_up(size))
                    local = self._store.add(entry.id, extent, size)
                    local.pinned = True
                    self._daemon.send(node.Pin(0, entry.id))
                if local is not None:
                    return self._store.view(entry.id, local)
            except (MemoryError, OSError):
                self._no_view(entry.id)
                raise
        return self.view(entry.id)

    def view(self, object_id: bytes) -> memoryview:
        """Return the bytes of an object in shared memory, in place, pinned while any view lives.

        Raises:
            NotInStore: it is not there.
            MemoryError: this process has no room to map it.
            OSError: this process, or the daemon, has no descriptor left for its segment.
        """
        with self._lock:
            local = self._store.objects.get(object_id)
            if local is not None:
                return self._store.view(object_id, local)
            self._store.pin_asked(object_id)
        try:
            reply = self._daemon.request(lambda request: node.Pin(request, object_id))
            if reply.error:
                raise NotInStore(object_id)
            with self._lock:
                local = self._store.objects.get(object_id)
                if local is None and not self._store.has_segment(reply.segment):
                    raise segments.unreadable(object_id, reply)
                if local is None:  # no other thread was faster
                    extent = Extent(reply.segment, reply.offset, round_up(reply.size))
                    local = self._store.add(object_id, extent, reply.size)
                    local.pinned = True
                return self._store.view(object_id, local)
        except (MemoryError, OSError):
            with self._lock:
                self._no_view(object_id)
            raise
        finally:
            with self._lock:
                if self._store.pin_answered(object_id):
                    self._daemon.send(node.Unpin(object_id))

    def _no_view(self, object_id: bytes) -> None:
        """Release an object of which a view could not be made, if it has no other. Under the lock."""
        local = self._store.objects.get(object_id)
        if local is not None and not local.views:
            self.end_view(object_id, local)

    # ------------------------------------------------------------------ moving

    def _prepare_move(self, connection: Connection, message: node.PrepareMove) -> None:
        """Pin the objects that are read here, and read the others by request from now on.

        The daemon is about to move them, as memory is short.
        """
        self.drain()  # views that ended need no pin
        for object_id in message.object_ids:
            entry = self._refs.entries.get(object_id)
            if entry is not None:
                entry.read_by_request()
            local = self._store.objects.get(object_id)
            if local is None:
                continue
            if not local.views:
                if self._store.drop(object_id) and local.pinned:
                    self._daemon.send(node.Unpin(object_id))
            elif not local.pinned:
                local.pinned, local.kept = True, False
                self._daemon.send(node.Pin(0, object_id))
                if entry is None:  # it would be freed with its last view, which only unpins it now
                    self._daemon.send(node.Free([object_id], False))
        self._daemon.send(node.Prepared(message.object_ids))

    # ------------------------------------------------------------------ freeing

    def free_value(self, entry: ObjectEntry) -> tuple[bytes, bool] | None:
        """Release a freed object; return its id for the daemon, and whether the extent is kept here."""
        if entry.kind != SHARED:
            return None
        local = self._store.objects.get(entry.id)
        if local is None or not local.kept:
            return entry.id, False
        if local.views:
            return None  # freed when the last view goes: see end_view
        del self._store.objects[entry.id]
        return entry.id, self._keep(entry, local)

    def _keep(self, entry: ObjectEntry, local: LocalObject) -> bool:
        """Keep the extent of an object, for the next one, if no other process ever knew of it."""
        if entry.exported or not self._store.keep(local.extent):
            return False
        if self._trim is None:
            self._arm_trim()
        return True

    def end_view(self, object_id: bytes, local: LocalObject) -> None:
        """Release an object whose last view is gone. Under the lock."""
        if local.pinned:
            if self._store.drop(object_id):
                self._daemon.send(node.Unpin(object_id))
        elif object_id not in self._refs.entries:  # else it is referenced, and readable without a pin
            del self._store.objects[object_id]
            self._daemon.send(node.Free([object_id], False))

    def free_orphans(self, creator: bytes, object_ids: list[bytes]) -> None:
        """Free the results of a dead worker of which this process, its caller, has no reply."""
        entries = self._refs.entries
        lost = [
            object_id for object_id in object_ids
            if object_id not in entries or entries[object_id].kind != SHARED
        ]  # fmt: skip
        if lost:
            self._daemon.send(node.Free(lost, False, creator))

    def _arm_trim(self) -> None:
        seen = self._context.counter

        def trim() -> None:
            self._trim = None
            if not self._store.cached_bytes:
                return
            if self._context.counter != seen:
                self._arm_trim()  # the process is busy: later
            else:
                self.give_extents_back()

        self._trim = self._context.reactor.call_later(self._context.config.store_idle_ms / 1000, trim)

    def _trim_extents(self, connection: Connection, message: node.TrimExtents) -> None:
        """Free dropped objects and give kept extents back: the store is full."""
        self.drain()
        self.give_extents_back()

    def give_extents_back(self) -> None:
        """Return every kept extent to the daemon. Under the lock."""
        extents = [(extent.segment, extent.offset) for extent in self._store.drain_cache()]
        self._daemon.send(node.ReturnExtents(extents))
