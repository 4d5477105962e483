"""Values: put, get, wait; inline in the entry or in shared memory; as futures."""

from __future__ import annotations

import pickle
import struct
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from skate._base import errors, ids
from skate._base.clock import monotonic
from skate._base.user_errors import full_name
from skate._serialize import culprit
from skate._serialize.exceptions import dump_error, load_error
from skate._serialize.values import Serialized, deserialize, serialize
from skate._store.allocator import Extent, round_up
from skate._store.client import LocalObject
from skate._transport.reactor import Timer, Waiter
from skate._transport.table_lock import resume, state, suspend
from skate._wire import node
from skate._wire.worker import BUFFERS, ERROR, PICKLE, SHARED
from skate._worker.objects import segments
from skate._worker.objects.object_ref import ObjectRef, make_ref
from skate._worker.objects.refs import PENDING, UNREGISTERED, ObjectEntry
from skate._worker.process import current
from skate._worker.process.call_site import call_site
from skate._worker.process.exhaustion import ran_out

if TYPE_CHECKING:
    from skate._worker.core import Core


#: Results up to this size have an extent asked for ahead (bytes).
_PREFETCH_LIMIT = 32 * 1024 * 1024

#: What stands for a value in shared memory: its size, segment, offset.
_LOCATION = struct.Struct("<QIQ")


class _Arrivals(threading.local):
    """Entries of the refs that this thread's current deserialisation has met."""

    entries: list[ObjectEntry] | None = None


arrivals = _Arrivals()


class NotInStore(Exception):
    """An object is not where its owner said it was; it may be made again."""

    def __init__(self, object_id: bytes) -> None:
        super().__init__(object_id)
        self.object_id = object_id


class NotYetAgain(Exception):
    """The object was lost; by now it waits for a value again, or has an error."""


class CountWaiter(Waiter):
    """Waits for a number of entries, or (``on_error``) for the first that is an error."""

    __slots__ = ("missing", "on_error", "entries", "deadline", "number", "call", "began", "error")

    def __init__(
        self,
        missing: int,
        on_error: bool,
        entries: Sequence[ObjectEntry],
        deadline: float | None,
        number: int,
    ) -> None:
        self.done = False
        self.gate = self.leads = None
        self.missing = missing
        self.on_error = on_error
        #: What an observer is told: see ``waits``.
        self.entries = entries
        self.deadline = deadline
        self.number = number
        self.thread = threading.get_ident()
        self.call = current.call.get()
        self.began = monotonic()
        #: It can never end: what to raise.
        self.error = ""

    def one_ready(self, kind: int) -> None:
        """An entry got its value."""
        self.missing -= 1
        if self.missing <= 0 or (kind == ERROR and self.on_error):
            self.notify()


class Objects:
    """The process's part about values. Built by Core."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._lock = core.lock
        self._refs = core.refs
        self._store = core.store
        self._trim: Timer | None = None

    # ------------------------------------------------------------------ put

    def put(self, value: Any) -> ObjectRef[Any]:
        """Store a value; this process owns it."""
        core = self._core
        try:
            serialized = serialize(value)
        except (RecursionError, MemoryError):
            raise
        except Exception as error:
            raise TypeError(
                f"Could not serialize the put value: {culprit.explain(value, 'value', error)}"
            ) from None
        with core.changing:
            entry = self._refs.own(ids.object_id(core.worker_id, core.next_counter()))
            entry.local = 1
            if core.config.record_call_sites:
                entry.site = call_site(3)
            self.contain(entry, serialized.refs)
        ref = make_ref(entry, core)
        self.store(entry, serialized, type(value))
        if core.reactor.interrupted:
            core.check_interrupt()
        return ref

    def store(self, entry: ObjectEntry, serialized: Serialized, kind: type) -> None:
        """Give an entry that this process owns its value. Raises like ``store_value``."""
        try:
            found = self.store_value(entry.id, serialized, kind, mine=True)
        except MemoryError:
            with self._core.changing:  # it may have been sealed, and nobody knows where
                self._store.objects.pop(entry.id, None)
                self._core.node.send(node.Free([entry.id], False, self._core.worker_id))
            raise
        with self._core.changing:
            self._refs.fulfil(entry, *found)

    def contain(self, entry: ObjectEntry, refs: Sequence[ObjectRef[Any]]) -> None:
        """The value of ``entry`` has these refs inside. Called under the lock."""
        if refs:
            self._refs.contain(entry, list(dict.fromkeys([ref._entry for ref in refs])))

    def store_value(
        self, object_id: bytes, serialized: Serialized, kind: type, *, mine: bool, again: bool = False
    ) -> tuple[int, bytes]:
        """Put a value where its size belongs; return what stands for it in messages.

        ``mine``: this process owns the object and may read it without asking. ``again``: it is made
        in case it was lost.
        Raises:
            ObjectStoreFullError: there is no room for it.
            MemoryError: this process has no memory for it; it may be sealed all the same.
        """
        if serialized.size <= self._core.config.max_inline_bytes:
            return serialized.kind, serialized.to_bytes()
        extent, fresh = self._allocate(serialized.laid_out_size)
        size = serialized.laid_out_size
        try:
            if fresh:
                self._write_fresh(extent, serialized)
            else:
                serialized.write_into(self._store.target(extent))
        except BaseException:
            with self._core.changing:
                self._core.node.send(node.ReturnExtents([(extent.segment, extent.offset)]))
            raise
        label = full_name(kind)
        with self._core.changing:
            local = self._store.sealed(object_id, extent, size, fresh=fresh)
            if not mine:
                # The owner frees it, so this extent will not come back: ask for the next one now.
                del self._store.objects[object_id]
                if extent.size <= _PREFETCH_LIMIT and not self._store.cached_bytes:
                    self._core.node.send(node.Allocate(0, serialized.laid_out_size))
            place = local.extent
            self._core.node.send(node.Seal(object_id, place.segment, place.offset, size, label, again))
            # Before anybody hears of the object: if we die then, the daemon has read its seal.
            self._core.node.flush()
        return SHARED, _LOCATION.pack(size, local.extent.segment, local.extent.offset)

    def _allocate(self, size: int) -> tuple[Extent, bool]:
        """Return an extent, and whether its pages are still to come."""
        core = self._core
        with core.changing:
            core.drain()  # what was just dropped may be what we need
            extent = self._store.take_cached(size)
            if extent is not None:
                return extent, self._store.take_fresh(extent)
        reply = core.request(lambda request: node.Allocate(request, size))
        if reply.error:
            raise errors.ObjectStoreFullError(reply.error)
        return Extent(reply.segment, reply.offset, reply.size), reply.fresh

    def _write_fresh(self, extent: Extent, serialized: Serialized) -> None:
        try:
            self._store.write_fresh(extent, serialized.pieces())
        except OSError as error:
            raise segments.unwritable(extent, error) from None

    def prefetched(self, message: node.Extent) -> None:
        """An extent came that was asked for ahead of need. Under the lock."""
        if message.error:
            return
        extent = Extent(message.segment, message.offset, message.size)
        if self._store.keep(extent, fresh=message.fresh):
            if self._trim is None:
                self._arm_trim()
        else:
            self._core.node.send(node.ReturnExtents([(extent.segment, extent.offset)]))

    # ------------------------------------------------------------------ get

    def get(self, refs: Sequence[ObjectRef[Any]], timeout: float | None) -> list[Any]:
        """Return the values of all refs, in their order; raise the first error."""
        entries = [ref._entry for ref in refs]
        self.wait_ready(entries, len(entries), timeout, on_error=True)
        for entry in entries:
            if entry.kind == ERROR:
                for other in entries:
                    other.asked = True  # all of them, though one is raised
                self.value(entry)
        return [self.value(entry, timeout) for entry in entries]

    def get_one(self, ref: ObjectRef[Any], timeout: float | None) -> Any:
        """Return the value of one ref."""
        entry = ref._entry
        if entry.kind == PENDING:
            if timeout is None:
                self._wait_one(entry)
            else:
                self.wait_ready([entry], 1, timeout, on_error=True)
        elif self._core.reactor.interrupted:
            self._core.check_interrupt()
        if entry.kind == PICKLE and entry.contained is None and entry.owner_address is None:
            return pickle.loads(entry.data)  # the common case: no refs inside that we would have to meet
        return self.value(entry, timeout)

    def _wait_one(self, entry: ObjectEntry) -> None:
        """``wait_ready`` for one entry and without a deadline: most waits of most programs."""
        core = self._core
        if core.dead_reason:
            core.check_usable()
        lock = self._lock
        suspend()
        lock.acquire()
        suspend()
        try:
            if entry.kind != PENDING:
                return
            waiter = self._new_waiter(1, True, [entry], None)
            if entry.waiters is None:
                entry.waiters = [waiter]
            else:
                entry.waiters.append(waiter)
            if entry.owner_address is not None:
                core.borrowing.fetch(entry)
        except MemoryError as error:
            ran_out(core, error)
            raise
        finally:
            if state.wanted:
                resume()
            lock.release()
        try:
            core.wait(waiter, None)
        finally:
            self._stop_waiting(waiter)
        if entry.kind == PENDING:
            core.check_usable()
            raise errors.RaySystemError("the session ended while get() waited")

    def _new_waiter(
        self, missing: int, on_error: bool, entries: Sequence[ObjectEntry], deadline: float | None
    ) -> CountWaiter:
        core = self._core
        core.last_wait += 1
        waiter = CountWaiter(missing, on_error, entries, deadline, core.last_wait)
        core.waits.add(waiter)
        return waiter

    def _stop_waiting(self, waiter: CountWaiter) -> None:
        self._core.waits.discard(waiter)
        if not waiter.done or waiter.error:
            with self._core.changing:
                for entry in waiter.entries:
                    if entry.waiters and waiter in entry.waiters:
                        entry.waiters.remove(waiter)
            if waiter.error:
                raise errors.DeadlockError(waiter.error)

    def wait_ready(
        self, entries: Sequence[ObjectEntry], count: int, timeout: float | None, *, on_error: bool
    ) -> None:
        """Return when ``count`` entries have values.

        Raises:
            GetTimeoutError: they have not in time (only where ``on_error``).
        """
        core = self._core
        core.check_usable()
        if core.reactor.interrupted:
            core.check_interrupt()  # a program that finds all of them ready reaches no wait
        ready = 0
        waiter = None
        pending: list[ObjectEntry] = []
        with core.changing:
            for entry in entries:
                if entry.kind != PENDING:
                    ready += 1
                    if ready >= count or (on_error and entry.kind == ERROR):
                        return
                else:
                    pending.append(entry)
            if ready >= count:
                return  # nothing was asked for
            deadline = None if timeout is None else monotonic() + timeout
            waiter = self._new_waiter(count - ready, on_error, pending, deadline)
            for entry in pending:
                if entry.waiters is None:
                    entry.waiters = [waiter]
                else:
                    entry.waiters.append(waiter)
                if entry.owner_address is not None:
                    core.borrowing.fetch(entry)
        try:
            done = core.wait(waiter, deadline)
        finally:
            self._stop_waiting(waiter)
        if not done and on_error:
            core.check_usable()
            missing = [entry for entry in pending if entry.kind == PENDING]
            named = _named(missing[0]) if missing else "(just now ready)"
            raise errors.GetTimeoutError(
                f"Get timed out: some object(s) not ready. get() waited {timeout:g} s; {len(missing)} of "
                f"{len(entries)} object(s) were not ready, among them {named}. The tasks go on; call get() "
                "again or give it more time."
            )

    def value(self, entry: ObjectEntry, timeout: float | None = None) -> Any:
        """Return the value of an entry that has one; raise it if it is an error.

        If it turns out to be lost, wait until it was made again, up to ``timeout`` seconds more.
        """
        while True:
            try:
                return self.value_now(entry)
            except NotYetAgain:
                pass
            self.wait_ready([entry], 1, timeout, on_error=True)

    def value_now(self, entry: ObjectEntry) -> Any:
        """Return the value of an entry that has one; raise it if it is an error.

        Raises:
            NotYetAgain: it is lost, and about to be made again.
        """
        kind = entry.kind
        found = entry.data
        data: bytes | memoryview = found
        if kind == SHARED:
            try:
                data = self._own_view(entry, found) if entry.owner_address is None else self.view(entry.id)
            except NotInStore:
                with self._core.changing:
                    self._core.recovery.missing(entry, found)
                    self._core.drain()
                    self._core.reactor.flush()
                raise NotYetAgain from None
            kind = BUFFERS
        elif kind == PENDING:
            raise NotYetAgain  # another thread found it missing
        outer, arrivals.entries = arrivals.entries, []
        try:
            value = load_error(found) if kind == ERROR else deserialize(kind, data)
            met = arrivals.entries
        finally:
            arrivals.entries = outer
        if met:
            self.protect_until_registered(met, entry)
        if kind == ERROR:
            entry.asked = True
            try:
                raise value
            finally:
                del value  # or the error and this frame keep each other, and with them refs, alive
        return value

    def protect_until_registered(self, met: Sequence[ObjectEntry], outer: ObjectEntry) -> None:
        """The value of ``outer`` keeps the refs inside alive until their owners know of us."""
        with self._core.changing:
            for inner in met:
                if inner.owner_address is not None and inner.borrow_state == UNREGISTERED:
                    outer.pins += 1
                    self._refs.register(inner, lambda: self._refs.unpin(outer))
            self._core.drain()

    def _own_view(self, entry: ObjectEntry, location: bytes) -> memoryview:
        """Return the bytes of an object that this process owns, without waiting for the pin.

        Only the owner frees an object, and its Free would follow this Pin on the same connection: so
        the daemon cannot reuse the memory before it has read the Pin. Nobody else may do this, nor
        the owner once it was asked to let the object move (see ``prepare_move``).
        """
        size, segment, offset = _LOCATION.unpack(location)
        with self._lock:
            local = self._store.objects.get(entry.id)
            try:
                if local is None and not entry.by_request and self._store.has_segment(segment):
                    extent = Extent(segment, offset, round_up(size))
                    local = self._store.add(entry.id, extent, size)
                    local.pinned = True
                    self._core.node.send(node.Pin(0, entry.id))
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
        core = self._core
        with self._lock:
            local = self._store.objects.get(object_id)
            if local is not None:
                return self._store.view(object_id, local)
            self._store.pin_asked(object_id)
        try:
            reply = core.request(lambda request: node.Pin(request, object_id))
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
                    core.node.send(node.Unpin(object_id))

    def _no_view(self, object_id: bytes) -> None:
        """Making a view failed: leave nothing that only the end of one would end. Under the lock."""
        local = self._store.objects.get(object_id)
        if local is not None and not local.views:
            self._core.view_ended(object_id, local)

    # ------------------------------------------------------------------ wait

    def wait(
        self, refs: list[ObjectRef[Any]], num_returns: int, timeout: float | None
    ) -> tuple[list[ObjectRef[Any]], list[ObjectRef[Any]]]:
        """Return (ready, not ready), the first with at most ``num_returns`` refs, in input order."""
        if self._core.dead_reason:
            self._core.check_usable()
        first = refs[:num_returns]
        for ref in first:
            if ref._entry.kind == PENDING:
                break
        else:  # the common case in a loop over many refs: no look at the others
            if self._core.reactor.interrupted:
                self._core.check_interrupt()
            return first, refs[num_returns:]
        self.wait_ready([ref._entry for ref in refs], num_returns, timeout, on_error=False)
        ready: list[ObjectRef[Any]] = []
        rest: list[ObjectRef[Any]] = []
        begin = 0
        for index, ref in enumerate(refs):
            if ref._entry.kind != PENDING:
                ready.append(ref)
                rest += refs[begin:index]
                begin = index + 1
                if len(ready) == num_returns:
                    break
        return ready, rest + refs[begin:]

    # ------------------------------------------------------------------ refs that arrive

    def adopt(self, object_id: bytes, owner_address: str) -> ObjectRef[Any]:
        """Return a ref for an id that came from elsewhere."""
        core = self._core
        with core.changing:
            entry = self._refs.entries.get(object_id)
            if entry is None:
                if not owner_address or owner_address == core.address:
                    # It was ours and is gone; whoever sent it did not keep it alive.
                    entry = ObjectEntry(object_id, None)
                    entry.gone = True
                    text = "a ref to it arrived after the last known one was gone"
                    error = errors.ReferenceCountingAssertionError(object_id.hex(), core.address, text)
                    self._refs.fulfil(entry, ERROR, dump_error(error))
                else:
                    entry = self._refs.borrow(object_id, owner_address)
                    entry.site = current.call.get().name
            entry.local += 1
        ref = make_ref(entry, core)
        met = arrivals.entries
        if met is not None:
            met.append(entry)
        elif entry.owner_address is not None:
            with core.changing:
                self._refs.register(entry)
                core.drain()
        return ref

    # ------------------------------------------------------------------ moving

    def prepare_move(self, message: node.PrepareMove) -> None:
        """Memory is short: have the daemon know what is read here, and ask it from now on. Under the lock."""
        core = self._core
        core.drain()  # views that ended need no pin
        for object_id in message.object_ids:
            entry = self._refs.entries.get(object_id)
            if entry is not None:
                entry.by_request = True
            local = self._store.objects.get(object_id)
            if local is None:
                continue
            if not local.views:
                if self._store.drop(object_id) and local.pinned:
                    core.node.send(node.Unpin(object_id))
            elif not local.pinned:
                local.pinned, local.kept = True, False
                core.node.send(node.Pin(0, object_id))
                if entry is None:  # it was to be freed with its last view; that only unpins it now
                    core.node.send(node.Free([object_id], False))
        core.node.send(node.Prepared(message.object_ids))

    # ------------------------------------------------------------------ freeing

    def free_value(self, entry: ObjectEntry) -> tuple[bytes, bool] | None:
        """An owned entry is gone: return what the daemon must be told: (id, keep the extent)."""
        if entry.kind != SHARED:
            if entry.kind == ERROR:
                self._core.unread.freed(entry)
            return None
        local = self._store.objects.get(entry.id)
        if local is None or not local.kept:
            return entry.id, False
        if local.views:
            return None  # freed when the last view goes: see view_ended
        del self._store.objects[entry.id]
        return entry.id, self._keep(entry, local)

    def _keep(self, entry: ObjectEntry, local: LocalObject) -> bool:
        """Keep the extent of an object that no other process ever knew of, for the next one."""
        if entry.exported or not self._store.keep(local.extent):
            return False
        if self._trim is None:
            self._arm_trim()
        return True

    def view_ended(self, object_id: bytes, local: LocalObject) -> bool:
        """The last view of an object is gone. Tell whether it is to be freed at the daemon."""
        if local.pinned:
            if self._store.drop(object_id):
                self._core.node.send(node.Unpin(object_id))
            return False
        if object_id in self._refs.entries:
            return False  # still referenced, and readable without a pin
        del self._store.objects[object_id]
        return True

    def _arm_trim(self) -> None:
        seen = self._core.counter

        def trim() -> None:
            self._trim = None
            if not self._store.cached_bytes:
                return
            if self._core.counter != seen:
                self._arm_trim()  # it is busy: look again later
            else:
                self.give_extents_back()

        self._trim = self._core.reactor.call_later(self._core.config.store_idle_ms / 1000, trim)

    def trim(self) -> None:
        """The store is full: let go of what is dropped, and of what is kept for later. Under the lock."""
        self._core.drain()
        self.give_extents_back()

    def give_extents_back(self) -> None:
        """Return every kept extent to the daemon. Called under the lock."""
        extents = [(extent.segment, extent.offset) for extent in self._store.drain_cache()]
        self._core.node.send(node.ReturnExtents(extents))


def _named(entry: ObjectEntry) -> str:
    """Return what errors call an object that is not there yet."""
    if entry.task is None:
        return entry.id.hex()
    return f"what {entry.task.describe()} returns ({entry.id.hex()}; see `skate why {entry.id.hex()}`)"
