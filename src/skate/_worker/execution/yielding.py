"""Runs generators in a worker, and sends each item when it is yielded, no further ahead than allowed."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

from skate._base.ids import item_id
from skate._transport.connection import Connection, Handler
from skate._transport.reactor import Waiter
from skate._wire import worker as wire
from skate._worker.execution.invocation import Invocation
from skate._worker.objects.borrowing import Borrowing
from skate._worker.process.context import ProcessContext
from skate._worker.process.loops import call_soon
from skate._worker.process.waiting import Waiting


class Outgoing:
    """The items of one call, on their way to its caller. The counters change under the lock."""

    __slots__ = (
        "connection",
        "seq",
        "base",
        "skip",
        "limit",
        "is_reconstruction",
        "index",
        "taken",
        "cancelled",
        "_wake",
    )

    def __init__(self, connection: Connection, call: wire.Call) -> None:
        assert call.stream is not None
        self.connection = connection
        self.seq = call.seq
        self.base, self.skip, self.limit = call.stream
        self.is_reconstruction = bool(call.flags & wire.AGAIN)
        #: Of the next item.
        self.index = 0
        self.taken = self.skip
        self.cancelled = False
        self._wake: Callable[[], None] | None = None
        connection.peer.streams[call.seq] = self

    @property
    def is_stopped(self) -> bool:
        """Whether the caller wants no more items."""
        return self.cancelled or self.connection.closed

    @property
    def is_full(self) -> bool:
        """Whether the generator must wait until its caller has taken items."""
        return bool(self.limit) and self.index - self.taken >= self.limit and not self.is_stopped

    def news(self, taken: int | None = None) -> None:
        """Note that the caller took items, or (None) stopped. Under the lock."""
        if taken is None:
            self.cancelled = True
        else:
            self.taken = max(self.taken, taken)
        if not self.is_full and self._wake is not None:
            wake, self._wake = self._wake, None
            wake()

    def when_room(self, wake: Callable[[], None]) -> bool:
        """Have ``wake`` called when there is room. Return False if there is. Under the lock."""
        if not self.is_full:
            return False
        self._wake = wake
        return True


class Yielding:
    """Runs generators and sends what they yield."""

    def __init__(
        self, context: ProcessContext, waiting: Waiting, borrowing: Borrowing, invocation: Invocation
    ) -> None:
        self._context = context
        self._waiting = waiting
        self._borrowing = borrowing
        self._invocation = invocation

    def results_table(self) -> dict[type, Handler]:
        """Return the handlers of messages from callers about the results that were sent to them."""
        return {
            wire.ReplyAck: self._borrowing.acknowledged,
            wire.StreamTaken: self._stream_taken,
            wire.StreamStop: self._stream_stop,
        }

    def _stream_taken(self, connection: Connection, message: wire.StreamTaken) -> None:
        outgoing = connection.peer.streams.get(message.seq)
        if outgoing is not None:
            outgoing.news(message.taken)

    def _stream_stop(self, connection: Connection, message: wire.StreamStop) -> None:
        outgoing = connection.peer.streams.get(message.seq)
        if outgoing is not None:
            outgoing.news()

    def run(self, connection: Connection, call: wire.Call, produced: Any) -> None:
        """Send every item of an iterable; return at its end, or when its caller stops it."""
        outgoing = Outgoing(connection, call)
        try:
            iterator: Iterator[Any] = iter(produced)
            for value in iterator:
                self._send(outgoing, value)
                del value
                if outgoing.is_full:
                    waiter = Waiter()
                    with self._context.locked:
                        connection.flush()
                        waits = outgoing.when_room(waiter.notify)
                    if waits:
                        self._waiting.block(waiter, None)
                if outgoing.is_stopped:
                    close = getattr(iterator, "close", None)
                    if close is not None:
                        close()
                    return
            if self._invocation.cancelled:
                self._invocation.check_cancelled(connection.peer.id, call.seq)
        finally:
            connection.peer.streams.pop(call.seq, None)

    async def run_async(
        self, connection: Connection, call: wire.Call, produced: Any, flush: Callable[[], None]
    ) -> None:
        """Do ``run`` on an asyncio loop, also for async generators. ``flush`` has items sent soon."""
        import asyncio

        loop = asyncio.get_running_loop()
        outgoing = Outgoing(connection, call)
        try:
            iterator = produced if hasattr(produced, "__anext__") else _as_async(iter(produced))
            async for value in iterator:
                self._send(outgoing, value)
                del value
                flush()
                if outgoing.is_full:
                    room = asyncio.Event()

                    def wake(room: asyncio.Event = room) -> None:
                        call_soon(loop, room.set, self._context.reactor)

                    with self._context.locked:
                        connection.flush()
                        waits = outgoing.when_room(wake)
                    if waits:
                        await room.wait()
                if outgoing.is_stopped:
                    await iterator.aclose()
                    return
            if self._invocation.cancelled:
                self._invocation.check_cancelled(connection.peer.id, call.seq)
        finally:
            connection.peer.streams.pop(call.seq, None)

    def _send(self, outgoing: Outgoing, value: Any) -> None:
        index = outgoing.index
        outgoing.index += 1
        if index < outgoing.skip:
            return  # it was sent by a worker that died since
        connection = outgoing.connection
        object_id = item_id(connection.peer.id, outgoing.base, index)
        try:
            kind, data, refs = self._invocation.encode_value(
                object_id, value, f"item {index}", outgoing.is_reconstruction
            )
            contained = self._invocation.name_refs(0, refs) if refs else None
        except MemoryError:
            if not outgoing.is_reconstruction:
                self._invocation.discard([object_id])
            raise
        with self._context.locked:
            if refs:
                entries = list({id(ref._entry): ref._entry for ref in refs}.values())
                self._borrowing.keep_until_acknowledged(connection, (outgoing.seq, index), entries)
            connection.send(wire.StreamItem(outgoing.seq, index, kind, data, contained))
            self._invocation.flush_soon(connection)


async def _as_async(iterator: Iterator[Any]) -> AsyncGenerator[Any, None]:
    try:
        for value in iterator:
            yield value
    finally:
        close = getattr(iterator, "close", None)
        if close is not None:
            close()
