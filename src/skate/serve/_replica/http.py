"""Runs user code for an HTTP request, and answers with what it returns."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Iterable
from typing import Any

from skate.serve._http.protocol import answer
from skate.serve._http.responses import TEXT, body_of
from skate.serve._http.websockets import is_goodbye
from skate.serve._replica.user_code import UserCode
from skate.serve.context import RequestContext

logger = logging.getLogger("skate.serve")

#: A part of a streamed answer, on its way to another process, has at most so many bytes: parts are counted
#: there, and their bytes are to be bounded, too.
_PART_BYTES = 256 * 1024


def _parts_of(message: Any) -> Iterable[Any]:
    """Divide a message of an answer for another process. An answer that is one message, or the last one of a
    stream, stays whole: the user's code has made it already."""
    if not message.get("more_body") or len(message.get("body", b"")) <= _PART_BYTES:
        return (message,)
    body = memoryview(message["body"])
    parts = (body[start : start + _PART_BYTES] for start in range(0, len(body), _PART_BYTES))
    return ({**message, "body": bytes(part)} for part in parts)


async def run(code: UserCode, scope: Any, receive: Any, send: Any, context: RequestContext) -> int:
    """Run a request; return the status of the answer.

    Args:
        code: the user's.
        scope, receive, send: see ASGI; ``receive`` is a method of uvicorn's request, or says so.
        context: the request.
    """
    request_id = context.request_id.encode("latin-1")
    if code.asgi is not None:
        status = 200

        async def send_with_id(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message.get("headers", ()), (b"x-request-id", request_id)]}
            await send(message)

        shared = code.lifespan_state
        if shared:
            # Each request has a copy of it: no other sees what one adds.
            scope["state"] = {**scope.get("state", {}), **shared}
        await code.asgi(scope, receive, send_with_id if scope["type"] == "http" else send)
        return status
    if scope["type"] != "http":
        await send(
            {"type": "websocket.close", "code": 1003, "reason": "this application takes no WebSockets"}
        )
        return 403
    if code.takes_request:
        from starlette.requests import Request

        result = await code.call("__call__", (Request(scope, receive),), {})
    else:
        result = await code.call("__call__", (), {})
    if hasattr(result, "raw_headers") and callable(result):  # a starlette Response
        result.raw_headers.append((b"x-request-id", request_id))
        await result(scope, receive, send)
        return int(result.status_code)
    if inspect.isgenerator(result) or hasattr(result, "__aiter__"):
        await _stream(code, result, send, request_id)
    else:
        kind, body = body_of(result)
        headers = [(b"content-type", kind), (b"x-request-id", request_id)]
        cycle = getattr(receive, "__self__", None)
        if cycle is not None:
            answer(cycle, 200, headers, body)
            return 200
        headers.append((b"content-length", b"%d" % len(body)))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})
    return 200


class Running:
    """Runs a request that another process accepted.

    Args:
        code: the user's.
        head: its scope, see ASGI, but for what has to be made here.
        receive: see ASGI.
        context: of the request.
    """

    def __init__(self, code: UserCode, head: dict[str, Any], receive: Any, context: RequestContext) -> None:
        self._messages: asyncio.Queue[Any] = asyncio.Queue(maxsize=16)
        running = self._run(code, {**head, "state": {}}, receive, context)
        context.task = self._task = asyncio.get_running_loop().create_task(running)

    async def _run(self, code: UserCode, scope: Any, receive: Any, context: RequestContext) -> None:
        try:
            await run(code, scope, receive, self._send, context)
        except Exception as error:
            if not is_goodbye(error):
                logger.error("request %s of %s failed", context.request_id, context.app_name, exc_info=error)
                await self._messages.put(error)
                return
        await self._messages.put(None)

    async def _send(self, message: Any) -> None:
        for part in _parts_of(message):
            await self._messages.put(part)

    async def messages(self) -> AsyncIterator[Any]:
        """Yield what it sends, see ASGI, as it comes. Raises what user code raised."""
        while (message := await self._messages.get()) is not None:
            if isinstance(message, Exception):
                raise message
            yield message

    def end(self) -> None:
        """Cancel it, if it runs."""
        self._task.cancel()


async def _stream(code: UserCode, result: Any, send: Any, request_id: bytes) -> None:
    """Send a generator's items as they come."""
    headers = [(b"content-type", TEXT), (b"x-request-id", request_id)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    async for item in code.items(result):
        await send({"type": "http.response.body", "body": body_of(item)[1], "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
