"""``ray.util.queue._QueueActor``, for programs that build a queue's actor themselves."""

from __future__ import annotations

from typing import Any

from skate._ray._missing import missing
from skate.util._queue_actor import EMPTY, QueueActor
from skate.util.queue import Empty, Full


class _QueueActor(QueueActor):
    """The actor of a Queue with Ray's methods: what is not possible raises Empty or Full.

    Args:
        maxsize: items it holds at most; 0 or less: no limit.
    """

    def qsize(self) -> int:
        """Return how many items there are."""
        return self.size()

    def empty(self) -> bool:
        """Tell whether there is none."""
        return self.size() == 0

    def full(self) -> bool:
        """Tell whether there is no room."""
        return 0 < self._maxsize <= self.size()

    async def put(self, item: Any, timeout: float | None = None) -> bool:
        """Put an item; wait for room up to ``timeout`` seconds."""
        if not await super().put(item, timeout):
            raise Full
        return True

    async def get(self, timeout: float | None = None) -> Any:
        """Return the first item; wait for one up to ``timeout`` seconds."""
        return _item(await super().get(timeout))

    def put_nowait(self, item: Any) -> bool:
        """Put an item, or raise Full."""
        if not super().put_nowait(item):
            raise Full
        return True

    def get_nowait(self) -> Any:
        """Return the first item, or raise Empty."""
        return _item(super().get_nowait())

    def put_nowait_batch(self, items: list[Any]) -> int:
        """Put all items, or raise Full."""
        room = super().put_nowait_batch(items)
        if room >= 0:
            raise Full(f"the queue has room for {room} of {len(items)} items")
        return room

    def get_nowait_batch(self, num_items: int) -> list[Any] | int:
        """Return that many items, or raise Empty."""
        found = super().get_nowait_batch(num_items)
        if isinstance(found, int):
            raise Empty(f"the queue has {found} of {num_items} items")
        return found


def _item(found: Any) -> Any:
    if found is EMPTY:
        raise Empty
    return found


def __getattr__(name: str) -> object:
    return missing(__name__, name)
