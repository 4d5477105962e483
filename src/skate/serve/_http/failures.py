"""The answers to requests that failed."""

from __future__ import annotations

import logging
import math

from skate.exceptions import RayTaskError
from skate.serve._client.call import is_death
from skate.serve._messages import Route
from skate.serve._protocols.failures import cause_of
from skate.serve.context import RequestContext
from skate.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    ReplicaUnavailableError,
    RequestTimeoutError,
)

logger = logging.getLogger("skate.serve")


def answer_to(
    raised: Exception, context: RequestContext, route: Route
) -> tuple[int, str, tuple[tuple[bytes, bytes], ...]]:
    """Return the status, the text and further headers of the answer to a request that failed, and log what
    user code raised.

    Args:
        raised: why it failed.
        context, route: of the request.
    """
    # The text of an error of another process is a traceback, which is no business of the client's.
    error = cause_of(raised)
    if isinstance(error, BackPressureError):
        after = error.retry_after_s
        extra = ((b"retry-after", b"%d" % math.ceil(after)),) if after is not None else ()
        return error.status_code, str(error), extra
    if isinstance(error, DeploymentUnavailableError):
        return 503, str(error), ()
    if isinstance(error, RequestTimeoutError):
        return 408, str(error), ()
    if isinstance(error, ReplicaUnavailableError) or is_death(raised):
        return 502, f"{error} Request {context.request_id}.", ()
    if not isinstance(raised, RayTaskError):  # else the replica that ran it has written it already
        logger.error("request %s of %s failed", context.request_id, route.app_name, exc_info=raised)
    return 500, "Internal Server Error", ()
