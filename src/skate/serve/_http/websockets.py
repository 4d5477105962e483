"""WebSockets of clients, which wait for a slot, and whose messages another replica may get."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from skate.exceptions import RayError
from skate.serve._client.call import Call


class WebSocket:
    """One WebSocket that this process accepted.

    Args:
        receive, send: see ASGI.
    """

    def __init__(self, receive: Any, send: Any) -> None:
        self._receive = receive
        self._send = send
        #: Messages that came while it waited, in order: the first is the wish to connect.
        self._early: list[Any] = []
        self._next: asyncio.Task[Any] | None = None
        #: The handshake was answered, by an acceptance; it has ended, by either side.
        self.is_accepted = self._is_closed = False

    async def receive(self) -> Any:
        """See ASGI."""
        if self._early:
            return self._early.pop(0)
        following, self._next = self._next, None
        message = await (following or self._receive())
        if message["type"] == "websocket.disconnect":
            self._is_closed = True
        return message

    async def send(self, message: Any) -> None:
        """See ASGI."""
        kind = message["type"]
        if kind == "websocket.accept":
            self.is_accepted = True
        elif kind == "websocket.close":
            self._is_closed = True
        await self._send(message)

    async def close(self, code: int, reason: str) -> None:
        """Close it, unless it has ended."""
        if not self._is_closed:
            await self.send({"type": "websocket.close", "code": code, "reason": reason[:100]})

    async def while_there(self, waiting: Coroutine[Any, Any, bool]) -> bool | None:
        """Return what something returns that takes time; None: the client has gone meanwhile, and that was
        cancelled."""
        self._early.append(await self._receive())
        self._next = asyncio.ensure_future(self._receive())
        task = asyncio.ensure_future(waiting)
        try:
            await asyncio.wait([task, self._next], return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            return None  # nothing else can come before the handshake is answered
        finally:
            task.cancel()

    async def relay(self, call: Call, key: str, replica: Any) -> None:
        """Pass the messages of the client on to a replica, and those of the replica to the client.

        Args:
            call: of the replica's ``websocket``, which was sent.
            key: by which the replica knows it.
            replica: the actor; None: it has ended the WebSocket already.
        """
        if call.ref is None:
            raise call.error or RuntimeError("the WebSocket was not sent to a replica")
        upwards = asyncio.ensure_future(self._pass_on(key, replica))
        try:
            async for ref in call.ref:
                await self.send(await ref)
        finally:
            upwards.cancel()

    async def _pass_on(self, key: str, replica: Any) -> None:
        if replica is None:
            return  # it has ended, and its last messages are on the way
        while True:
            message = await self.receive()
            try:
                await replica.websocket_received.remote(key, message)
            except RayError:
                return  # the other direction says why
            if message["type"] == "websocket.disconnect":
                return

    def end(self) -> None:
        """Wait for no message any more."""
        if self._next is not None:
            self._next.cancel()


def is_goodbye(error: Exception) -> bool:
    """Tell whether an error says no more than that the client of a WebSocket has gone: applications often
    let it pass."""
    from starlette.websockets import WebSocketDisconnect
    from uvicorn.protocols.utils import ClientDisconnected

    return isinstance(error, (WebSocketDisconnect, ClientDisconnected))
