"""The actor inside a Queue: its items, and who waits for them.

It hands an item to whoever has waited longest, and never leaves an item and a waiting reader side by
side, nor room and a waiting writer::

    put --> reader waiting? ----------------------------> the reader's reply
        --> room? --> [items] --get--> the reader's reply; the first waiting writer's item moves in
        --> else wait --timeout--> False
    get --> no item: wait --timeout--> EMPTY
"""

from __future__ import annotations

import asyncio
import enum
from collections import OrderedDict, deque
from typing import Any


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

    def get_nowait(self) -> Any:
        """Return the first item, or EMPTY."""
        if not self._items:
            return EMPTY
        item = self._items.popleft()
        writer = self._writers.first()
        if writer is not None:
            self._items.append(self._writers.brought(writer))
            self._writers.serve(True)
        return item

    def get_nowait_batch(self, count: int) -> list[Any] | int:
        """Return that many items; if there are fewer, return how many there are."""
        if count > len(self._items):
            return len(self._items)
        return [self.get_nowait() for _ in range(count)]

    async def get(self, timeout: float | None) -> Any:
        """Return the first item when there is one; EMPTY: the time is up."""
        if self._items:
            return self.get_nowait()
        return await self._readers.wait(None, timeout, EMPTY)

    def give_back(self, item: Any) -> None:
        """Take an item again whose reader left before it got it: it is the first."""
        if not self._readers.serve(item):
            self._items.appendleft(item)


class _Line:
    """Coroutines that wait, first come, first served."""

    def __init__(self) -> None:
        #: By the future that serves it: what it brought. All and only those that still wait.
        self._waiting: OrderedDict[asyncio.Future[Any], Any] = OrderedDict()

    async def wait(self, brought: Any, timeout: float | None, late: Any) -> Any:
        """Wait for ``serve``; return what it gives, or ``late`` when the time (seconds) is up."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._waiting[future] = brought
        timer = None if timeout is None else loop.call_later(timeout, self._leave, future, late)
        try:
            return await future
        finally:
            if timer is not None:
                timer.cancel()
            self._waiting.pop(future, None)

    def _leave(self, future: asyncio.Future[Any], late: Any) -> None:
        if self._waiting.pop(future, self) is not self and not future.done():
            future.set_result(late)

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
