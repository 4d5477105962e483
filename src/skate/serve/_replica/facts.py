"""Reports of a replica to those that choose among replicas: its models, and what user code says of it."""

from __future__ import annotations

import asyncio
import contextvars
import json
from collections.abc import Mapping
from typing import Any

from skate import api
from skate.exceptions import RayError
from skate.serve._messages import Facts
from skate.serve._observing import models
from skate.serve._replica.asking import Asking
from skate.serve._replica.user_code import UserCode
from skate.serve._targets import CONTROLLER, NAMESPACE, DeploymentId
from skate.serve.config import RequestRouterConfig

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
        self._loop = loop
        self._stats: dict[str, Any] = {}
        self._asking = Asking(
            "record_routing_stats", "its statistics stay as they were", replica, code, loop, self._take
        )
        self._controller: Any = None
        self._sent_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        models.this.changed = self._changed

    def follow(self, routing: RequestRouterConfig | None) -> None:
        """Ask user code for statistics as often as these options say, if it has some."""
        options = routing or RequestRouterConfig()
        self._asking.follow(options.request_routing_stats_period_s, options.request_routing_stats_timeout_s)

    def close(self) -> None:
        """Report nothing any more."""
        models.this.changed = None
        self._asking.close()
        if self._timer is not None:
            self._timer.cancel()

    def _take(self, found: Any) -> None:
        """Take what user code said."""
        if not isinstance(found, Mapping):
            raise TypeError(f"it returned {found!r:.80} instead of a dict")
        json.dumps(found)
        self._stats = dict(found)
        self._changed()

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
