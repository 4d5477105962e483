"""The response of ``DeploymentHandle.broadcast``."""

from __future__ import annotations

import asyncio
from typing import Any


class DeploymentBroadcastResponse:
    """The results of a call of every replica, which may still be under way.

    Example:
        >>> handle.broadcast("reset_cache").results()
        [None, None]
    """

    def __init__(self, response: Any) -> None:
        #: A DeploymentResponse of a list: each replica's result or exception.
        self._response = response

    @property
    def request_id(self) -> str:
        """The request's id, which is the same at every replica."""
        return str(self._response.request_id)

    def cancel(self) -> None:
        """Cancel the call wherever it has not ended."""
        self._response.cancel()

    def results(self, *, timeout_s: float | None = None, return_exceptions: bool = False) -> list[Any]:
        """Return the results of all replicas, in no particular order; wait until every replica has ended.

        Args:
            timeout_s: seconds to wait for all of them together; None: for ever.
            return_exceptions: an exception stands in the list like a result.

        Raises:
            ValueError: the time is negative.
            TimeoutError: the time is up. The calls go on.
            DeploymentUnavailableError: no replica of the deployment runs.
            Exception: the first that a replica raised, once all have ended; a ReplicaUnavailableError where
                one died.
            RuntimeError: called on an event loop.
        """
        _check(timeout_s)
        return _chosen(self._response.result(timeout_s=timeout_s), return_exceptions)

    async def results_async(
        self, *, timeout_s: float | None = None, return_exceptions: bool = False
    ) -> list[Any]:
        """Return what ``results`` returns, on an event loop. When the time is up the calls are cancelled.

        Args:
            timeout_s, return_exceptions: see ``results``.

        Raises:
            Exception: see ``results``.

        Example:
            >>> await self.model.broadcast("load", "v2").results_async(timeout_s=30)
            ['loaded', 'loaded']
        """
        _check(timeout_s)
        try:
            outcomes = await asyncio.wait_for(self._response, timeout_s)
        except asyncio.TimeoutError:
            raise TimeoutError(
                f"not all replicas answered broadcast {self.request_id} within {timeout_s} s"
            ) from None
        return _chosen(outcomes, return_exceptions)

    def __repr__(self) -> str:
        return "DeploymentBroadcastResponse()"


def _check(timeout_s: float | None) -> None:
    if timeout_s is not None and timeout_s < 0:
        raise ValueError(f"timeout_s must be None or >= 0 seconds, got {timeout_s!r}")


def _chosen(outcomes: list[Any], return_exceptions: bool) -> list[Any]:
    """Return the outcomes, or raise the first exception among them."""
    if not return_exceptions:
        for one in outcomes:
            if isinstance(one, BaseException):
                raise one
    return outcomes
