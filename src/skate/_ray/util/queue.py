"""``ray.util.queue._QueueActor``, for programs that build a queue's actor themselves."""

from __future__ import annotations

import asyncio
from typing import Any

from skate._ray._missing import missing
from skate.util._queue_actor import EMPTY, QueueActor
from skate.util.queue import Empty, Full


class _QueueActor:
    """The actor of a Queue with Ray's methods and exceptions.

    Args:
        maxsize: items it holds at most; 0 or less: no limit.
    """

    def __init__(self, maxsize: int) -> None:
        self.maxsize = maxsize
        self._queue = QueueActor(maxsize)

    def qsize(self) -> int:
        """Return how many items there are."""
        return self._queue.size()

    def empty(self) -> bool:
        """Tell whether there is none."""
        return self.qsize() == 0

    def full(self) -> bool:
        """Tell whether there is no room."""
        return 0 < self.maxsize <= self.qsize()

    async def put(self, item: Any, timeout: float | None = None) -> None:
        """Put an item; raise Full if there is no room within ``timeout`` seconds."""
        if not await self._queue.put(item, timeout):
            raise Full

    async def get(self, timeout: float | None = None) -> Any:
        """Return the first item; raise Empty if there is none within ``timeout`` seconds."""
        return _item(await self._queue.get(timeout), Empty)

    def put_nowait(self, item: Any) -> None:
        """Put an item, or raise ``asyncio.QueueFull``."""
        if not self._queue.put_nowait(item):
            raise asyncio.QueueFull

    def get_nowait(self) -> Any:
        """Return the first item, or raise ``asyncio.QueueEmpty``."""
        return _item(self._queue.get_nowait(), asyncio.QueueEmpty)

    def put_nowait_batch(self, items: list[Any]) -> None:
        """Put all items, or raise Full."""
        room = self._queue.put_nowait_batch(items)
        if room >= 0:
            raise Full(f"the queue has room for {room} of {len(items)} items")

    def get_nowait_batch(self, num_items: int) -> list[Any]:
        """Return that many items, or raise Empty."""
        found = self._queue.get_nowait_batch(num_items)
        if isinstance(found, int):
            raise Empty(f"the queue has {found} of {num_items} items")
        return found


def _item(found: Any, error: type[Exception]) -> Any:
    if found is EMPTY:
        raise error
    return found


def __getattr__(name: str) -> object:
    return missing(__name__, name)
