"""uvicorn's HTTP protocol, with limits, and with connections that can be passed to another process between
two requests."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, NoReturn

from httptools import HttpParserError, HttpParserUpgrade
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from skate.serve._http.limits import MAX_HEAD_BYTES, Stage, content_length, head_bytes, time_limit
from skate.serve._http.responses import TEXT
from skate.serve._targets import HTTPTarget

#: Returns whether it has passed on a connection, from which these bytes of its next request were read.
PassOn = Callable[["Connection", bytes], bool]


#: With so many requests that wait for answers before theirs, a connection is read no further.
_MAX_PIPELINED = 8
#: The first request of a connection is expected for this time (seconds): who connects has something to ask.
_FIRST_S = 1.0


class Connection(HttpToolsProtocol):
    """One connection of a client, which may not send more, or take longer, than ``options`` allow.

    Requests that are sent before earlier ones are answered wait in ``pipeline``, the latest first.
    """

    #: Set by the server, for all.
    pass_on: PassOn
    options: HTTPTarget

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: A request has begun to come and is not complete; and if so, whether its head is complete.
        self._is_in_message = self._is_in_body = False
        #: Bytes of this read; of a head that came in several; of the body.
        self._read_bytes = self._head_bytes = self._body_bytes = 0
        #: The head began in an earlier read.
        self._is_split = False
        #: How many requests have begun in this read.
        self._begun = 0
        #: The request whose handler runs, or ran last.
        self._running: RequestResponseCycle | None = None
        #: It closes after the next answer.
        self._is_ending = False
        #: Nothing more is parsed.
        self._is_refused = False
        #: Status and text of the refusal that a callback of the parser decided on.
        self._refusal = (400, "Invalid HTTP request received.")
        #: When the present stage began, or last made progress.
        self._since = self.loop.time()
        #: How much of an answer the client has not taken, and since when.
        self._unsent = (0, 0.0)
        #: It was given the bytes that another process has read from it, if it was taken from one.
        self._has_begun = False

    # ------------------------------------------------------------------ facts

    @property
    def is_busy(self) -> bool:
        """Whether bytes of a request have come whose answer has not left this process, or it is closing: its
        client waits for that."""
        if self._is_handling or not self._has_begun:
            return True
        return self.transport.is_closing() or self.transport.get_write_buffer_size() > 0

    @property
    def _is_handling(self) -> bool:
        """Whether bytes of a request have come whose answer is not written."""
        return self._is_in_message or self._is_refused or self._has_unanswered

    @property
    def is_awaited(self) -> bool:
        """Whether its first request may be on its way: its client cannot know that the connection was closed,
        and would not send it again."""
        return self.cycle is None and self.loop.time() - self._since < _FIRST_S

    @property
    def is_secure(self) -> bool:
        """Whether it is TLS. Its keys are in this process's memory: it cannot be passed on."""
        return self.scheme == "https"

    @property
    def _has_unanswered(self) -> bool:
        # The latest request is answered last.
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def stage(self) -> Stage:
        """The event that it waits for."""
        if self._is_refused:
            return Stage.ANSWER if self._has_unanswered else Stage.REFUSED
        if self._is_in_message:
            return Stage.BODY if self._is_in_body else Stage.HEAD
        return Stage.ANSWER if self._has_unanswered else Stage.IDLE

    @property
    def socket(self) -> socket.socket:
        """The connection's socket."""
        return self.transport.get_extra_info("socket")  # type: ignore[no-any-return]

    # ------------------------------------------------------------------ bytes

    def begin(self, data: bytes) -> None:
        """Go on with what another process has read. Until then it is not passed on: that would be lost."""
        self._has_begun = True
        if data:
            self.data_received(data)

    def data_received(self, data: bytes) -> None:
        """Parse, or pass on what belongs elsewhere."""
        was_handling = self._is_handling
        if self._is_refused or (not self.is_busy and self.pass_on(self, data)):
            return
        self._is_split = was_in_head = self._is_in_message and not self._is_in_body
        self._read_bytes, self._begun = len(data), 0
        try:
            self.parser.feed_data(data)
        except HttpParserUpgrade:
            self._is_in_message = False
            if self._should_upgrade():
                self.handle_websocket_upgrade()
                return
            self._unsupported_upgrade_warning()
        except HttpParserError:
            self.refuse(*self._refusal)
            return
        if not (was_in_head and self.stage is Stage.HEAD):
            self._since = self.loop.time()
            self._head_bytes = 0
        if self.stage is Stage.HEAD and (was_in_head or (self._begun == 1 and not was_handling)):
            # Nothing else was in this read.
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self.refuse(*_TOO_LONG)
                return
        if not self.is_busy:  # the rest of a body came that the handler had not waited for
            self.pass_on(self, b"")

    def on_message_begin(self) -> None:
        """Note it."""
        self._is_in_message, self._is_in_body = True, False
        self._begun += 1
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Have the request handled, unless it is too large."""
        may_be_long = self._is_split or self._read_bytes > MAX_HEAD_BYTES
        if may_be_long and head_bytes(self.url, self.headers) > MAX_HEAD_BYTES:
            self._give_up(*_TOO_LONG)
        limit = self.options.max_body_bytes
        if limit is not None and content_length(self.headers) > limit:
            self._give_up(413, _too_large(limit))
        self._is_in_body = True
        self._body_bytes = 0
        super().on_headers_complete()
        if self._is_ending and self.cycle is not None:  # there is none for a WebSocket
            self.cycle.keep_alive = False
        if 0 < len(self.pipeline) < _MAX_PIPELINED:
            self.flow.resume_reading()  # uvicorn pauses at the first: no end of the connection would be seen

    def on_body(self, body: bytes) -> None:
        """Keep it for the handler."""
        limit = self.options.max_body_bytes
        if limit is not None:
            self._body_bytes += len(body)
            if self._body_bytes > limit:  # it came in chunks
                self._give_up(413, _too_large(limit))
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note it."""
        self._is_in_message = False
        super().on_message_complete()

    # ------------------------------------------------------------------ answers

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """Go on with the next request, if the client has sent one already; else be idle."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self._since = self.loop.time()
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._is_refused:
            self._write_refusal()
        elif not self.is_busy:
            self.pass_on(self, b"")

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the handler: nobody reads its answer."""
        super().connection_lost(exc)
        self.pipeline.clear()
        for cycle in (self._running, self.cycle):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
                _cancel(cycle)

    def end(self) -> None:
        """Have the client close after the next answer, or the one that is under way."""
        self._is_ending = True
        if self._has_unanswered:
            self.cycle.keep_alive = False

    def leave(self) -> None:
        """Close this process's descriptor only: another process has the connection."""
        self.connections.discard(self)
        self.transport.abort()

    # ------------------------------------------------------------------ refusals

    def check(self, now: float) -> None:
        """Cut off a client that takes too long. Called about once a second.

        Args:
            now: seconds of the loop's clock.
        """
        self._check_unsent(now)
        stage = self.stage
        if stage is Stage.BODY and self.flow.read_paused:
            self._since = now  # the handler takes its time, not the client
            return
        limit = time_limit(stage, self.options)
        if limit is None or now - self._since < limit:
            return
        if stage is Stage.IDLE:
            self.transport.close()
        elif stage is Stage.REFUSED:
            self.transport.abort()
        else:
            what = "headers were not complete after" if stage is Stage.HEAD else "body brought nothing for"
            self.refuse(408, f"Request timed out: its {what} {limit:g} s.")

    def _check_unsent(self, now: float) -> None:
        """Cut off a client that has an answer waiting and takes none of it."""
        size = self.transport.get_write_buffer_size()
        known, since = self._unsent
        limit = self.options.body_timeout_s
        if not size or size != known:
            self._unsent = (size, now)
        elif limit is not None and now - since >= limit:
            self.transport.abort()

    def _give_up(self, status: int, text: str) -> NoReturn:
        """End the parsing, in a callback of the parser: ``data_received`` refuses the request."""
        self._refusal = (status, text)
        raise ValueError(text)

    def refuse(self, status: int, text: str) -> None:
        """Answer the request that is coming in place of its handler, and close the connection. Answers of
        requests before it come first."""
        self._is_refused = True
        self._refusal = (status, text)
        self._since = self.loop.time()
        cycle = self.cycle
        if not (self._is_in_message and self._is_in_body):
            if not self._has_unanswered:
                self._write_refusal()
        elif self.pipeline and self.pipeline[0][0] is cycle:
            self.pipeline.popleft()
            self.cycle = self.pipeline[0][0] if self.pipeline else self._running  # type: ignore[assignment]
        elif not cycle.response_started:
            cycle.response_started = cycle.response_complete = True
            cycle.status = status  # type: ignore[attr-defined]
            cycle.message_event.set()
            _cancel(cycle)
            self._write_refusal()
        elif cycle.response_complete:
            self._end()
        else:
            self.transport.abort()

    def _write_refusal(self) -> None:
        status, text = self._refusal
        body = text.encode()
        parts = [STATUS_LINE[status]]
        for name, value in self.server_state.default_headers:
            parts += (name, b": ", value, b"\r\n")
        parts.append(b"content-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\n" % len(body))
        parts.append(b"connection: close\r\n\r\n")
        self.transport.write(b"".join([*parts, body]))
        self._end()

    def _end(self) -> None:
        """Send no more, and discard what still comes until the client closes or ``check`` does."""
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self.flow.resume_reading()
        else:
            self.transport.close()


_TOO_LONG = (431, f"Request header fields too large: at most {MAX_HEAD_BYTES} bytes are read.")


def _too_large(limit: int) -> str:
    return f"Request body too large: at most {limit} bytes are taken (max_body_bytes)."


def _cancel(cycle: RequestResponseCycle) -> None:
    """Cancel a request's handler, if it has begun."""
    cancel = getattr(cycle, "on_disconnect", None)
    if cancel is not None:
        cancel()


def answer(cycle: Any, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    """Write a whole response at once: head and body leave in one packet.

    Args:
        cycle: the request; or what stands for it behind middlewares, see ``Passage``.
        status: of the response.
        headers: of the response, with its content type.
        body: of the response.
    """
    if cycle.disconnected or cycle.response_started:
        return
    if type(cycle) is not RequestResponseCycle:  # middlewares are to see it
        cycle.answer(status, headers, body)
        return
    cycle.response_started = cycle.response_complete = True
    cycle.status = status  # type: ignore[attr-defined]
    if cycle.waiting_for_100_continue:  # the client may send its body or not: what follows is ambiguous
        cycle.keep_alive = False
    parts = [STATUS_LINE[status]]
    for name, value in (*cycle.default_headers, *headers):
        parts += (name, b": ", value, b"\r\n")
    parts.append(b"content-length: %d\r\n" % len(body))
    parts.append(b"\r\n" if cycle.keep_alive else b"connection: close\r\n\r\n")
    if cycle.scope["method"] != "HEAD":
        parts.append(body)
    cycle.transport.write(b"".join(parts))
    cycle.message_event.set()
    if not cycle.keep_alive:
        cycle.transport.close()
    cycle.on_response()


async def refuse(
    scope: Any, receive: Any, send: Any, status: int, text: str, *extra: tuple[bytes, bytes]
) -> None:
    """Answer in place of an application, a WebSocket's handshake, too.

    Args:
        scope, receive, send: see ASGI.
        status: of the answer.
        text: its body.
        extra: more headers.
    """
    headers = [(b"content-type", TEXT), *extra]
    if scope["type"] == "http":
        answer(receive.__self__, status, headers, text.encode())
    elif "websocket.http.response" in scope.get("extensions", ()):
        body = text.encode()
        headers.append((b"content-length", b"%d" % len(body)))
        await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": body, "more_body": False})
    else:
        await send({"type": "websocket.close", "code": 1008, "reason": text[:100]})
