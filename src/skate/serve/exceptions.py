"""Errors of requests and deployments. Each error says what happened, to which, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skate.exceptions import TaskCancelledError

if TYPE_CHECKING:
    import grpc

__all__ = [
    "AddressUnavailableError",
    "BackPressureError",
    "DeploymentUnavailableError",
    "RayServeException",
    "ReplicaUnavailableError",
    "RequestCancelledError",
    "RequestTimeoutError",
    "WaitTooLongError",
    "gRPCStatusError",
]


class RayServeException(Exception):
    """The base of serve's own errors."""


class AddressUnavailableError(RayServeException, RuntimeError):
    """Serve cannot listen where it should: the port is in use, or the address is not this machine's."""


class BackPressureError(RayServeException):
    """A request was refused: as many wait already as ``max_queued_requests`` allows.

    Args:
        num_queued_requests: how many wait in the caller's process.
        max_queued_requests: the limit.
        status_code: that HTTP clients get.
        retry_after_s: how long HTTP clients are asked to wait (seconds): as configured, else as predicted; or
            None.
    """

    def __init__(
        self,
        num_queued_requests: int,
        max_queued_requests: int,
        status_code: int = 503,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(num_queued_requests, max_queued_requests, status_code, retry_after_s)
        self._status_code = status_code
        self._retry_after_s = retry_after_s
        self._message = (
            f"Request dropped due to backpressure (num_queued_requests={num_queued_requests}, "
            f"max_queued_requests={max_queued_requests})."
        )

    @property
    def message(self) -> str:
        """The text."""
        return self._message

    @property
    def status_code(self) -> int:
        """The status that HTTP clients get."""
        return self._status_code

    @property
    def retry_after_s(self) -> float | None:
        """How long HTTP clients are asked to wait (seconds); None: nothing is said."""
        return self._retry_after_s

    def __str__(self) -> str:
        return self._message


class WaitTooLongError(BackPressureError):
    """A request was refused at once: as many wait before it that its deadline would pass.

    Args:
        request_id: of the request.
        deployment_id: names the deployment.
        num_queued_requests: how many wait in the caller's process.
        wait_s: about how long it would wait (seconds).
        remaining_s: until its deadline (seconds).
        status_code: that HTTP clients get.
    """

    def __init__(
        self,
        request_id: str,
        deployment_id: object,
        num_queued_requests: int,
        wait_s: float,
        remaining_s: float,
        status_code: int = 503,
    ) -> None:
        super().__init__(num_queued_requests, -1, status_code, wait_s)
        self.args = (request_id, deployment_id, num_queued_requests, wait_s, remaining_s, status_code)
        self._message = (
            f"Request {request_id} was refused: it would wait for about {wait_s:.3g} s behind "
            f"{num_queued_requests} others of {deployment_id}, and its deadline is in {remaining_s:.3g} s. "
            "It never ran. Send it again after the wait, or give it more time."
        )


class gRPCStatusError(RayServeException):
    """User code raised after it had set a status code on its ``grpc_context``: the RPC ends with that.

    Args:
        original_exception: the one that was raised.
        code: the status code; None: none was set.
        details: the text beside it; None: that of the exception.
    """

    def __init__(
        self,
        original_exception: BaseException,
        code: grpc.StatusCode | None = None,
        details: str | None = None,
    ) -> None:
        super().__init__(original_exception, code, details)
        self._original_exception = original_exception
        self._code = code
        self._details = details

    @property
    def original_exception(self) -> BaseException:
        """The exception that was raised."""
        return self._original_exception

    @property
    def grpc_code(self) -> grpc.StatusCode | None:
        """The status code that was set, or None."""
        return self._code

    @property
    def grpc_details(self) -> str | None:
        """The details that were set, or None."""
        return self._details

    def __str__(self) -> str:
        return str(self._original_exception)


class RequestCancelledError(RayServeException, TaskCancelledError):
    """A request was cancelled.

    Args:
        request_id: of the request, as in logs and the header ``x-request-id``.
    """

    def __init__(self, request_id: str | None = None) -> None:
        text = f"Request {request_id} was cancelled." if request_id else "The request was cancelled."
        TaskCancelledError.__init__(self, None, text)
        self.args = (request_id,)
        self.request_id = request_id
        self._text = text

    def __str__(self) -> str:
        return self._text


class RequestTimeoutError(RayServeException, TimeoutError):
    """A request waited until there was no time left to answer it before its deadline: it never ran.

    Args:
        request_id: of the request.
    """

    def __init__(self, request_id: str) -> None:
        super().__init__(request_id)
        self.request_id = request_id

    def __str__(self) -> str:
        return (
            f"Request {self.request_id} timed out: no replica was free in time for its deadline. "
            "It never ran."
        )


class DeploymentUnavailableError(RayServeException):
    """A deployment has no replicas, and will have none: it was deleted, or does not start.

    Args:
        deployment_id: names the deployment.
        reason: why, if it is known.
    """

    def __init__(self, deployment_id: object, reason: str = "it does not exist (any more)") -> None:
        super().__init__(deployment_id, reason)
        self._deployment_id = deployment_id
        self._reason = reason

    @property
    def message(self) -> str:
        """The text."""
        return f"{self._deployment_id} is unavailable because {self._reason}."

    def __str__(self) -> str:
        return self.message


class ReplicaUnavailableError(RayServeException):
    """The replica that had a request ended while it ran: it may have run in part.

    Args:
        replica_id: the replica.
        reason: how it ended.
    """

    def __init__(self, replica_id: object, reason: str = "") -> None:
        super().__init__(replica_id, reason)
        self._replica_id = replica_id
        self._reason = reason

    @property
    def message(self) -> str:
        """The text."""
        return (
            f"Replica {self._replica_id} ended while it had this request, which may have run in part"
            f"{': ' + self._reason if self._reason else ''}. Send it again if that does no harm."
        )

    def __str__(self) -> str:
        return self.message
