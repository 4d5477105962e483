"""The ASGI application in front of the entrance: it counts, times and logs each HTTP request, and
each WebSocket when it ends.

It is on the path of every request, so that it is written to be cheap: one look into a table, one histogram,
one tuple. The counters of requests are the histograms' counts, and are made when somebody looks.
"""

from __future__ import annotations

from bisect import bisect_left
from time import monotonic
from typing import Any

from skate.serve._messages import Route
from skate.serve._observing import metrics, requests, tracing
from skate.serve._observing.metrics import Histogram, Snapshot
from skate.serve.context import RequestContext

_LATENCY = "ray_serve_http_request_latency_ms"
#: The client has closed its connection before the answer was out.
_CLOSED = 499
#: The method of WebSockets in metrics and logs, as Ray's; and those of their codes that name no error: done,
#: going away, none given.
WEBSOCKET = "WEBSOCKET"
_WELL = (1000, 1001, 1005)
#: Has the ``Sending`` of a WebSocket in its scope.
SENDING = "skate.serve.sending"

_Key = tuple[str, str, str, int]
"""Route prefix, application, method, status."""


class Sending:
    """One request, as what sends its answer.

    Args:
        send: see ASGI.
    """

    # Not attributes of uvicorn's request: so many more would make its dictionary a slow one.
    __slots__ = ("_send", "status", "route", "context", "span")

    def __init__(self, send: Any) -> None:
        self._send = send
        #: Of an answer that was sent in parts.
        self.status = 0
        #: Once they are known.
        self.route: Route | None = None
        self.context: RequestContext | None = None
        self.span: tracing.Span | None = None

    async def __call__(self, message: Any) -> None:
        """See ASGI."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)

    def routed(self, method: str, route: Route, context: RequestContext) -> None:
        """Note that the request has found its application."""
        self.route = route
        self.context = context
        if tracing.this.tracer is not None:
            tracing.this.tracer.begin(context, f"{method} {route.prefix}", True)
            self.span = context.span


class SendingWebSocket(Sending):
    """One WebSocket. Its status is the code of its end, or that of the refusal of its handshake.

    Args:
        receive, send: see ASGI.
    """

    __slots__ = ("_receive", "_is_accepted")

    def __init__(self, receive: Any, send: Any) -> None:
        super().__init__(send)
        self._receive = receive
        self._is_accepted = False

    async def __call__(self, message: Any) -> None:
        """See ASGI."""
        kind = message["type"]
        if kind == "websocket.accept":
            self._is_accepted = True
        elif kind == "websocket.close":
            self.status = self.status or (message.get("code", 1000) if self._is_accepted else 403)
        elif kind == "websocket.http.response.start":
            self.status = message["status"]
        await self._send(message)

    async def receive(self) -> Any:
        """See ASGI."""
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            self.status = self.status or message.get("code", 1005)
        return message


class Observed:
    """Counts the requests that pass it. On the loop.

    Args:
        app: the ASGI application behind it.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        #: With the deployment: the entrance of the application.
        self._series: dict[_Key, tuple[Histogram, str]] = {}
        self._handed_over = {
            reason: metrics.this.metrics.counter("ray_serve_handed_over_connections", reason)
            for reason in ("route", "drain")
        }
        metrics.this.metrics.add_reader(self._counts)

    def handed_over(self, is_draining: bool) -> None:
        """A connection was passed to another process."""
        self._handed_over["drain" if is_draining else "route"].value += 1

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """See ASGI."""
        if scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
            return
        sending = Sending(send)
        process = requests.this
        process.http += 1
        # Behind a proxy that cuts a prefix off, the application changes the path in its scope.
        path = scope["path"]
        began = monotonic()
        try:
            await self._app(scope, receive, sending)
        finally:
            process.http -= 1
            cycle = receive.__self__
            if cycle.response_complete or not cycle.disconnected:
                status = sending.status or getattr(cycle, "status", 0)
            else:
                status = _CLOSED
            self._ended(sending, scope["method"], path, status, began)

    async def _websocket(self, scope: Any, receive: Any, send: Any) -> None:
        sending = scope[SENDING] = SendingWebSocket(receive, send)
        process = requests.this
        process.http += 1
        path, began = scope["path"], monotonic()
        try:
            await self._app(scope, sending.receive, sending)
        finally:
            process.http -= 1
            self._ended(sending, WEBSOCKET, path, sending.status or 1000, began)

    def _ended(self, sending: Sending, method: str, path: str, status: int, began: float) -> None:
        now = monotonic()
        context = sending.context
        if context is not None:
            found = self._series.get((context.route, context.app_name, method, status))
            if found is None:
                assert sending.route is not None
                ingress = sending.route.ingress
                found = self._add(context.route, context.app_name, method, status, ingress)
            request_id = context.request_id
            if sending.span is not None:
                sending.span.end(None, status)
        elif path.startswith("/-/"):
            return
        else:
            request_id = ""
            found = self._add("", "", method, status, "")
        histogram, deployment = found
        milliseconds = (now - began) * 1000
        histogram.counts[bisect_left(histogram.bounds, milliseconds)] += 1
        histogram.sum += milliseconds
        application = context.app_name if context is not None else ""
        requests.this.note((request_id, deployment, application, method, path, status, milliseconds, now))

    def _add(
        self, route: str, application: str, method: str, status: int, deployment: str
    ) -> tuple[Histogram, str]:
        histogram = metrics.this.metrics.histogram(_LATENCY, route, method, application, str(status))
        found = self._series[route, application, method, status] = (histogram, deployment)
        return found

    def _counts(self) -> Snapshot:
        """Return the counters of requests. Any thread."""
        found: Snapshot = {}
        for (route, application, method, code), (histogram, deployment) in list(self._series.items()):
            count, status = sum(histogram.counts), str(code)
            found["ray_serve_num_http_requests", (route, method, application, status)] = count
            if code >= 400 and code not in _WELL:
                error = (route, status, method, application)
                found["ray_serve_num_http_error_requests", error] = count
                of_deployment = (deployment, application, status, method, route)
                found["ray_serve_num_deployment_http_error_requests", of_deployment] = count
        return found
