"""Runs user code for an HTTP request, and answers with what it returns."""

from __future__ import annotations

import inspect
from typing import Any

from skate.serve._http.protocol import answer
from skate.serve._http.responses import TEXT, body_of
from skate.serve._replica.user_code import UserCode
from skate.serve.context import RequestContext


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


async def _stream(code: UserCode, result: Any, send: Any, request_id: bytes) -> None:
    """Send a generator's items as they come."""
    headers = [(b"content-type", TEXT), (b"x-request-id", request_id)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    async for item in code.items(result):
        await send({"type": "http.response.body", "body": body_of(item)[1], "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
