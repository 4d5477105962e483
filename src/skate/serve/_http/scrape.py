"""Answers a scrape of Prometheus, for all processes of serve."""

from __future__ import annotations

import asyncio

from skate.exceptions import RayError
from skate.serve._client.client import controller
from skate.serve._http.responses import TEXT
from skate.serve._observing.page import CONTENT_TYPE
from skate.serve.exceptions import RayServeException

#: How long the controller may take to ask all processes (seconds).
_LONGEST_S = 5.0


async def page() -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Return status, headers and body.

    The controller keeps the counters of processes that have ended. Without it there is no page: one without
    them
    would make counters go back, and rates jump.
    """
    try:
        body = await asyncio.wait_for(controller().metrics.remote().as_future(), _LONGEST_S)
    except (RayError, RayServeException, RuntimeError, asyncio.TimeoutError) as error:
        reason = str(error) or f"it did not answer within {_LONGEST_S:g} s"
        text = f"No metrics: the controller, which adds them up, is not there now: {reason}"
        return 503, [(b"content-type", TEXT)], text.encode()
    return 200, [(b"content-type", CONTENT_TYPE)], body
