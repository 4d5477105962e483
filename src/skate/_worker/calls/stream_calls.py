"""Calls of generators at their caller: streams opened, filled, told of what was taken, ended.

Everything runs under the core's lock; ``streams`` decides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from skate._base.ids import STREAM_COUNTERS
from skate._serialize.values import serialize
from skate._transport.connection import Connection
from skate._wire import node
from skate._wire import worker as wire
from skate._worker.calls.generators import DynamicObjectRefGenerator
from skate._worker.calls.records import TaskRecord
from skate._worker.calls.streams import Stream
from skate._worker.objects.object_ref import make_ref
from skate._worker.objects.refs import ObjectEntry, discarding_entry

if TYPE_CHECKING:
    from skate._worker.core import Core

#: In place of a number of returns: one ref an item, as they come; or one ref of all of them.
STREAMING, DYNAMIC = -1, -2


class StreamCalls:
    """The process's part about its calls of generators. Built by Core."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._refs = core.refs

    def open(self, kind: int, ahead: int) -> Stream:
        core = self._core
        base = core.counter + 1
        core.counter += STREAM_COUNTERS
        return Stream(self._refs, core.worker_id, base, ahead, dynamic=kind == DYNAMIC)

    def item_arrived(self, connection: Connection, message: wire.StreamItem) -> None:
        """A generator yielded."""
        task = connection.peer.calls.get(message.seq)
        if task is not None and task.again:
            self._core.recovery.item_arrived(connection, message, task)
            return
        stream = task.stream if task is not None else None
        entry = stream.arrive(message.index) if stream is not None else None
        if message.contained:
            # What nobody wants is taken and dropped, as every result is.
            returns = [entry if entry is not None else discarding_entry()]
            acknowledgement = wire.ReplyAck(message.seq, message.index)
            self._core.calls.take_contained(connection, message.contained, returns, acknowledgement)
        if entry is not None:
            self._core.fulfil(entry, message.kind, message.data)
            if message.kind == wire.SHARED and task is not None:
                self._core.recovery.remember(task, [entry])
            return
        if message.kind == wire.SHARED and stream is not None:
            unwanted = stream.item_id(message.index)
            self._core.node.send(node.Free([unwanted], False))
        if stream is not None and stream.closed:
            connection.send(wire.StreamStop(message.seq))

    def end(self, task: TaskRecord, kind: int, data: bytes, *, raised: bool = False) -> ObjectEntry | None:
        """The generator is through: its call's reply is here, or never will be.

        Args:
            task: the call.
            kind: what the reply is.
            data: its data.
            raised: an error is what the generator's own code raised.

        Returns:
            The item that is the error, if there is one.
        """
        core, stream = self._core, task.stream
        assert stream is not None
        if stream.ended:
            return None
        entry: ObjectEntry | None = None
        # Of a dynamic one as well, or what it had yielded would be lost; not if it was cancelled or crashed.
        told = stream.dynamic and raised and not task.cancelled
        if kind == wire.ERROR and (told or not stream.dynamic):
            entry = stream.arrive(stream.received)  # the exception is the last item
            if entry is not None:
                core.fulfil(entry, kind, data)
        waited_for = stream.end()
        if waited_for is not None:
            core.fulfil(waited_for, wire.NONE, b"")
            self._refs.drop_local(waited_for)
        completed = task.returns[0]
        if stream.dynamic:
            if kind != wire.ERROR or told:
                kind, data = self._all_items(stream, completed)
            stream.close()
        if not completed.gone:
            core.fulfil(completed, kind, data)
        return entry

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
        connection = self._core.calls.where(task)
        if connection is not None and task.stream is not None and not task.stream.ended:
            connection.send(wire.StreamTaken(task.seq, task.stream.taken))
            if self._core.reactor.polling:
                self._core.reactor.request_turn()

    def close(self, task: TaskRecord) -> None:
        """Nobody will take more items. Under the lock."""
        stream = task.stream
        assert stream is not None
        stream.close()
        connection = self._core.calls.where(task)
        if connection is not None and not stream.ended:
            connection.send(wire.StreamStop(task.seq))
