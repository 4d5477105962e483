"""The actor inside a Queue: its items, and who waits for them.

It hands an item to whoever has waited longest, and never leaves an item and a waiting reader side by
side, nor room and a waiting writer::

    put --> reader waiting? ----------------------------> the reader's reply
        --> room? --> [items] --get--> the reader's reply; the first waiting writer's item moves in
        --> else wait --timeout--> False
    get --> no item: wait --timeout--> EMPTY

A reader that dies leaves the line, and what it had been handed and not returned is first again: see
``_queue_readers``.
"""

from __future__ import annotations

import asyncio
import enum
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

from skate.engine import require_engine
from skate.util._queue_readers import UNTRACKED, Handed, Ticket

#: How often (seconds) the actor looks which items have been returned.
_SWEEP_S = 1.0


class _Answer(enum.Enum):
    """What ``get`` returns in place of an item. An exception would cost a traceback at every poll."""

    EMPTY = 0


EMPTY = _Answer.EMPTY


class QueueActor:
    """See the module's text. All methods run on the actor's loop, one at a time."""

    def __init__(self, maxsize: int) -> None:
        self._maxsize = maxsize
        self._items: deque[Any] = deque()
        #: Longest wait first; nobody waits while there are items.
        self._readers = _Line()
        #: With the items that they bring; nobody waits while there is room.
        self._writers = _Line()
        self._sweeping: asyncio.TimerHandle | None = None
        #: Gets that wait, and those of them whose reader waits no more.
        self._getting: set[Ticket] = set()
        self._withdrawn: set[Ticket] = set()
        self._loop = asyncio.get_running_loop()
        self._handed = Handed(require_engine("hold a queue").on_process_gone(self._process_gone))

    def size(self) -> int:
        """Return how many items there are."""
        return len(self._items)

    def put_nowait(self, item: Any) -> bool:
        """Take an item; False: there is no room."""
        if self._readers.serve(item):
            return True
        if self._maxsize > 0 and len(self._items) >= self._maxsize:
            return False
        self._items.append(item)
        return True

    def put_nowait_batch(self, items: list[Any]) -> int:
        """Take all items and return -1, or none and return for how many there is room."""
        if self._maxsize > 0 and len(self._items) + len(items) > self._maxsize:
            return self._maxsize - len(self._items)
        for item in items:
            self.put_nowait(item)
        return -1

    async def put(self, item: Any, timeout: float | None) -> bool:
        """Take an item when there is room; False: the time is up."""
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
        """Return that many items; if there are fewer, return how many there are."""
        if count > len(self._items):
            return len(self._items)
        items = [self._first() for _ in range(count)]
        return 0 if self._hand(ticket or UNTRACKED, *items) is EMPTY else items

    async def get(self, timeout: float | None, *ticket: Any) -> Any:
        """Return the first item when there is one; EMPTY: the time is up."""
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
        """Let items go to a reader; return the first, or EMPTY if the reader is gone, or there are none."""
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
        """Take items again that their reader did not get: they are the first."""
        for index, item in enumerate(items):
            if not self._readers.serve(item):
                self._items.extendleft(reversed(items[index:]))
                return

    def withdraw(self, *ticket: Any) -> None:
        """A reader does not wait any more, and has returned nothing."""
        if self._readers.leave(lambda waiting: waiting == ticket, EMPTY):
            return
        if ticket in self._getting:  # it was served, and its coroutine has not run since
            self._withdrawn.add(ticket)
        else:
            self.give_back(*(self._handed.take_back(ticket) or ()))

    def _process_gone(self, process: bytes) -> None:
        """Called under the runtime's lock."""
        try:
            self._loop.call_soon_threadsafe(self._left, process)
        except RuntimeError:
            pass  # the loop was closed: the actor ends

    def _left(self, reader: bytes) -> None:
        """A process is gone."""
        self._readers.leave(lambda waiting: waiting[0] == reader, EMPTY)
        self.give_back(*self._handed.left(reader))

    def _sweep(self) -> None:
        """Now and then, let go of what has been returned: it may be large."""
        self._sweeping = None
        if self._handed.sweep():
            self._sweeping = self._loop.call_later(_SWEEP_S, self._sweep)


class _Line:
    """Coroutines that wait, first come, first served."""

    def __init__(self) -> None:
        #: By the future that serves it: what it brought. All and only those that still wait.
        self._waiting: OrderedDict[asyncio.Future[Any], Any] = OrderedDict()

    async def wait(
        self, brought: Any, timeout: float | None, late: Any, give_back: Callable[[Any], None] | None = None
    ) -> Any:
        """Wait for ``serve``; return what it gives, or ``late`` when the time (seconds) is up.

        ``give_back`` gets what it gave if this was cancelled in the meantime.
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
        """End the waits of those who brought such; tell whether there were any."""
        leaving = [future for future, brought in self._waiting.items() if which(brought)]
        for future in leaving:
            self._leave(future, late)
        return bool(leaving)

    def first(self) -> asyncio.Future[Any] | None:
        """Return who waits longest."""
        while self._waiting:
            future = next(iter(self._waiting))
            if not future.done():
                return future
            del self._waiting[future]  # its coroutine was cancelled and has not run since
        return None

    def brought(self, future: asyncio.Future[Any]) -> Any:
        """Return what a waiting one brought."""
        return self._waiting[future]

    def serve(self, value: Any) -> bool:
        """End the longest wait with a value; False: nobody waits."""
        future = self.first()
        if future is None:
            return False
        del self._waiting[future]
        future.set_result(value)
        return True
