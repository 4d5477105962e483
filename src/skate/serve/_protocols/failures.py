"""Errors of requests as HTTP clients learn of them. Decisions only: no I/O, no clock."""

from __future__ import annotations

from skate.exceptions import RayTaskError
from skate.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    ReplicaUnavailableError,
    RequestTimeoutError,
)

#: An error of serve's own, and its status.
_STATUSES = ((RequestTimeoutError, 408), (DeploymentUnavailableError, 503), (ReplicaUnavailableError, 502))


def cause_of(raised: BaseException) -> BaseException:
    """Return the error that another process raised; one of this process as it is."""
    while isinstance(raised, RayTaskError):
        raised = raised.cause
    return raised


def status_of(error: BaseException) -> int | None:
    """Return the status for an error of serve's own; None: it is another."""
    if isinstance(error, BackPressureError):
        return error.status_code
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), None)
