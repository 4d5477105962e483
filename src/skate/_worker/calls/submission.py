"""Calls: arguments to bytes, records, submission, results. The busiest code of a driver.

Pickling happens on the calling thread without the lock; everything about tables under it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from skate._base import errors, ids
from skate._base.clock import monotonic
from skate._transport.connection import HIGH_WATER, Connection
from skate._transport.reactor import Waiter
from skate._transport.table_lock import resume, state, suspend
from skate._wire import node
from skate._wire import worker as wire
from skate._worker.calls import code
from skate._worker.calls.arguments import NO_ARGUMENTS, Arguments, encode
from skate._worker.calls.generators import ObjectRefGenerator
from skate._worker.calls.records import FunctionRecord, TaskRecord
from skate._worker.calls.stream_calls import DYNAMIC, STREAMING
from skate._worker.objects.object_ref import ObjectRef, make_ref, make_refs
from skate._worker.objects.refs import PENDING, ObjectEntry, discarding_entry
from skate._worker.process import current
from skate._worker.process.call_site import call_site
from skate._worker.process.exhaustion import ran_out

if TYPE_CHECKING:
    from types import CodeType

    from skate._worker.calls.actor_client import ActorClient
    from skate._worker.calls.lease_pool import LeasePool
    from skate._worker.core import Core


class Calls:
    """The process's part about its calls. Built by Core."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._lock = core.lock
        self._refs = core.refs
        self._last_function = 0
        #: Where the last call was made, if that is recorded.
        self._site: tuple[CodeType, int] | None = None

    # ------------------------------------------------------------------ functions and arguments

    def make_function(self, function: Any, name: str, threads: int) -> FunctionRecord:
        """Pickle a remote function, once a session."""
        blob, refs = code.dump(self._core, function, name)
        with self._lock:
            self._last_function += 1
            return FunctionRecord(self._last_function, name, blob, threads, refs, self._core.dead_functions)

    def _new_task(
        self,
        function: FunctionRecord | None,
        method: str,
        arguments: Arguments,
        num_returns: int,
        retries: int,
    ) -> TaskRecord:
        """Make the records of a call. Under the lock."""
        core = self._core
        seq = core.counter = core.counter + 1
        site = self._site = call_site(5, self._site) if core.config.record_call_sites else None
        worker_id, own = core.worker_id, self._refs.own
        entries: Sequence[ObjectEntry]
        if num_returns == 1:  # nearly always
            entry = own(ids.object_id(worker_id, seq), site)
            entries = (entry,)  # the collector forgets a tuple of what it does not look at
        else:
            entries = [own(ids.object_id(worker_id, seq, index), site) for index in range(num_returns)]
        parent = current.call.get()
        task = TaskRecord(
            seq, function, method, arguments.kind, arguments.data, entries, retries,
            parent.depth + 1 << wire.DEPTH_SHIFT, parent, site, monotonic(),
        )  # fmt: skip
        for entry in entries:
            entry.task = task
        if not arguments.plain:
            self._keep_arguments(task, arguments)
        return task

    def _keep_arguments(self, task: TaskRecord, arguments: Arguments) -> None:
        """Pin the refs that travel with the call until it is over."""
        pins: list[ObjectEntry] = [ref._entry for ref in arguments.refs]
        if arguments.blob is not None:
            pins.append(arguments.blob._entry)
        if arguments.dependencies is not None:
            task.dependencies = [(where, ref._entry) for where, ref in arguments.dependencies]
            pins += [entry for _, entry in task.dependencies]
        for entry in pins:
            entry.pins += 1
        task.pins = pins

    def _depend(self, task: TaskRecord, entry: ObjectEntry) -> None:
        if entry.kind == PENDING:
            task.unresolved += 1
            if entry.dependents is None:
                entry.dependents = []
            entry.dependents.append(lambda ready: self._argument_ready(task, ready))
            if entry.owner_address is not None:
                self._core.borrowing.fetch(entry)

    def _argument_ready(self, task: TaskRecord, entry: ObjectEntry) -> None:
        if task.unresolved <= 0:
            return  # it is over, or does not wait for this one any more
        if entry.kind == wire.ERROR:
            self._fail(task, entry)
            return
        task.unresolved -= 1
        # The others had values; one may have been lost meanwhile.
        if task.unresolved == 0 and self.may_go_again(task):
            if task.actor is not None:
                self._core.actors.ready(task)
            elif task.pool is not None:
                self._core.normal.submit(task, task.pool)

    def _failed_already(self, task: TaskRecord) -> bool:
        """Whether an argument is an error, so that the task is one without being run."""
        if task.unresolved < 0:
            return True
        if task.dependencies is not None:
            for _, entry in task.dependencies:
                if entry.kind == wire.ERROR:
                    self._fail(task, entry)
                    return True
        return False

    def _fail(self, task: TaskRecord, argument: ObjectEntry) -> None:
        if task.actor is not None:
            self._core.actors.failed_argument(task)
        argument.asked = True
        self.finish_with_error(task, argument.data)
        self._core.unread.failed(task, argument.data)

    def submit_task(
        self,
        function: FunctionRecord,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        pool: LeasePool,
        num_returns: int,
        max_retries: int,
        name: str | None,
        ahead: int = 0,
    ) -> Any:
        """Run a remote function; return its ref, the list of its refs, or None for no returns.

        ``num_returns`` may be STREAMING or DYNAMIC: then ``ahead`` is how many items it may be ahead.
        """
        core = self._core
        arguments = encode(core, args, kwargs, function.name) if args or kwargs else NO_ARGUMENTS
        lock = self._lock
        suspend()
        lock.acquire()
        suspend()
        try:
            if core.dead_reason:
                core.check_usable()
            returns = num_returns if num_returns >= 0 else 1
            try:
                task = self._new_task(function, "", arguments, returns, max_retries)
                task.retry = function.retry
                task.name = name
                task.pool = pool
                if num_returns < 0:
                    task.stream = core.streams.open(num_returns, ahead)
                if arguments.plain or self.may_go_again(task):
                    core.normal.submit(task, pool)
            except MemoryError as error:
                ran_out(core, error)
                raise
        finally:
            if state.wanted:
                resume()
            lock.release()
        return self._refs_of(task, num_returns)

    def _refs_of(self, task: TaskRecord, num_returns: int) -> Any:
        """Return what the caller of ``.remote()`` gets; see to what is still to be sent."""
        core = self._core
        reactor = core.reactor
        if reactor.dirty and reactor.polling:
            reactor.request_turn()
        if num_returns == 1 or num_returns == DYNAMIC:
            made: Any = make_ref(task.returns[0], core)
        elif num_returns == STREAMING:
            try:
                made = ObjectRefGenerator(core, task, make_ref(task.returns[0], core))
            except MemoryError:
                core.dead_streams.append(task)
                raise
        else:
            made = make_refs(task.returns, core) or None
        if reactor.interrupted:
            core.check_interrupt()  # not before somebody owns the refs
        return made

    def submit_call(
        self,
        client: ActorClient,
        handle: ObjectRef[Any] | None,
        method: str,
        label: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        num_returns: int,
        max_retries: int,
        group: str | None,
        ahead: int = 0,
        retry: bytes | None = None,
        hidden: bool = False,
        name: str | None = None,
    ) -> Any:
        """Call an actor's method; return like ``submit_task``."""
        core = self._core
        arguments = encode(core, args, kwargs, label) if args or kwargs else NO_ARGUMENTS
        lock = self._lock
        suspend()
        lock.acquire()
        suspend()
        try:
            if core.dead_reason:
                core.check_usable()
            if 0 <= client.max_pending <= len(client.queue) + len(client.inflight):
                raise errors.PendingCallsLimitExceeded(
                    f"The task {label} could not be submitted to the actor: {client.max_pending} calls "
                    "from this process are unfinished. This limit can be adjusted with the "
                    "`max_pending_calls` actor option; or wait for some of them"
                )
            returns = num_returns if num_returns >= 0 else 1
            try:
                task = self._new_task(None, method, arguments, returns, max_retries)
                task.actor = client
                if num_returns < 0:
                    task.stream = core.streams.open(num_returns, ahead)
                if group is not None:
                    task.group = group
                if retry is not None:
                    task.retry = retry
                if hidden:
                    task.hidden = True
                if name is not None:
                    task.name = name
                if not arguments.plain:
                    self.may_go_again(task)
                if task.unresolved >= 0:
                    # Calls under way keep the actor alive even if every handle is gone.
                    client.keep = handle
                    core.actors.submit(task, client)
            except MemoryError as error:
                ran_out(core, error)
                raise
        finally:
            if state.wanted:
                resume()
            lock.release()
        connection = client.connection
        if connection is not None and len(connection.out) > HIGH_WATER:
            self._wait_for_room(connection)
        return self._refs_of(task, num_returns)

    def _wait_for_room(self, connection: Connection) -> None:
        """Back-pressure: the peer reads more slowly than this thread submits."""
        waiter = Waiter()

        def look() -> None:
            if connection.closed or connection.queued_bytes < HIGH_WATER // 2:
                waiter.notify()
            else:
                self._core.reactor.call_later(0.005, look)

        with self._lock:
            connection.flush()
            look()
        self._core.reactor.wait(waiter)

    # ------------------------------------------------------------------ finishing

    def replied(self, connection: Connection, message: wire.Reply) -> None:
        task = connection.peer.calls.pop(message.seq, None)
        if task is None:
            return  # given up meanwhile
        kind = message.kind
        if kind >= wire.RETRIABLE:
            if kind == wire.LOST:
                self._argument_lost(connection, message, task)
                return
            if task.spend_retry():
                self._again(connection, message, task)
                return
            kind = wire.ERROR
        entries = task.returns if not task.again else self._core.recovery.wanted(task)
        if message.borrowed:
            for object_id, epoch in message.borrowed:
                self._refs.add_borrower(object_id, connection.peer.id, epoch)
        contained = message.contained
        if task.stream is not None:
            last = self._core.streams.end(task, kind, message.data, raised=True)
            if contained and last is not None:  # the error is a value of two refs, and so is what is in it
                entries = [entries[0], last]
                contained = [*contained, *((1, *inner[1:]) for inner in contained)]
        if contained:
            self.take_contained(connection, contained, entries, wire.ReplyAck(message.seq))
        if task.stream is None and entries:
            if kind == wire.ERROR:
                self._set_failed(entries, message)
            else:
                self._set_return(entries[0], kind, message.data)
            if kind != wire.ERROR and message.more is not None:
                for entry, (more_kind, more_data) in zip(entries[1:], message.more, strict=False):
                    self._set_return(entry, more_kind, more_data)
            if kind == wire.SHARED or (message.more is not None and _any_shared(message.more)):
                self._core.recovery.remember(task, entries)
        if task.pins is not None:
            self._unpin(task)
        error = None
        if kind == wire.ERROR:
            error = message.data
            self._core.unread.failed(task, message.data)
        self._core.reporter.finished(task, connection.peer.id, message.microseconds, error)
        if task.actor is None:
            self._core.normal.replied(task, message.microseconds)
        else:
            self._core.actors.replied(task)
        if task.again or task.lost_items:
            if task.again:
                self._core.reporter.repeated(task, error is not None)
            # Last: it may be sent again at once.
            self._core.recovery.over(task, message.data if kind == wire.ERROR else b"")

    def _again(self, connection: Connection, message: wire.Reply, task: TaskRecord) -> None:
        """It raised what its ``retry_exceptions`` name: it is run again, and this reply is forgotten."""
        for object_id, epoch in message.borrowed or ():
            self._refs.add_borrower(object_id, connection.peer.id, epoch)
        if message.contained:
            # Nobody takes the refs inside. Now: the next attempt's reply goes by the same number.
            connection.send(wire.ReplyAck(message.seq))
        if task.actor is None:
            self._core.normal.replied(task, message.microseconds)
            task.lease = None
        else:
            self._core.actors.replied(task)
        self.depend_on_arguments(task)

    def _argument_lost(self, connection: Connection, message: wire.Reply, task: TaskRecord) -> None:
        """It could not begin: it waits until the argument was made again. No retry is spent."""
        object_id, data = message.data[: ids.OBJECT_ID_SIZE], message.data[ids.OBJECT_ID_SIZE :]
        for _, entry in task.dependencies or ():
            if entry.id == object_id:
                self._core.recovery.missing(entry, data)
        self._again(connection, message, task)

    def hold(self, task: TaskRecord, lost: ObjectEntry | None = None) -> None:
        """Have a call wait for those arguments that have no value, or for this one. Under the lock."""
        for _, entry in task.dependencies or ():
            if (lost is None or entry is lost) and task.unresolved >= 0:
                self._depend(task, entry)

    def may_go_again(self, task: TaskRecord) -> bool:
        """Tell whether a call may be sent (again): its arguments have values.

        If not, it waits for those that have none; or one is an error, and it is over (``unresolved`` below
        zero).
        """
        if task.dependencies is None:
            return True
        if self._failed_already(task):
            return False
        self.hold(task)
        return not task.unresolved

    def depend_on_arguments(self, task: TaskRecord) -> None:
        """A call is to run (again) as soon as its arguments have values. Under the lock."""
        may_go = self.may_go_again(task)
        if task.unresolved < 0:
            return
        if task.actor is not None:
            self._core.actors.submit(task, self._core.actors.client(task.actor.id, task.actor.class_name))
        elif may_go:
            assert task.pool is not None
            self._core.normal.submit(task, task.pool)

    def abandon(self, task: TaskRecord, error: bytes) -> None:
        """A call that still runs shall be over for whoever waits for it. Under the lock."""
        if task.stream is not None:
            self._core.streams.end(task, wire.ERROR, error)
        else:
            for entry in task.returns if not task.again else self._core.recovery.wanted(task):
                if not entry.gone:
                    self._core.fulfil(entry, wire.ERROR, error)
        if task.lost_items:
            self._core.recovery.over(task, error)
        task.returns = [discarding_entry() for _ in task.returns]

    def _set_failed(self, entries: Sequence[ObjectEntry], message: wire.Reply) -> None:
        """A call raised: all its returns are that error, but for what it had yielded before."""
        before = message.more or []
        for entry, (kind, data) in zip(entries, before, strict=False):
            self._set_return(entry, kind, data)
        failed = entries[len(before) :]
        for entry in failed:
            self._set_return(entry, wire.ERROR, message.data)
        if len(entries) > 1:
            # Those before the one that failed may be in the store.
            self._core.node.send(node.Free([entry.id for entry in failed if entry.id], False))

    def _set_return(self, entry: ObjectEntry, kind: int, data: bytes) -> None:
        if entry.gone:
            if kind == wire.SHARED and entry.id:
                self._core.node.send(node.Free([entry.id], False))
            return
        if entry.dependents is not None:
            self._core.fulfil(entry, kind, data)
            return
        entry.kind = kind
        entry.data = data
        entry.task = None
        waiters = entry.waiters
        if waiters is not None:
            entry.waiters = None
            for waiter in waiters:
                waiter.one_ready(kind)

    def _unpin(self, task: TaskRecord) -> None:
        pins, task.pins = task.pins, None
        for entry in pins or ():
            self._refs.unpin(entry)

    def take_contained(
        self,
        connection: Connection,
        contained: list[tuple[int, bytes, str]],
        returns: Sequence[ObjectEntry],
        acknowledgement: wire.ReplyAck,
    ) -> None:
        """Results have refs inside: register with their owners, then release the worker's hold."""
        missing = len(contained)

        def registered() -> None:
            nonlocal missing
            missing -= 1
            if not missing:
                connection.send(acknowledgement)

        for index, object_id, owner_address in contained:
            if owner_address == self._core.address:
                inner = self._refs.entries.get(object_id)
                if inner is not None:
                    self._refs.contain(returns[index], [inner])
                registered()
                continue
            inner = self._refs.borrow(object_id, owner_address)
            inner.pins += 1  # until it is registered, whatever becomes of the result
            self._refs.contain(returns[index], [inner])

            def done(entry: ObjectEntry = inner) -> None:
                self._refs.unpin(entry)
                registered()

            self._refs.register(inner, done)

    def finish_with_error(self, task: TaskRecord, error: bytes) -> None:
        """A call is over without a reply; nothing, if it is already. Under the lock."""
        if task.unresolved < 0:
            return
        task.unresolved = -1
        entries = task.returns
        if task.again:
            error = self._core.recovery.failed(task, error)
            entries = self._core.recovery.wanted(task)
        self._core.reporter.finished(task, b"", 0, error)
        if task.stream is not None:
            self._core.streams.end(task, wire.ERROR, error)
        else:
            for entry in entries:
                if not entry.gone:
                    self._core.fulfil(entry, wire.ERROR, error)
        self._unpin(task)
        if task.again or task.lost_items:
            if task.again:
                self._core.reporter.repeated(task, failed=True)
            self._core.recovery.over(task, error)

    def where(self, task: TaskRecord) -> Connection | None:
        """Return the connection to the worker that has the call, if one has."""
        connection = task.actor.connection if task.actor is not None else None
        if task.lease is not None:
            connection = task.lease.connection
        return connection if connection is not None and task.seq in connection.peer.calls else None


def _any_shared(more: list[tuple[int, bytes]]) -> bool:
    return any(kind == wire.SHARED for kind, _ in more)
