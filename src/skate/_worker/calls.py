"""Calls: arguments to bytes, records, submission, results. The busiest code of a driver.

Pickling happens on the calling thread without the lock; everything about tables under it.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from skate._base import errors, ids
from skate._base.clock import monotonic
from skate._serialize import culprit
from skate._serialize.values import PLAIN, dump_code, serialize
from skate._transport.connection import HIGH_WATER, Connection
from skate._transport.reactor import Waiter
from skate._wire import node
from skate._wire import worker as wire
from skate._worker import current
from skate._worker.generators import DynamicObjectRefGenerator, ObjectRefGenerator
from skate._worker.object_ref import ObjectRef, make_ref
from skate._worker.records import FunctionRecord, TaskRecord
from skate._worker.refs import PENDING, ObjectEntry
from skate._worker.report import call_site, remembered
from skate._worker.streams import COUNTERS, Stream, item_id

if TYPE_CHECKING:
    from skate._worker.actors import ActorClient
    from skate._worker.core import Core
    from skate._worker.pool import LeasePool


class Arguments:
    """The arguments of a call as they travel."""

    __slots__ = ("kind", "data", "dependencies", "refs", "blob", "plain")

    def __init__(self) -> None:
        self.kind = wire.NONE
        #: There are no refs in it and around it.
        self.plain = True
        self.data = b""
        #: Arguments that are refs themselves: the task waits for them and gets their values.
        self.dependencies: list[tuple[int | str, ObjectRef[Any]]] | None = None
        #: Refs inside other arguments: they stay refs.
        self.refs: Sequence[ObjectRef[Any]] = ()
        #: The object that holds the arguments, if they are too large for a message.
        self.blob: ObjectRef[Any] | None = None


_NO_ARGUMENTS = Arguments()

#: In place of a number of returns: one ref an item, as they come; or one ref of all of them.
STREAMING, DYNAMIC = -1, -2


class Calls:
    """The process's part about its calls. Built by Core."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._lock = core.lock
        self._refs = core.refs
        self._last_function = 0

    # ------------------------------------------------------------------ functions and arguments

    def make_function(self, function: Any, name: str, threads: int) -> FunctionRecord:
        """Pickle a remote function, once a session."""
        try:
            blob, refs = dump_code(function)
        except Exception as error:
            raise TypeError(f"cannot send {name}: {culprit.explain(function, name, error)}") from None
        with self._lock:
            self._last_function += 1
            return FunctionRecord(self._last_function, name, blob, threads, refs, self._core.dead_functions)

    def encode_arguments(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], name: str, *, always_inline: bool = False
    ) -> Arguments:
        """Turn arguments into bytes, refs among them into dependencies.

        ``always_inline``: they are to outlive this process, however large they are.

        Raises:
            TypeError: one cannot be pickled; the message names the path to it.
        """
        arguments = Arguments()
        plain = True
        for index, value in enumerate(args):
            kind = type(value)
            if kind not in PLAIN:
                plain = False
                if kind is ObjectRef:
                    if arguments.dependencies is None:
                        arguments.dependencies = []
                        args = tuple(args)
                    arguments.dependencies.append((index, value))
        for key, value in kwargs.items():
            kind = type(value)
            if kind not in PLAIN:
                plain = False
                if kind is ObjectRef:
                    if arguments.dependencies is None:
                        arguments.dependencies = []
                    arguments.dependencies.append((key, value))
        if arguments.dependencies is not None:
            arguments.plain = False
            args = tuple([None if type(value) is ObjectRef else value for value in args])
            kwargs = {key: None if type(value) is ObjectRef else value for key, value in kwargs.items()}
        if plain:
            data = pickle.dumps((args, kwargs), 5)
            if len(data) <= self._core.config.max_inline_bytes:
                arguments.kind, arguments.data = wire.PICKLE, data
                return arguments
        try:
            serialized = serialize((args, kwargs))
        except RecursionError:
            raise
        except Exception as error:
            for index, value in enumerate(args):
                self._explain(value, f"args[{index}]", name, error)
            for key, value in kwargs.items():
                self._explain(value, f"kwargs[{key!r}]", name, error)
            raise
        arguments.refs = serialized.refs
        if serialized.refs:
            arguments.plain = False
        if always_inline or serialized.size <= self._core.config.max_inline_bytes:
            arguments.kind, arguments.data = serialized.kind, serialized.to_bytes()
            return arguments
        with self._lock:
            entry = self._refs.own(ids.object_id(self._core.worker_id, self._core.next_counter()))
            entry.local = 1
            entry.exported = True
        arguments.blob = make_ref(entry, self._core)
        arguments.plain = False
        kind_, data = self._core.objects.store_value(entry.id, serialized, tuple, mine=True)
        with self._lock:
            self._refs.fulfil(entry, kind_, data)
        arguments.kind, arguments.data = wire.SHARED, entry.id
        return arguments

    def _explain(self, value: Any, path: str, name: str, error: Exception) -> None:
        try:
            serialize(value)
        except Exception as own:
            raise TypeError(f"cannot call {name}: {culprit.explain(value, path, own)}") from None

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
        site = call_site(5) if core.config.record_call_sites else None
        entries = [self._refs.own(ids.object_id(core.worker_id, seq, index)) for index in range(num_returns)]
        parent = current.call.get()
        task = TaskRecord(
            seq, function, method, arguments.kind, arguments.data, entries, retries,
            parent.depth + 1 << wire.DEPTH_SHIFT,
        )  # fmt: skip
        task.parent = parent
        task.site = site
        task.made = monotonic()
        for entry in entries:
            entry.local = 1
            entry.task = task
            entry.site = site
        if not arguments.plain:
            self._keep_arguments(task, arguments)
        return task

    def _keep_arguments(self, task: TaskRecord, arguments: Arguments) -> None:
        """Pin the refs that travel with the call until it is over; wait for those it depends on."""
        pins: list[ObjectEntry] = [ref._entry for ref in arguments.refs]
        if arguments.blob is not None:
            pins.append(arguments.blob._entry)
        if arguments.dependencies is not None:
            task.dependencies = [(where, ref._entry) for where, ref in arguments.dependencies]
            pins += [entry for _, entry in task.dependencies]
            for _, entry in task.dependencies:
                self._depend(task, entry)
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
                self._core.peers.fetch(entry)

    def _argument_ready(self, task: TaskRecord, entry: ObjectEntry) -> None:
        if task.unresolved < 0:
            return
        if entry.kind == wire.ERROR:
            task.unresolved = -1
            if task.actor is not None:
                self._core.actors.failed_argument(task)
            self.finish_with_error(task, entry.data)
            return
        task.unresolved -= 1
        if task.unresolved == 0:
            if task.actor is not None:
                self._core.actors.ready(task)
            elif task.pool is not None:
                self._core.normal.submit(task, task.pool)

    def _failed_already(self, task: TaskRecord) -> bool:
        """Whether an argument is an error, so that the task is one without being run."""
        if task.dependencies is not None:
            for _, entry in task.dependencies:
                if entry.kind == wire.ERROR:
                    task.unresolved = -1
                    self.finish_with_error(task, entry.data)
                    return True
        return False

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
        arguments = self.encode_arguments(args, kwargs, function.name) if args or kwargs else _NO_ARGUMENTS
        with self._lock:
            if core.dead_reason:
                core.check_usable()
            returns = num_returns if num_returns >= 0 else 1
            task = self._new_task(function, "", arguments, returns, max_retries)
            task.retry = function.retry
            task.name = name
            task.pool = pool
            if num_returns < 0:
                task.stream = self._open_stream(num_returns, ahead)
            if arguments.plain or (not self._failed_already(task) and task.unresolved == 0):
                core.normal.submit(task, pool)
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
            made = ObjectRefGenerator(core, task, make_ref(task.returns[0], core))
        else:
            made = [make_ref(entry, core) for entry in task.returns] or None
        if core.interrupted:
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
    ) -> Any:
        """Call an actor's method; return like ``submit_task``."""
        core = self._core
        arguments = self.encode_arguments(args, kwargs, label) if args or kwargs else _NO_ARGUMENTS
        with self._lock:
            if core.dead_reason:
                core.check_usable()
            if 0 <= client.max_pending <= len(client.queue) + len(client.inflight):
                raise errors.PendingCallsLimitExceeded(
                    f"{label} was not called: {client.max_pending} calls of this actor from this process are "
                    "unfinished, as many as its option max_pending_calls allows; wait for some of them"
                )
            returns = num_returns if num_returns >= 0 else 1
            task = self._new_task(None, method, arguments, returns, max_retries)
            task.actor = client
            if num_returns < 0:
                task.stream = self._open_stream(num_returns, ahead)
            if group is not None:
                task.group = group
            if retry is not None:
                task.retry = retry
            if hidden:
                task.hidden = True
            if arguments.plain or not self._failed_already(task):
                # Calls under way keep the actor alive even if every handle is gone.
                client.keep = handle
                core.actors.submit(task, client)
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
        if kind == wire.RETRIABLE:
            if task.spend_retry():
                self._again(connection, message, task)
                return
            kind = wire.ERROR
        entries = task.returns
        if message.borrowed:
            for object_id, epoch in message.borrowed:
                self._refs.add_borrower(object_id, connection.peer.id, epoch)
        if message.contained:
            self._take_contained(connection, message.contained, entries, wire.ReplyAck(message.seq))
        if task.stream is not None:
            self._end_stream(task, kind, message.data)
        elif entries:
            self._set_return(entries[0], kind, message.data)
            if kind == wire.ERROR:
                for entry in entries[1:]:
                    self._set_return(entry, kind, message.data)
            elif message.more is not None:
                for entry, (more_kind, more_data) in zip(entries[1:], message.more, strict=False):
                    self._set_return(entry, more_kind, more_data)
        if task.pins is not None:
            self._unpin(task)
        error = remembered(message.data) if kind == wire.ERROR else None
        self._core.reporter.finished(task, connection.peer.id, message.microseconds, error)
        if task.actor is None:
            self._core.normal.replied(task, message.microseconds)
        else:
            self._core.actors.replied(task)

    def _again(self, connection: Connection, message: wire.Reply, task: TaskRecord) -> None:
        """It raised what its ``retry_exceptions`` name: it is run again, and this reply is forgotten."""
        for object_id, epoch in message.borrowed or ():
            self._refs.add_borrower(object_id, connection.peer.id, epoch)
        if message.contained:
            # Nobody takes the refs inside. Now: the next attempt's reply goes by the same number.
            connection.send(wire.ReplyAck(message.seq))
        if task.actor is None:
            pool = task.pool
            assert pool is not None
            self._core.normal.replied(task, message.microseconds)
            task.lease = None
            self._core.normal.submit(task, pool)
        else:
            self._core.actors.replied(task)
            self._core.actors.submit(task, task.actor)

    def abandon(self, task: TaskRecord, error: bytes) -> None:
        """A call that still runs shall be over for whoever waits for it. Under the lock."""
        if task.stream is not None:
            self._end_stream(task, wire.ERROR, error)
        else:
            for entry in task.returns:
                if not entry.gone:
                    self._core.fulfil(entry, wire.ERROR, error)
        task.returns = [_nobodys() for _ in task.returns]

    def _set_return(self, entry: ObjectEntry, kind: int, data: bytes) -> None:
        if entry.gone:
            if kind == wire.SHARED:
                self._core.node.send(node.Free([entry.id], False))
            return
        if entry.waiters is None and entry.dependents is None:
            entry.kind = kind
            entry.data = data
            entry.task = None
        else:
            self._core.fulfil(entry, kind, data)

    def _unpin(self, task: TaskRecord) -> None:
        pins, task.pins = task.pins, None
        for entry in pins or ():
            self._refs.unpin(entry)

    def _take_contained(
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
        """A call is over without a reply. Under the lock."""
        task.unresolved = -1
        self._core.reporter.finished(task, b"", 0, remembered(error))
        if task.stream is not None:
            self._end_stream(task, wire.ERROR, error)
        else:
            for entry in task.returns:
                if not entry.gone:
                    self._core.fulfil(entry, wire.ERROR, error)
        self._unpin(task)

    # ------------------------------------------------------------------ generators

    def _open_stream(self, kind: int, ahead: int) -> Stream:
        core = self._core
        base = core.counter + 1
        core.counter += COUNTERS
        return Stream(self._refs, core.worker_id, base, ahead, dynamic=kind == DYNAMIC)

    def item_arrived(self, connection: Connection, message: wire.StreamItem) -> None:
        """A generator yielded."""
        task = connection.peer.calls.get(message.seq)
        stream = task.stream if task is not None else None
        entry = stream.arrive(message.index) if stream is not None else None
        if message.contained:
            # What nobody wants is taken and dropped, as every result is.
            returns = [entry if entry is not None else _nobodys()]
            acknowledgement = wire.ReplyAck(message.seq, message.index)
            self._take_contained(connection, message.contained, returns, acknowledgement)
        if entry is not None:
            self._core.fulfil(entry, message.kind, message.data)
            return
        if message.kind == wire.SHARED and stream is not None:
            unwanted = item_id(self._core.worker_id, stream.base, message.index)
            self._core.node.send(node.Free([unwanted], False))
        if stream is not None and stream.closed:
            connection.send(wire.StreamStop(message.seq))

    def _end_stream(self, task: TaskRecord, kind: int, data: bytes) -> None:
        """The generator is through: its call's reply is here, or never will be."""
        core, stream = self._core, task.stream
        assert stream is not None
        if stream.ended:
            return
        if kind == wire.ERROR and not stream.dynamic:
            entry = stream.arrive(stream.received)  # the exception is the last item
            if entry is not None:
                core.fulfil(entry, kind, data)
        waited_for = stream.end()
        if waited_for is not None:
            core.fulfil(waited_for, wire.NONE, b"")
            self._refs.drop_local(waited_for)
        completed = task.returns[0]
        if stream.dynamic:
            if kind != wire.ERROR:
                kind, data = self._all_items(stream, completed)
            stream.close()
        if not completed.gone:
            core.fulfil(completed, kind, data)

    def _all_items(self, stream: Stream, outer: ObjectEntry) -> tuple[int, bytes]:
        """Return the value of a "dynamic" call: the refs of all its items."""
        refs = []
        while (entry := stream.take()) is not None:
            refs.append(make_ref(entry, self._core))
        serialized = serialize(DynamicObjectRefGenerator(refs))
        self._core.objects.contain(outer, serialized.refs)
        return serialized.kind, serialized.to_bytes()

    def tell_taken(self, task: TaskRecord) -> None:
        """An item was taken: the generator may go on. Under the lock."""
        connection = self.where(task)
        if connection is not None and task.stream is not None and not task.stream.ended:
            connection.send(wire.StreamTaken(task.seq, task.stream.taken))
            if self._core.reactor.polling:
                self._core.reactor.request_turn()

    def close_stream(self, task: TaskRecord) -> None:
        """Nobody will take more items. Under the lock."""
        stream = task.stream
        assert stream is not None
        stream.close()
        connection = self.where(task)
        if connection is not None and not stream.ended:
            connection.send(wire.StreamStop(task.seq))

    def where(self, task: TaskRecord) -> Connection | None:
        """Return the connection to the worker that has the call, if one has."""
        connection = task.actor.connection if task.actor is not None else None
        if task.lease is not None:
            connection = task.lease.connection
        return connection if connection is not None and task.seq in connection.peer.calls else None


def _nobodys() -> ObjectEntry:
    """Return an entry that is gone already: what is put inside is dropped."""
    entry = ObjectEntry(b"", None)
    entry.gone = True
    return entry
