"""The ASGI application in front of the entrance: it counts, times and logs each HTTP request.

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
        if scope["type"] != "http":
            await self._app(scope, receive, send)
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
            now = monotonic()
            process.http -= 1
            context = sending.context
            cycle = receive.__self__
            if cycle.response_complete or not cycle.disconnected:
                status = sending.status or getattr(cycle, "status", 0)
            else:
                status = _CLOSED
            method = scope["method"]
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
                found = None
            else:
                request_id = ""
                found = self._add("", "", method, status, "")
            if found is not None:
                histogram, deployment = found
                milliseconds = (now - began) * 1000
                histogram.counts[bisect_left(histogram.bounds, milliseconds)] += 1
                histogram.sum += milliseconds
                application = context.app_name if context is not None else ""
                process.note((request_id, deployment, application, method, path, status, milliseconds, now))

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
            if code >= 400:
                error = (route, status, method, application)
                found["ray_serve_num_http_error_requests", error] = count
                of_deployment = (deployment, application, status, method, route)
                found["ray_serve_num_deployment_http_error_requests", of_deployment] = count
        return found
