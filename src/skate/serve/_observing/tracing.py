"""Trace contexts: the header ``traceparent`` (W3C), and spans where the user has set up OpenTelemetry.

Without OpenTelemetry a trace context is passed on as it came. With it, each request and each run of a
deployment's code is a span, and the context that is passed on names that span. This module never imports
OpenTelemetry: it uses what the user's code has imported and given a tracer provider.
"""

from __future__ import annotations

import re
import sys
from typing import Any

from skate.serve.context import RequestContext, request

_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


def parse(value: str) -> str:
    """Return the value of a header ``traceparent`` if it is valid, else "".

    Example:
        >>> parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
        '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'
    """
    value = value.strip()
    found = _FORM.fullmatch(value)
    if found is None:
        return ""
    version, trace, parent, _, rest = found.groups()
    if version == "ff" or not int(trace, 16) or not int(parent, 16) or (version == "00" and rest):
        return ""
    return value


def get_trace_context() -> dict[str, Any] | None:
    """Return the trace that the request belongs to, to be passed on to other services; None: it has none.

    Returns:
        A dict with the header ``traceparent``. Where the deployment has set up OpenTelemetry: its current
        ``Context``, as in Ray, for ``start_as_current_span(name, context=...)``.

    Example:
        >>> httpx.get(url, headers=serve.get_trace_context())
    """
    context = request.get()
    if this.tracer is not None and context.span is not None:
        return this.tracer.current()
    return {"traceparent": context.trace} if context.trace else None


class Span:
    """One span of OpenTelemetry.

    Args:
        span: theirs.
        errors: the status of one that failed.
    """

    __slots__ = ("_span", "_errors")

    def __init__(self, span: Any, errors: Any) -> None:
        self._span = span
        self._errors = errors

    def end(self, error: BaseException | None, status: int = 0) -> None:
        """End it.

        Args:
            error: why the request failed; None: it did not.
            status: of the HTTP answer; 0: there is none.
        """
        if status:
            self._span.set_attribute("http.response.status_code", status)
        if isinstance(error, Exception):
            self._span.record_exception(error)
        if error is not None or status >= 500:
            self._span.set_status(self._errors)
        self._span.end()


class Tracer:
    """Makes spans by the tracer provider of the user.

    Args:
        trace: the module ``opentelemetry.trace``.
    """

    def __init__(self, trace: Any) -> None:
        from importlib import import_module

        self._trace = trace
        self._contexts = import_module("opentelemetry.context")
        self._tracer = trace.get_tracer("skate.serve")
        self._failed = trace.Status(trace.StatusCode.ERROR)

    def begin(self, context: RequestContext, name: str, is_request: bool) -> None:
        """Begin the span of a request and make it the current one.

        Args:
            context: the request, whose trace is the parent, and from now on the span.
            name: of the span.
            is_request: it came from outside, rather than a run of a deployment's code.
        """
        trace = self._trace
        parent = None
        if context.trace:
            _, trace_id, span_id, flags = context.trace.split("-")[:4]
            parent = trace.set_span_in_context(
                trace.NonRecordingSpan(
                    trace.SpanContext(
                        int(trace_id, 16), int(span_id, 16), True, trace.TraceFlags(int(flags, 16))
                    )
                ),
                self._contexts.Context(),
            )
        kind = trace.SpanKind.SERVER if is_request else trace.SpanKind.INTERNAL
        span = self._tracer.start_span(
            name,
            context=parent,
            kind=kind,
            attributes={"request_id": context.request_id, "application": context.app_name},
        )
        # Nobody detaches it: each request runs in a task of its own, and so in a context of its own.
        self._contexts.attach(trace.set_span_in_context(span))
        made = span.get_span_context()
        context.trace = f"00-{made.trace_id:032x}-{made.span_id:016x}-{int(made.trace_flags):02x}"
        context.span = Span(span, self._failed)

    def current(self) -> dict[str, Any]:
        """Return OpenTelemetry's current context."""
        return self._contexts.get_current()  # type: ignore[no-any-return]


class _Process:
    """The tracer of this process."""

    #: None: the user has set up none.
    tracer: Tracer | None = None

    def look(self) -> None:
        """Use the tracer provider that the user's code has set up by now, if it has."""
        trace = sys.modules.get("opentelemetry.trace")
        if trace is not None and not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
            self.tracer = Tracer(trace)


this = _Process()
