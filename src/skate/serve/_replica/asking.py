"""Asks user code of a replica for what others should know of it, again and again."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable
from typing import Any

from skate.serve._replica.user_code import UserCode

logger = logging.getLogger("skate.serve")


class Asking:
    """Calls a method of the user's class, if it has that. On the loop.

    Args:
        method: its name.
        consequence: of a failure, for messages.
        replica: its id, for messages.
        code: the user's.
        loop: where it is used.
        take: called with what was returned; raises if that is of no use.
    """

    def __init__(
        self,
        method: str,
        consequence: str,
        replica: str,
        code: UserCode,
        loop: asyncio.AbstractEventLoop,
        take: Callable[[Any], None],
    ) -> None:
        self._method = method
        self._consequence = consequence
        self._replica = replica
        self._code = code
        self._loop = loop
        self._take = take
        self._task: asyncio.Task[None] | None = None
        #: Why the latest answer was of no use.
        self._failure = ""

    def follow(self, period_s: float, timeout_s: float) -> None:
        """Ask once in each period, from now on.

        Args:
            period_s: seconds from an answer to the next question; 0: never ask.
            timeout_s: how long user code may take (seconds).
        """
        self.close()
        if period_s and self._code.has(self._method):
            # As a part of no request: it would be cancelled with that.
            self._task = contextvars.Context().run(self._loop.create_task, self._ask(period_s, timeout_s))

    def close(self) -> None:
        """Ask no more."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _ask(self, period_s: float, timeout_s: float) -> None:
        while True:
            failure = ""
            try:
                self._take(await asyncio.wait_for(self._code.ask(self._method), timeout_s))
            except asyncio.TimeoutError:
                failure = f"it took longer than {timeout_s:g} s"
            except Exception as error:
                failure = f"{type(error).__name__}: {error}"
            if failure and failure != self._failure:
                logger.error(
                    "%s of replica %s failed, %s: %s", self._method, self._replica, self._consequence, failure
                )
            self._failure = failure
            await asyncio.sleep(period_s)
