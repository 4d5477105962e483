"""Bodies of requests that wait for a replica, or go to another process: they are read to their end."""

from __future__ import annotations

import asyncio
from typing import Any

from skate.serve._http.limits import BodyBudget, content_length


class WaitingBody:
    """A request's body, which this process holds as long as it has the request.

    Args:
        budget: where its bytes count.

    Example:
        >>> with WaitingBody(budget) as body:
        ...     await body.read(scope, receive)
    """

    def __init__(self, budget: BodyBudget) -> None:
        self._budget = budget
        self._size = 0
        self.bytes = b""

    def __enter__(self) -> WaitingBody:
        return self

    def __exit__(self, *_: object) -> None:
        self._budget.give(self._size)

    async def read(self, scope: Any, receive: Any) -> None:
        """Read it.

        Raises:
            BodiesError: the process has no room for it.
            CancelledError: the client has gone.
        """
        # Before the first ``receive``, which has a client that asks first send its body.
        self._budget.check(content_length(scope["headers"]))
        parts = []
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise asyncio.CancelledError
            part = message["body"]
            self._budget.take(len(part))
            self._size += len(part)
            parts.append(part)
            more = message["more_body"]
        self.bytes = b"".join(parts)

    def replayed(self, receive: Any) -> Any:
        """Return a ``receive`` that gives it first."""
        is_read = False

        async def replayed() -> Any:
            nonlocal is_read
            if not is_read:
                is_read = True
                return {"type": "http.request", "body": self.bytes, "more_body": False}
            return await receive()

        replayed.__self__ = receive.__self__  # type: ignore[attr-defined]
        return replayed
