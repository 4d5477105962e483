"""Opens, fills and ends the streams of remote generators at their caller, and reports taken items.

Everything runs under the process's lock, except the methods of ``StreamSource``; ``streams`` decides.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from skate._base.hooks import unset
from skate._base.ids import STREAM_COUNTERS
from skate._serialize.values import serialize
from skate._transport.connection import Connection
from skate._wire import node
from skate._wire import worker as wire
from skate._worker.calls.generators import DynamicObjectRefGenerator
from skate._worker.calls.lineage import Lineage
from skate._worker.calls.records import TaskRecord
from skate._worker.calls.streams import Stream
from skate._worker.calls.tasks import TaskTable
from skate._worker.objects.borrowing import Borrowing
from skate._worker.objects.futures import Futures
from skate._worker.objects.garbage import Garbage
from skate._worker.objects.home import Home
from skate._worker.objects.object_ref import ObjectRef, make_ref
from skate._worker.objects.refs import ObjectEntry, RefTable, discarding_entry
from skate._worker.objects.values import Values
from skate._worker.process.context import ProcessContext
from skate._worker.process.daemon_link import DaemonLink

#: In place of a number of returns: one ref an item, as they come; or one ref of all of them.
STREAMING, DYNAMIC = -1, -2


class StreamCalls:
    """The streams of this process's calls of generators. Built by Core, which sets the hook."""

    def __init__(
        self,
        context: ProcessContext,
        daemon: DaemonLink,
        refs: RefTable,
        home: Home,
        borrowing: Borrowing,
        garbage: Garbage,
        values: Values,
        futures: Futures,
        tasks: TaskTable,
        lineage: Lineage,
    ) -> None:
        self._context = context
        self._daemon = daemon
        self._refs = refs
        self._home = home
        self._borrowing = borrowing
        self._dead_streams = garbage.dead_streams
        self._values = values
        self._futures = futures
        self._tasks = tasks
        self._lineage = lineage
        #: Called with an item of a call that makes lost items again: see ``recovery``.
        self.on_repeated_item: Callable[[Connection, wire.StreamItem, TaskRecord], None] = unset

    def open(self, kind: int, ahead: int) -> Stream:
        """Return a new stream; ``kind``: STREAMING or DYNAMIC, ``ahead``: items until the generator waits."""
        context = self._context
        base = context.counter + 1
        context.counter += STREAM_COUNTERS
        return Stream(self._refs, context.worker_id, base, ahead, dynamic=kind == DYNAMIC)

    # ------------------------------------------------------------------ for ObjectRefGenerator

    def drop(self, task: TaskRecord) -> None:
        """See StreamSource."""
        self._dead_streams.append(task)
        reactor = self._context.reactor
        if reactor.blocked_in_poll:
            reactor.request_turn()

    def next_entry(self, task: TaskRecord) -> ObjectEntry:
        """See StreamSource."""
        assert task.stream is not None
        with self._context.locked:
            return task.stream.peek()

    def take(self, task: TaskRecord) -> ObjectRef[Any] | None:
        """See StreamSource."""
        stream = task.stream
        assert stream is not None
        with self._context.locked:
            entry = stream.take()
            if entry is None:
                return None
            if stream.to_report():
                self._send_taken(task, stream)
            return make_ref(entry, self._home)

    def wait(self, entry: ObjectEntry, timeout: float | None) -> None:
        """See StreamSource."""
        self._values.wait_ready([entry], 1, timeout, on_error=False)

    def when_ready(self, entry: ObjectEntry, call: Callable[[], None]) -> bool:
        """See StreamSource."""
        return self._futures.when_ready(entry, call)

    def stop(self, task: TaskRecord) -> None:
        """See StreamSource."""
        with self._context.locked:
            self.close(task)
            self._context.reactor.flush()

    # ------------------------------------------------------------------ messages (under the lock)

    def item_arrived(self, connection: Connection, message: wire.StreamItem) -> None:
        """Take an item that a generator yielded."""
        task = self._tasks.at(connection, message.seq)
        if task is not None and task.is_reconstruction:
            self.on_repeated_item(connection, message, task)
            return
        stream = task.stream if task is not None else None
        entry = stream.arrive(message.index) if stream is not None else None
        if message.contained:
            # An unwanted item is taken and dropped, as every result is.
            returns = [entry if entry is not None else discarding_entry()]
            acknowledgement = wire.ReplyAck(message.seq, message.index)
            self._borrowing.take_contained(connection, message.contained, returns, acknowledgement)
        if entry is not None:
            self._refs.fulfil(entry, message.kind, message.data)
            if message.kind == wire.SHARED and task is not None:
                self._lineage.remember(task, [entry])
            return
        if message.kind == wire.SHARED and stream is not None:
            unwanted = stream.item_id(message.index)
            self._daemon.send(node.Free([unwanted], False))
        if stream is not None and stream.closed:
            connection.send(wire.StreamStop(message.seq))

    def end(self, task: TaskRecord, kind: int, data: bytes, *, raised: bool = False) -> ObjectEntry | None:
        """End a stream with its call: the reply is here, or never will be.

        Args:
            task: the call.
            kind: of the reply.
            data: of the reply.
            raised: an error was raised by the generator's own code.

        Returns:
            The item that is the error, if there is one.
        """
        stream = task.stream
        assert stream is not None
        if stream.ended:
            return None
        entry: ObjectEntry | None = None
        # Of a dynamic one as well, or the items before it would be lost; not if it was cancelled or crashed.
        keeps_items = stream.dynamic and raised and not task.cancelled
        if kind == wire.ERROR and (keeps_items or not stream.dynamic):
            entry = stream.arrive(stream.received)  # the exception is the last item
            if entry is not None:
                self._refs.fulfil(entry, kind, data)
        waited_for = stream.end()
        if waited_for is not None:
            self._refs.fulfil(waited_for, wire.NONE, b"")
            self._refs.drop_local(waited_for)
        completed = task.returns[0]
        if stream.dynamic:
            if kind != wire.ERROR or keeps_items:
                kind, data = self._all_items(stream, completed)
            stream.close()
        if not completed.gone:
            self._refs.fulfil(completed, kind, data)
        return entry

    def _all_items(self, stream: Stream, outer: ObjectEntry) -> tuple[int, bytes]:
        """Return the value of a "dynamic" call: the refs of all its items."""
        refs = []
        while (entry := stream.take()) is not None:
            refs.append(make_ref(entry, self._home))
        serialized = serialize(DynamicObjectRefGenerator(refs))
        self._values.contain(outer, serialized.refs)
        return serialized.kind, serialized.to_bytes()

    def _send_taken(self, task: TaskRecord, stream: Stream) -> None:
        """Tell the generator that items were taken, so that it goes on."""
        connection = task.connection
        if connection is not None and not stream.ended:
            connection.send(wire.StreamTaken(task.seq, stream.taken))
            if self._context.reactor.polling:
                self._context.reactor.request_flush()

    def close(self, task: TaskRecord) -> None:
        """Close a stream, of which no more items will be taken. Under the lock."""
        stream = task.stream
        assert stream is not None
        stream.close()
        connection = task.connection
        if connection is not None and not stream.ended:
            connection.send(wire.StreamStop(task.seq))
