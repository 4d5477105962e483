"""Stores values, waits for them and reads them: put, get and wait."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Iterable, Sequence
from types import CodeType
from typing import Any

from skate._base import errors, ids
from skate._base.clock import monotonic
from skate._base.hooks import unset
from skate._serialize import culprit
from skate._serialize.exceptions import dump_error, load_error
from skate._serialize.values import Serialized, deserialize, serialize
from skate._store.client import StoreClient
from skate._transport.table_lock import resume, state, suspend
from skate._wire import node
from skate._wire.worker import BUFFERS, ERROR, NONE, PICKLE, SHARED
from skate._worker.objects.borrowing import Borrowing
from skate._worker.objects.garbage import Garbage
from skate._worker.objects.home import Home
from skate._worker.objects.object_ref import ObjectRef, make_ref
from skate._worker.objects.refs import PENDING, UNREGISTERED, ObjectEntry, RefTable, dead_entry
from skate._worker.objects.shared_memory import NotInStore, SharedMemory
from skate._worker.process import current
from skate._worker.process.call_site import call_site
from skate._worker.process.context import ProcessContext
from skate._worker.process.daemon_link import DaemonLink
from skate._worker.process.exhaustion import ran_out
from skate._worker.process.main_thread import MainThread
from skate._worker.process.waiting import CountWaiter, Waiting

#: Kinds of entries that ``free`` frees.
_VALUES = (NONE, PICKLE, BUFFERS, SHARED)


class _DeserializedRefs(threading.local):
    """Entries of the refs that this thread's current deserialisation has produced."""

    entries: list[ObjectEntry] | None = None


deserialized_refs = _DeserializedRefs()


class NotYetAgain(Exception):
    """The object was lost; it waits for a value again by now, or has an error."""


class Values:
    """The values of this process's objects: stored, waited for, read. Built by Core, which sets the hook."""

    def __init__(
        self,
        context: ProcessContext,
        daemon: DaemonLink,
        main_thread: MainThread,
        waiting: Waiting,
        refs: RefTable,
        store: StoreClient,
        memory: SharedMemory,
        borrowing: Borrowing,
        garbage: Garbage,
        home: Home,
    ) -> None:
        self._context = context
        self._reactor = context.reactor
        self._lock = context.lock
        self._locked = context.locked
        self._daemon = daemon
        self._check_interrupt = main_thread.check_interrupt
        self._waiting = waiting
        self._waits = waiting.waits
        self._refs = refs
        self._store = store
        self._memory = memory
        self._borrowing = borrowing
        self._garbage = garbage
        self._home = home
        #: Called under the lock with an object that is not where its location says: see ``calls.recovery``.
        self.on_missing: Callable[[ObjectEntry, bytes], None] = unset
        #: Where the last value was put, if that is recorded.
        self._site: tuple[CodeType, int] | None = None

    # ------------------------------------------------------------------ put

    def put(self, value: Any) -> ObjectRef[Any]:
        """Store a value; this process owns it."""
        context = self._context
        try:
            serialized = serialize(value)
        except (RecursionError, MemoryError):
            raise
        except Exception as error:
            raise TypeError(
                f"Could not serialize the put value: {culprit.explain(value, 'value', error)}"
            ) from None
        with self._locked:
            site = self._site = call_site(3, self._site) if context.config.record_call_sites else None
            entry = self._refs.own(ids.object_id(context.worker_id, context.next_counter()), site)
            self.contain(entry, serialized.refs)
        ref = make_ref(entry, self._home)
        self.store(entry, serialized, type(value))
        if self._reactor.interrupted:
            self._check_interrupt()
        return ref

    def store(self, entry: ObjectEntry, serialized: Serialized, kind: type) -> None:
        """Give an entry that this process owns its value. Raises like ``store_value``."""
        try:
            found = self._memory.store_value(entry.id, serialized, kind, mine=True)
        except MemoryError:
            with self._locked:  # it may have been sealed at an unknown location
                self._store.objects.pop(entry.id, None)
                self._daemon.send(node.Free([entry.id], False, self._context.worker_id))
            raise
        with self._locked:
            self._refs.fulfil(entry, *found)

    def contain(self, entry: ObjectEntry, refs: Sequence[ObjectRef[Any]]) -> None:
        """Note that the value of ``entry`` has these refs inside. Under the lock."""
        if refs:
            self._refs.contain(entry, list(dict.fromkeys([ref._entry for ref in refs])))

    # ------------------------------------------------------------------ get

    def get(self, refs: Sequence[ObjectRef[Any]], timeout: float | None) -> list[Any]:
        """Return the values of all refs, in their order; raise the first error."""
        entries = [ref._entry for ref in refs]
        self.wait_ready(entries, len(entries), timeout, on_error=True)
        for entry in entries:
            if entry.kind == ERROR:
                for other in entries:
                    other.mark_retrieved()  # all of them, though only one is raised
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
        elif self._reactor.interrupted:
            self._check_interrupt()
        if entry.kind == PICKLE and entry.contained is None and entry.owner_address is None:
            return pickle.loads(entry.data)  # the common case: there are no refs inside
        return self.value(entry, timeout)

    def _wait_one(self, entry: ObjectEntry) -> None:
        """Do ``wait_ready`` for one entry and without a deadline: most waits of most programs."""
        context = self._context
        if context.dead_reason:
            context.check_usable()
        lock = self._lock
        suspend()
        lock.acquire()
        suspend()
        try:
            if entry.kind != PENDING:
                return
            waiter = self._waiting.begin(1, True, [entry], None)
            if entry.waiters is None:
                entry.waiters = [waiter]
            else:
                entry.waiters.append(waiter)
            if entry.owner_address is not None:
                self._borrowing.fetch(entry)
        except MemoryError as error:
            ran_out(context, error)
            raise
        finally:
            if state.wanted:
                resume()
            lock.release()
        try:
            self._waiting.block(waiter, None)
        finally:
            self._waits.pop(waiter, None)
            if not waiter.done or waiter.error:
                self._stop_waiting(waiter)
        if entry.kind == PENDING:
            context.check_usable()
            raise errors.RaySystemError("the session ended while get() waited")

    def _stop_waiting(self, waiter: CountWaiter) -> None:
        self._waiting.end(waiter)
        if not waiter.done or waiter.error:
            with self._locked:
                for entry in waiter.entries:
                    self._refs.stop_awaiting(entry, waiter)
            if waiter.error:
                raise errors.DeadlockError(waiter.error)

    def wait_ready(
        self, entries: Sequence[ObjectEntry], count: int, timeout: float | None, *, on_error: bool
    ) -> None:
        """Return when ``count`` entries have values.

        Raises:
            GetTimeoutError: they had none in time (only where ``on_error``).
        """
        self._context.check_usable()
        if self._reactor.interrupted:
            self._check_interrupt()  # a program that finds all of them ready never waits
        ready = 0
        waiter = None
        pending: list[ObjectEntry] = []
        with self._locked:
            for entry in entries:
                if entry.kind != PENDING:
                    ready += 1
                    if ready >= count or (on_error and entry.kind == ERROR):
                        return
                else:
                    pending.append(entry)
            if ready >= count:
                return  # ``count`` is 0
            deadline = None if timeout is None else monotonic() + timeout
            waiter = self._waiting.begin(count - ready, on_error, pending, deadline)
            for entry in pending:
                self._refs.await_value(entry, waiter)
                if entry.owner_address is not None:
                    self._borrowing.fetch(entry)
        try:
            done = self._waiting.block(waiter, deadline)
        finally:
            self._stop_waiting(waiter)
        if not done and on_error:
            self._context.check_usable()
            missing = [entry for entry in pending if entry.kind == PENDING]
            named = _named(missing[0]) if missing else "(just now ready)"
            raise errors.GetTimeoutError(
                f"Get timed out: some object(s) not ready. get() waited {timeout:g} s; {len(missing)} of "
                f"{len(entries)} object(s) were not ready, among them {named}. The tasks go on; call get() "
                "again or give it more time."
            )

    def value(self, entry: ObjectEntry, timeout: float | None = None) -> Any:
        """Return the value of an entry that has one; raise it if it is an error.

        If it turns out to be lost, wait until it is made again, up to ``timeout`` seconds more.
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
                mine = entry.owner_address is None
                data = self._memory.own_view(entry, found) if mine else self._memory.view(entry.id)
            except NotInStore:
                with self._locked:
                    self.on_missing(entry, found)
                    self._garbage.drain()
                    self._reactor.flush()
                raise NotYetAgain from None
            kind = BUFFERS
        elif kind == PENDING:
            raise NotYetAgain  # another thread found it missing
        outer, deserialized_refs.entries = deserialized_refs.entries, []
        try:
            value = load_error(found) if kind == ERROR else deserialize(kind, data)
            received = deserialized_refs.entries
        finally:
            deserialized_refs.entries = outer
        if received:
            self.protect_until_registered(received, entry)
        if kind == ERROR:
            entry.mark_retrieved()
            try:
                raise value
            finally:
                del value  # or the error and this frame keep each other alive, and the refs in them
        return value

    def protect_until_registered(self, received: Sequence[ObjectEntry], outer: ObjectEntry) -> None:
        """Keep ``outer`` until this process is registered with the owners of the refs inside."""
        with self._locked:
            for inner in received:
                if inner.owner_address is not None and inner.borrow_state == UNREGISTERED:
                    self._refs.pin(outer)
                    self._refs.register(inner, lambda: self._refs.unpin(outer))
            self._garbage.drain()

    # ------------------------------------------------------------------ wait

    def wait(
        self, refs: list[ObjectRef[Any]], num_returns: int, timeout: float | None
    ) -> tuple[list[ObjectRef[Any]], list[ObjectRef[Any]]]:
        """Return (ready, not ready), the first with at most ``num_returns`` refs, in input order."""
        if self._context.dead_reason:
            self._context.check_usable()
        first = refs[:num_returns]
        for ref in first:
            if ref._entry.kind == PENDING:
                break
        else:  # the common case in a loop over many refs: the others are not checked
            if self._reactor.interrupted:
                self._check_interrupt()
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
        """Return a ref for an id that another process sent."""
        address = self._context.address
        with self._locked:
            entry = self._refs.entries.get(object_id)
            if entry is None:
                if not owner_address or owner_address == address:
                    # This process owned it and freed it; the sender failed to keep a reference.
                    text = "a ref to it arrived after the last known one was gone"
                    error = errors.ReferenceCountingAssertionError(object_id.hex(), address, text)
                    entry = dead_entry(object_id, None, dump_error(error))
                else:
                    entry = self._refs.borrow(object_id, owner_address, current.call.get().name)
            self._refs.add_local(entry)
        ref = make_ref(entry, self._home)
        received = deserialized_refs.entries
        if received is not None:
            received.append(entry)
        elif entry.owner_address is not None:
            with self._locked:
                self._refs.register(entry)
                self._garbage.drain()
        return ref

    # ------------------------------------------------------------------ giving up

    def free(self, refs: Iterable[ObjectRef[Any]]) -> None:
        """Free owned values that are there and have no view here; their refs stand for ObjectFreedError then.

        A view that another process has stays valid; the daemon frees the memory after the last one. See
        ``ray._private.internal_api.free``.
        """
        for ref in refs:
            entry = ref._entry
            text = "free() gave its memory back while refs to it were left"
            freed = dump_error(errors.ObjectFreedError(entry.id.hex(), self._context.address, text))
            with self._locked:
                if entry.owner_address is not None or entry.gone or entry.kind not in _VALUES:
                    continue
                if entry.kind == SHARED:
                    local = self._store.objects.get(entry.id)
                    if local is not None and local.views:
                        continue
                    found = self._memory.free_value(entry)
                    if found is not None:
                        self._daemon.send(node.Free([found[0]], found[1]))
                self._refs.replace_value(entry, ERROR, freed)
                self._garbage.drain()
            self._reactor.request_turn()


def _named(entry: ObjectEntry) -> str:
    """Return the words of an error for an object that is not there yet."""
    if entry.task is None:
        return entry.id.hex()
    return f"what {entry.task.describe()} returns ({entry.id.hex()}; see `skate why {entry.id.hex()}`)"
