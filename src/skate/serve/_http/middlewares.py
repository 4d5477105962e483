"""Middlewares of the user's around the entrance: they see the requests and the answers of the whole port.

The entrance and the replica behind it write most answers at once, past ``send``, and look at uvicorn's own
request. Behind middlewares, which are to see each answer, a ``Passage`` stands for that request.
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from skate.serve._folders import look_first_in
from skate.serve._http.protocol import answer
from skate.serve._http.responses import TEXT
from skate.serve._targets import Middlewares

logger = logging.getLogger("skate.serve")

App = Callable[[Any, Any, Any], Awaitable[None]]

#: Has the request and its ``send`` in the scope: what reaches the entrance through middlewares is theirs.
_KEY = "skate.serve.request"


class Passage:
    """One HTTP request behind middlewares, in the place of uvicorn's.

    Args:
        cycle: uvicorn's request.
        sending: of the request: see ``Observed``.
        receive, send: those of the innermost middleware.
    """

    def __init__(self, cycle: Any, sending: Any, receive: Any, send: Any) -> None:
        self._cycle = cycle
        self._sending = sending
        self._receive = receive
        self._send = send
        self.response_started = self.response_complete = False
        #: An answer that was given as a whole, and is not sent yet.
        self._kept: tuple[int, list[tuple[bytes, bytes]], bytes] | None = None

    @property
    def disconnected(self) -> bool:
        """Whether the client has gone."""
        return bool(self._cycle.disconnected)

    @property
    def transport(self) -> Any:
        """The connection's."""
        return self._cycle.transport

    @property
    def on_disconnect(self) -> Any:
        """Called when the client goes."""
        return self._cycle.on_disconnect

    @on_disconnect.setter
    def on_disconnect(self, value: Any) -> None:
        self._cycle.on_disconnect = value

    def routed(self, *facts: Any) -> None:
        """See ``Sending``."""
        self._sending.routed(*facts)

    async def receive(self) -> Any:
        """See ASGI."""
        return await self._receive()

    async def __call__(self, message: Any) -> None:
        """Send a message: see ASGI."""
        if message["type"] == "http.response.start":
            self.response_started = True
        elif not message.get("more_body"):
            self.response_complete = True
        await self._send(message)

    def answer(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        """Take a whole answer: see ``protocol.answer``."""
        self.response_started = self.response_complete = True
        self._kept = (status, [*headers, (b"content-length", b"%d" % len(body))], body)

    async def finish(self) -> None:
        """Send the answer that was taken."""
        if self._kept is None or self.disconnected:
            return
        status, headers, body = self._kept
        if self._cycle.waiting_for_100_continue:  # the client may send its body or not
            self._cycle.keep_alive = False
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body, "more_body": False})


class Layers:
    """An ASGI application with middlewares around it.

    Args:
        app: the entrance.
        middlewares: functions of an ASGI application, and their further arguments; the first is the
            innermost.
    """

    def __init__(
        self, app: App, middlewares: Sequence[tuple[Callable[..., App], tuple[Any, ...], dict[str, Any]]]
    ) -> None:
        self._app = app
        self._chain: App = self._enter
        for kind, args, kwargs in middlewares:
            self._chain = kind(self._chain, *args, **kwargs)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._chain(scope, receive, send)
            return
        cycle = receive.__self__
        scope[_KEY] = (cycle, send)
        try:
            await self._chain(scope, receive, send)
        except Exception as error:
            if cycle.disconnected:  # some complain that there is no answer
                return
            logger.error("a middleware failed for %s %s", scope["method"], scope["path"], exc_info=error)
            if cycle.response_started:
                cycle.transport.close()
            else:
                answer(cycle, 500, [(b"content-type", TEXT)], b"Internal Server Error")

    async def _enter(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        cycle, sending = scope[_KEY]
        passage = Passage(cycle, sending, receive, send)
        await self._app(scope, passage.receive, passage)
        await passage.finish()


def layered(app: App, middlewares: Middlewares | None) -> App:
    """Return an application with the middlewares of the port around it; without any, itself.

    Raises:
        RuntimeError: one cannot be made.
    """
    if middlewares is None:
        return app
    try:
        look_first_in(middlewares.path)
        return Layers(app, pickle.loads(middlewares.code))
    except Exception as error:
        raise RuntimeError(
            f"a middleware of http_options cannot be made: {type(error).__name__}: {error}. Each process "
            "that answers HTTP makes its own, and needs their modules"
        ) from error
