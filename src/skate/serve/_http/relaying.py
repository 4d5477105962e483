"""Requests that another process's replica runs: what it needs of them, and its answers on the way back."""

from __future__ import annotations

from typing import Any

from skate.serve._client.call import Call
from skate.serve._http.protocol import answer
from skate.serve.context import RequestContext


def may_repeat(scope: Any) -> bool:
    """Tell whether a request says of itself that it may run twice: RFC 9110, section 9.2.2, and the header
    Idempotency-Key of an IETF draft."""
    return scope["method"] in ("GET", "HEAD") or any(
        name == b"idempotency-key" for name, _ in scope["headers"]
    )


def head_of(scope: Any, context: RequestContext) -> dict[str, Any]:
    """Return what another process needs of a request."""
    names = ("type", "asgi", "http_version", "server", "client", "scheme", "root_path", "method", "path",
             "raw_path", "query_string", "headers", "subprotocols", "extensions")  # fmt: skip
    return {"route": context.route, **{name: scope[name] for name in names if name in scope}}


def _add_id(headers: list[tuple[bytes, bytes]], context: RequestContext) -> None:
    if not any(name.lower() == b"x-request-id" for name, _ in headers):
        headers.append((b"x-request-id", context.request_id.encode("latin-1")))


def _without_length(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [
        (name, value)
        for name, value in headers
        if name.lower() not in (b"content-length", b"transfer-encoding")
    ]


async def relay(call: Call, cycle: Any, send: Any, context: RequestContext) -> None:
    """Pass on another replica's answer, as it comes.

    Args:
        call: of the replica's ``http``, which was sent.
        cycle: the request, see ``protocol.answer``.
        send: see ASGI.
        context: of the request.
    """
    if call.ref is None:
        raise call.error or RuntimeError("the request was not sent")
    started = False
    async for ref in call.ref:
        status, headers, body, more = await ref
        if not started:
            started = True
            if not more:
                _add_id(headers, context)
                answer(cycle, status, _without_length(headers), body)
                continue
            _add_id(headers, context)
            await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": more})
