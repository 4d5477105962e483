"""Reports of the load to the controller, for deployments that scale automatically."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Mapping
from typing import Any

from skate import api
from skate.exceptions import RayError
from skate.serve._targets import CONTROLLER, NAMESPACE, DeploymentId

#: So many samples make a report, unless they would be further apart, or nearer, than this (seconds).
_SAMPLES, _LONGEST_S, _SHORTEST_S = 10, 0.5, 0.01


class Meter:
    """Reports how many requests are in one place: the mean over each interval, if it changed. On the loop.

    Args:
        loop: where it is used.
        count: returns how many requests there are now.
        report: called with a mean.
        sleeps: take no samples between a report of zero and the next ``wake``.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        count: Callable[[], int],
        report: Callable[[float], None],
        sleeps: bool,
    ) -> None:
        self._loop = loop
        self._count = count
        self._report = report
        self._sleeps = sleeps
        self._interval_s = 0.0
        self._samples: list[int] = []
        #: When the samples began.
        self._since = 0.0
        #: The latest report; None: the controller may know something else.
        self._reported: float | None = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def follow(self, interval_s: float) -> None:
        """Report at most once in this time (seconds); 0: never. A controller that was restarted gives
        the interval again, and the next report says what the lost ones said.
        """
        self._interval_s = interval_s
        if not interval_s:
            self.close()
            return
        if self._reported:
            self._reported = None
        if not self._sleeps or self._reported is None:
            self.wake()

    def wake(self) -> None:
        """There may be requests from now on."""
        if self._interval_s and self._timer is None:
            self._samples, self._since = [], self._loop.time()
            self._sample()

    def report_now(self) -> None:
        """Report what there is, unless something was reported: nothing serves the first request."""
        if self._interval_s and not self._reported and self._count():
            self._send(float(self._count()))
            self.wake()

    def stop(self) -> None:
        """Report that nothing is here, and nothing any more."""
        if self._reported != 0.0:
            self._send(0.0)
        self.close()

    def close(self) -> None:
        """Report nothing any more."""
        self._interval_s, self._reported = 0.0, 0.0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _sample(self) -> None:
        self._samples.append(self._count())
        if self._loop.time() - self._since >= self._interval_s:
            mean = sum(self._samples) / len(self._samples)
            self._samples, self._since = [], self._loop.time()
            if mean != self._reported:
                self._send(mean)
            if self._sleeps and not mean:
                self._timer = None
                return
        pause = min(_LONGEST_S, max(_SHORTEST_S, self._interval_s / _SAMPLES))
        self._timer = self._loop.call_later(pause, self._sample)

    def _send(self, mean: float) -> None:
        self._reported = mean
        self._report(mean)


class Reporter:
    """The way of a process's reports to the controller.

    Args:
        name: the deployment whose load it is.
        source: the process, perhaps with a slash and more behind it.
    """

    def __init__(self, name: DeploymentId, source: str) -> None:
        self._name = name
        self._source = source
        #: The controller's handle: to look it up takes a question to the control store, and blocks.
        self._controller: Any = None

    def running(self, count: float) -> None:
        """Report how many requests run in this process's replica."""
        self._send("report", self._source, count, 0.0)

    def queued(self, count: float) -> None:
        """Report how many requests wait in this process's router."""
        self._send("report", self._source, 0.0, count)

    def recorded(self, replica: str, values: Any) -> None:
        """Report what user code of a replica says of itself to autoscaling policies.

        Raises:
            TypeError: these are no numbers by name.
        """
        if not isinstance(values, Mapping) or not all(
            isinstance(name, str) and isinstance(value, int | float) for name, value in values.items()
        ):
            raise TypeError(f"it returned {values!r:.80} instead of a dict from names to numbers")
        self._send("record", replica, dict(values))

    def _send(self, method: str, *args: Any) -> None:
        try:
            if self._controller is None:
                self._controller = api.get_actor(CONTROLLER, namespace=NAMESPACE)
            # As a part of no request: it would be cancelled with that.
            report = contextvars.Context().run(getattr(self._controller, method).remote, self._name, *args)
            report.as_future().add_done_callback(self._sent)
        except (ValueError, RayError, RuntimeError):
            self._controller = None  # serve, or the session, has ended

    def _sent(self, future: asyncio.Future[Any]) -> None:
        if future.cancelled() or future.exception() is not None:
            self._controller = None  # the next controller asks again by its tables
