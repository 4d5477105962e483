"""Draws which requests go to a canary. Decisions only."""

from __future__ import annotations

import zlib


def is_drawn(request_id: str, percent: float) -> bool:
    """Tell whether a request goes to the canary.

    The request's id decides, which its calls of handles inherit: all deployments of an application draw
    alike.

    Args:
        request_id: the request.
        percent: the share of the requests that are drawn.
    """
    return zlib.crc32(request_id.encode()) % 10_000 < 100 * percent
