"""Messages that a client sends in a stream, held until the replica asks for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

#: So many messages are read before the replica asks for them; then gRPC has the client wait.
_AHEAD = 16


class Incoming:
    """The messages of one RPC. On the door's loop.

    Args:
        messages: of the client, as gRPC gives them.
    """

    def __init__(self, messages: AsyncIterator[bytes]) -> None:
        self._messages = messages
        #: None: the client has ended its stream.
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue(_AHEAD)
        self._reader = asyncio.get_running_loop().create_task(self._read())

    async def _read(self) -> None:
        async for one in self._messages:
            await self._queue.put(one)
        await self._queue.put(None)

    async def take(self) -> tuple[list[bytes], bool]:
        """Return what has come, once there is something, and whether it is the last."""
        found = [await self._queue.get()]
        while not self._queue.empty():
            found.append(self._queue.get_nowait())
        is_over = found[-1] is None
        return [one for one in found if one is not None], is_over

    def close(self) -> None:
        """Read no more."""
        self._reader.cancel()
