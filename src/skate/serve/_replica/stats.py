"""Asks user code of a replica for what autoscaling policies should know of it."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable, Mapping
from typing import Any

from skate.serve._replica.user_code import UserCode
from skate.serve.config import AutoscalingConfig

logger = logging.getLogger("skate.serve")

#: How long user code may take (seconds); Ray's default.
_TIMEOUT_S = 10.0


class AutoscalingStats:
    """Calls ``record_autoscaling_stats`` of the user's class, if it has that. On the loop.

    Args:
        replica: its id, for messages.
        code: the user's.
        loop: where it is used.
        report: called with what was returned: numbers by name.
    """

    def __init__(
        self,
        replica: str,
        code: UserCode,
        loop: asyncio.AbstractEventLoop,
        report: Callable[[Mapping[str, float]], None],
    ) -> None:
        self._replica = replica
        self._code = code
        self._loop = loop
        self._report = report
        self._task: asyncio.Task[None] | None = None
        self._interval_s = 0.0
        #: Why the latest answer was of no use.
        self._failure = ""

    def follow(self, config: AutoscalingConfig | None) -> None:
        """Ask once in each of these options' intervals; None: never."""
        self._interval_s = config.metrics_interval_s if config is not None else 0.0
        self.close()
        if self._interval_s and self._code.has_autoscaling_stats:
            # As a part of no request: it would be cancelled with that.
            self._task = contextvars.Context().run(self._loop.create_task, self._ask())

    def close(self) -> None:
        """Ask no more."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _ask(self) -> None:
        while True:
            failure = ""
            try:
                found = await asyncio.wait_for(self._code.autoscaling_stats(), _TIMEOUT_S)
                _check(found)
                self._report(found)
            except asyncio.TimeoutError:
                failure = f"it took longer than {_TIMEOUT_S:g} s"
            except Exception as error:
                failure = f"{type(error).__name__}: {error}"
            if failure and failure != self._failure:
                logger.error(
                    "record_autoscaling_stats of replica %s failed, policies get no value of it: %s",
                    self._replica,
                    failure,
                )
            self._failure = failure
            await asyncio.sleep(self._interval_s)


def _check(found: Any) -> None:
    if not isinstance(found, Mapping) or not all(
        isinstance(name, str) and isinstance(value, int | float) for name, value in found.items()
    ):
        raise TypeError(f"it returned {found!r:.80} instead of a dict from names to numbers")
