"""Holds the items of a Queue in an actor, and serves the readers and writers that wait.

The actor gives an item to the reader that has waited longest. It never keeps an item while a reader
waits, nor room while a writer waits::

    put --> reader waiting? ----------------------------> the reader's reply
        --> room? --> [items] --get--> the reader's reply; the first waiting writer's item moves in
        --> else wait --timeout--> False
    get --> no item: wait --timeout--> EMPTY

A reader that dies leaves the line, and the items that it received and did not return are first again:
see ``_queue_readers``.
"""

from __future__ import annotations

import asyncio
import enum
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

from skate.engine import require_engine
from skate.util._queue_readers import UNTRACKED, Handed, Ticket

#: How often the actor checks which items have been returned.
_SWEEP_PERIOD_S = 1.0


class _Answer(enum.Enum):
    """The answer of ``get`` in place of an item. An exception would cost a traceback at every poll."""

    EMPTY = 0


EMPTY = _Answer.EMPTY


class QueueActor:
    """The actor of a queue. All methods run on its loop, one at a time."""

    def __init__(self, maxsize: int) -> None:
        self._maxsize = maxsize
        self._items: deque[Any] = deque()
        #: Longest wait first; no reader waits while there are items.
        self._readers = _Line()
        #: With the items that they bring; no writer waits while there is room.
        self._writers = _Line()
        self._sweeping: asyncio.TimerHandle | None = None
        #: Gets that wait, and those of them whose reader has stopped waiting.
        self._getting: set[Ticket] = set()
        self._withdrawn: set[Ticket] = set()
        self._loop = asyncio.get_running_loop()
        self._handed = Handed(require_engine("hold a queue").on_process_gone(self._process_gone))

    def size(self) -> int:
        """Return the number of items."""
        return len(self._items)

    def put_nowait(self, item: Any) -> bool:
        """Take an item, or return False if there is no room."""
        if self._readers.serve(item):
            return True
        if self._maxsize > 0 and len(self._items) >= self._maxsize:
            return False
        self._items.append(item)
        return True

    def put_nowait_batch(self, items: list[Any]) -> int:
        """Take all items and return -1, or take none and return the number for which there is room."""
        if self._maxsize > 0 and len(self._items) + len(items) > self._maxsize:
            return self._maxsize - len(self._items)
        for item in items:
            self.put_nowait(item)
        return -1

    async def put(self, item: Any, timeout: float | None) -> bool:
        """Take an item when there is room, or return False if the time is up."""
        if self.put_nowait(item):
            return True
        served: bool = await self._writers.wait(item, timeout, False)
        return served

    def get_nowait(self, *ticket: Any) -> Any:
        """Return the first item, or EMPTY."""
        return self._hand(ticket or UNTRACKED, self._first()) if self._items else EMPTY

    def _first(self) -> Any:
        item = self._items.popleft()
        writer = self._writers.first()
        if writer is not None:
            self._items.append(self._writers.brought(writer))
            self._writers.serve(True)
        return item

    def get_nowait_batch(self, count: int, *ticket: Any) -> list[Any] | int:
        """Return ``count`` items, or the number of items if there are fewer."""
        if count > len(self._items):
            return len(self._items)
        items = [self._first() for _ in range(count)]
        return 0 if self._hand(ticket or UNTRACKED, *items) is EMPTY else items

    async def get(self, timeout: float | None, *ticket: Any) -> Any:
        """Return the first item when there is one, or EMPTY if the time is up."""
        if self._items:
            return self._hand(ticket or UNTRACKED, self._first())
        if not ticket:
            return await self._readers.wait(UNTRACKED, timeout, EMPTY, self.give_back)
        self._getting.add(ticket)
        try:
            item = await self._readers.wait(ticket, timeout, EMPTY, self.give_back)
            return item if item is EMPTY else self._hand(ticket, item)
        finally:
            self._getting.discard(ticket)
            self._withdrawn.discard(ticket)

    # ------------------------------------------------------------------ readers that return nothing

    def _hand(self, ticket: Ticket, *items: Any) -> Any:
        """Give items to a reader; return the first, or EMPTY if the reader has died or stopped waiting."""
        if self._handed.is_gone(ticket) or ticket in self._withdrawn:
            self.give_back(*items)
            return EMPTY
        if not items:
            return None
        self._handed.note(ticket, list(items))
        if self._sweeping is None and ticket[0]:
            self._sweep()
        return items[0]

    def give_back(self, *items: Any) -> None:
        """Take back items that did not reach their reader; they are the first again."""
        for index, item in enumerate(items):
            if not self._readers.serve(item):
                self._items.extendleft(reversed(items[index:]))
                return

    def withdraw(self, *ticket: Any) -> None:
        """End the wait of a reader that has returned nothing, and take back its items."""
        if self._readers.leave(lambda waiting: waiting == ticket, EMPTY):
            return
        if ticket in self._getting:  # it was served, and its coroutine has not run since
            self._withdrawn.add(ticket)
        else:
            self.give_back(*(self._handed.take_back(ticket) or ()))

    def _process_gone(self, process: bytes) -> None:
        """Have the loop release a dead reader. Called under the runtime's lock."""
        try:
            self._loop.call_soon_threadsafe(self._left, process)
        except RuntimeError:
            pass  # the loop was closed: the actor ends

    def _left(self, reader: bytes) -> None:
        """End the waits of a process that ended, and take back its items."""
        self._readers.leave(lambda waiting: waiting[0] == reader, EMPTY)
        self.give_back(*self._handed.left(reader))

    def _sweep(self) -> None:
        """Drop items that have been returned, which may be large, and schedule the next check."""
        self._sweeping = None
        if self._handed.sweep():
            self._sweeping = self._loop.call_later(_SWEEP_PERIOD_S, self._sweep)


class _Line:
    """Waiting coroutines, served in the order in which they came."""

    def __init__(self) -> None:
        #: The future that ends each wait, and the item or ticket of the wait. All and only current waits.
        self._waiting: OrderedDict[asyncio.Future[Any], Any] = OrderedDict()

    async def wait(
        self, brought: Any, timeout: float | None, late: Any, give_back: Callable[[Any], None] | None = None
    ) -> Any:
        """Wait for ``serve``; return its value, or ``late`` when the time (seconds) is up.

        ``give_back`` gets the value if the wait was cancelled in the meantime.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._waiting[future] = brought
        timer = None if timeout is None else loop.call_later(timeout, self._leave, future, late)
        try:
            return await future
        except asyncio.CancelledError:
            if give_back is not None and future.done() and not future.cancelled():
                given = future.result()
                if given is not late:
                    give_back(given)
            raise
        finally:
            if timer is not None:
                timer.cancel()
            self._waiting.pop(future, None)

    def _leave(self, future: asyncio.Future[Any], late: Any) -> None:
        if self._waiting.pop(future, self) is not self and not future.done():
            future.set_result(late)

    def leave(self, which: Callable[[Any], bool], late: Any) -> bool:
        """End the waits whose item or ticket ``which`` selects; tell whether there were any."""
        leaving = [future for future, brought in self._waiting.items() if which(brought)]
        for future in leaving:
            self._leave(future, late)
        return bool(leaving)

    def first(self) -> asyncio.Future[Any] | None:
        """Return the future of the longest wait, or None."""
        while self._waiting:
            future = next(iter(self._waiting))
            if not future.done():
                return future
            del self._waiting[future]  # its coroutine was cancelled and has not run since
        return None

    def brought(self, future: asyncio.Future[Any]) -> Any:
        """Return the item or ticket of a wait."""
        return self._waiting[future]

    def serve(self, value: Any) -> bool:
        """End the longest wait with a value; return False if there is none."""
        future = self.first()
        if future is None:
            return False
        del self._waiting[future]
        future.set_result(value)
        return True
