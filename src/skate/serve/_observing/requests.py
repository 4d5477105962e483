"""The requests of this process: those that run, the last that ended, and where they are counted."""

from __future__ import annotations

import asyncio
import sys
from asyncio import current_task
from bisect import bisect_left
from collections import deque
from time import monotonic
from typing import Any

from skate.serve._answers import Answers
from skate.serve._observing import metrics, tracing
from skate.serve._observing.access import AccessLog
from skate.serve._observing.frames import users_part
from skate.serve._observing.why import Ended
from skate.serve._targets import DeploymentId
from skate.serve.context import RequestContext

#: How many ended requests a process remembers.
_REMEMBERED = 1000


class _Process:
    """The requests of this process. Changed on its loop, read by any thread."""

    def __init__(self) -> None:
        self.running: set[RequestContext] = set()
        #: How many HTTP requests this process has accepted and not answered.
        self.http = 0
        #: The fields of ``Ended``, of the last requests.
        self.ended: deque[tuple[Any, ...]] = deque(maxlen=_REMEMBERED)
        #: None: no access log is written.
        self.access: AccessLog | None = None

    def note(self, ended: tuple[Any, ...]) -> None:
        """Remember a request that has ended, and log it."""
        self.ended.append(ended)
        if self.access is not None:
            self.access.add(ended)

    def find_ended(self, request_id: str) -> list[Ended]:
        """Return what is remembered of a request. Any thread."""
        return [Ended(*one) for one in self.ended.copy() if one[0] == request_id]


this = _Process()


class Work:
    """Counts what the code of one deployment does in this replica.

    Args:
        name: the deployment.
    """

    def __init__(self, name: DeploymentId) -> None:
        self._name = name
        self._labels = (name.name, name.app_name)
        #: How requests ended: decides whether a version stays.
        self.answers = Answers()
        #: By route: requests that were answered, and their times.
        self._series: dict[str, tuple[metrics.Counter, metrics.Histogram]] = {}

    def begin(self, context: RequestContext, method: str) -> None:
        """A request begins to run.

        Args:
            context: the request.
            method: of the deployment's class; "": the request came by HTTP, and its entrance logs it.
        """
        context.began = monotonic()
        context.method = method
        context.task = current_task()
        this.running.add(context)
        if tracing.this.tracer is not None:
            tracing.this.tracer.begin(context, f"{self._name.name}.{method or '__call__'}", False)

    def end(self, context: RequestContext, status: int = 200, error: BaseException | None = None) -> None:
        """A request has ended; called where its exception, if there is one, is being handled.

        Args:
            context: the request.
            status: of its answer, if it came by HTTP.
            error: an exception that was made an answer, and is handled no more.
        """
        now = monotonic()
        this.running.discard(context)
        context.task = None  # else a cycle: the task's context has the request
        milliseconds = (now - context.began) * 1000
        series = self._series.get(context.route) or self._add(context.route)
        latency = series[1]
        latency.counts[bisect_left(latency.bounds, milliseconds)] += 1
        latency.sum += milliseconds
        error = sys.exc_info()[1] or error
        if error is None:
            series[0].value += 1
            self.answers.answered(status)
        elif isinstance(error, asyncio.CancelledError | GeneratorExit):
            count_dropped(self._name, context, "running")
        else:
            metrics.this.metrics.counter(
                "ray_serve_deployment_error_counter", *self._labels, context.route, type(error).__name__
            ).value += 1
            self.answers.failed(error, users_part(error.__traceback__))
        if context.span is not None:
            context.span.end(error)
        if context.method:
            this.note(
                (
                    context.request_id,
                    *self._labels,
                    "CALL",
                    context.method,
                    _outcome(error),
                    milliseconds,
                    now,
                )
            )

    def _add(self, route: str) -> tuple[metrics.Counter, metrics.Histogram]:
        found, labels = metrics.this.metrics, (*self._labels, route)
        series = self._series[route] = (
            found.counter("ray_serve_deployment_request_counter", *labels),
            found.histogram("ray_serve_deployment_processing_latency_ms", *labels),
        )
        return series


def count_dropped(name: DeploymentId, context: RequestContext, where: str, is_late: bool = False) -> None:
    """Count a request that was cancelled, or whose time was up.

    Args:
        name: the deployment.
        context: the request.
        where: "queued" or "running".
        is_late: it was dropped because its time would not have sufficed.
    """
    is_late = is_late or 0 < context.deadline <= monotonic()
    family = "ray_serve_deadline_exceeded" if is_late else "ray_serve_cancelled"
    metrics.this.metrics.counter(family, name.name, name.app_name, where).value += 1


def count_shed(name: DeploymentId, reason: str) -> None:
    """Count a request that was refused."""
    metrics.this.metrics.counter("ray_serve_shed", name.name, name.app_name, reason).value += 1


def _outcome(error: BaseException | None) -> str:
    if error is None:
        return "OK"
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        return "CANCELLED"
    return f"ERROR {type(error).__name__}"
