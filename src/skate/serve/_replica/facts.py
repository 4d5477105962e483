"""Reports of a replica to those that choose among replicas: its models, and what user code says of it."""

from __future__ import annotations

import asyncio
import contextvars
import json
import logging
from collections.abc import Mapping
from typing import Any

from skate import api
from skate.exceptions import RayError
from skate.serve._messages import Facts
from skate.serve._observing import models
from skate.serve._replica.user_code import UserCode
from skate.serve._targets import CONTROLLER, NAMESPACE, DeploymentId
from skate.serve.config import RequestRouterConfig

logger = logging.getLogger("skate.serve")

#: Reports are at least so far apart (seconds): models may come and go fast.
_APART_S = 0.05
#: A controller that was restarted knows nothing: it gets all again after this time at most (seconds).
_AGAIN_S = 5.0


class Reports:
    """Tells the controller what is worth knowing of this replica, whenever that changes. On the loop.

    Args:
        name: the deployment.
        replica: its id.
        code: the user's.
        loop: where it is used.
    """

    def __init__(
        self, name: DeploymentId, replica: str, code: UserCode, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._name = name
        self._replica = replica
        self._code = code
        self._loop = loop
        self._stats: dict[str, Any] = {}
        self._stats_task: asyncio.Task[None] | None = None
        self._routing = RequestRouterConfig()
        #: Why the last statistics were of no use.
        self._failure = ""
        self._controller: Any = None
        self._sent_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        models.this.changed = self._changed

    def follow(self, routing: RequestRouterConfig | None) -> None:
        """Ask user code for statistics as often as these options say, if it has some."""
        self._routing = routing or RequestRouterConfig()
        if self._stats_task is not None:
            self._stats_task.cancel()
            self._stats_task = None
        if self._code.has_routing_stats:
            self._stats_task = contextvars.Context().run(self._loop.create_task, self._ask())

    def close(self) -> None:
        """Report nothing any more."""
        models.this.changed = None
        if self._stats_task is not None:
            self._stats_task.cancel()
        if self._timer is not None:
            self._timer.cancel()

    # ------------------------------------------------------------------ statistics

    async def _ask(self) -> None:
        while True:
            failure = ""
            try:
                found = await asyncio.wait_for(
                    self._code.routing_stats(), self._routing.request_routing_stats_timeout_s
                )
                if not isinstance(found, Mapping):
                    raise TypeError(f"it returned {found!r:.80} instead of a dict")
                json.dumps(found)
            except Exception as error:
                failure = f"{type(error).__name__}: {error}"
                if failure != self._failure:
                    logger.error(
                        "record_routing_stats of replica %s failed, its statistics stay as they were: %s",
                        self._replica,
                        failure,
                    )
            else:
                self._stats = dict(found)
                self._changed()
            self._failure = failure
            await asyncio.sleep(self._routing.request_routing_stats_period_s)

    # ------------------------------------------------------------------ reports

    def _changed(self) -> None:
        if self._timer is None:
            wait = max(0.0, self._sent_at + _APART_S - self._loop.time())
            # As a part of no request: the report would be cancelled with that.
            self._timer = contextvars.Context().run(self._loop.call_later, wait, self._report)

    def _report(self) -> None:
        self._timer = None
        facts = Facts(models.this.loaded, models.this.loading, self._stats, models.this.load_s)
        self._sent_at = self._loop.time()
        try:
            if self._controller is None:
                self._controller = api.get_actor(CONTROLLER, namespace=NAMESPACE)
            noted = self._controller.note.remote(self._name, self._replica, facts)
            noted.as_future().add_done_callback(self._noted)
        except (ValueError, RayError, RuntimeError):
            self._controller = None  # there is none at the moment
        self._loop.call_later(_AGAIN_S, self._refresh, self._sent_at)

    def _noted(self, future: asyncio.Future[Any]) -> None:
        if future.cancelled() or future.exception() is not None:
            self._controller = None

    def _refresh(self, sent_at: float) -> None:
        """Say the same again, unless something else was said since."""
        if sent_at == self._sent_at and models.this.changed is not None:
            self._changed()
