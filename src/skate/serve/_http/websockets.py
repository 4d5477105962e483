"""Runs the handler of a WebSocket, and ends the WebSocket properly if the handler raises."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from skate.serve._http.protocol import refuse
from skate.serve.context import RequestContext

logger = logging.getLogger("skate.serve")

#: RFC 6455: the server has a condition that it did not expect.
_INTERNAL_ERROR = 1011


async def run(
    handler: Callable[..., Awaitable[Any]], scope: Any, receive: Any, send: Any, context: RequestContext
) -> None:
    """Run it. Its client gets a close code, or status 500 before the handshake, where it raises.

    Args:
        handler: takes the other arguments.
        scope, receive, send: see ASGI.
        context: the request.
    """
    accepted = over = False

    async def watched_send(message: Any) -> None:
        nonlocal accepted, over
        kind = message["type"]
        accepted = accepted or kind == "websocket.accept"
        over = over or kind in ("websocket.close", "websocket.http.response.start")
        await send(message)

    async def watched_receive() -> Any:
        nonlocal over
        message = await receive()
        over = over or message["type"] == "websocket.disconnect"
        return message

    try:
        await handler(scope, watched_receive, watched_send, context)
    except Exception:
        logger.exception("WebSocket %s of %s failed", context.request_id, context.app_name)
        if over:
            return
        if accepted:
            await send({"type": "websocket.close", "code": _INTERNAL_ERROR, "reason": "the handler failed"})
        else:
            await refuse(scope, receive, send, 500, "Internal Server Error")
