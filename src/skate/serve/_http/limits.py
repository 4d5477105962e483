"""Limits on what a client sends, and on the time it takes. Decisions only: no I/O, no clock."""

from __future__ import annotations

import enum
from collections.abc import Iterable

from skate.serve._targets import HTTPTarget
from skate.serve.exceptions import BackPressureError

#: The longest request line and headers together (bytes).
MAX_HEAD_BYTES = 64 * 1024
#: A refused client may send for this time until its connection is closed: a close before that would
#: discard the answer before the client has it (seconds).
_LINGER_S = 2.0


class Stage(enum.Enum):
    """The event that a connection waits for."""

    #: The client's next request.
    IDLE = enum.auto()
    #: The rest of a request's head.
    HEAD = enum.auto()
    #: More of a request's body.
    BODY = enum.auto()
    #: The client takes an answer, or a handler makes one.
    ANSWER = enum.auto()
    #: The client sees that it was refused, and closes.
    REFUSED = enum.auto()


def time_limit(stage: Stage, options: HTTPTarget) -> float | None:
    """Return how long a connection may stay in a stage without progress (seconds); None: for ever.

    The head must be complete within its limit; a body must bring some bytes, whatever their number.

    Example:
        >>> time_limit(Stage.HEAD, HTTPTarget())
        10.0
    """
    if stage is Stage.IDLE:
        return options.keep_alive_timeout_s
    if stage is Stage.HEAD:
        return options.header_timeout_s
    if stage is Stage.BODY:
        return options.body_timeout_s
    return _LINGER_S if stage is Stage.REFUSED else None


def head_bytes(url: bytes, headers: Iterable[tuple[bytes, bytes]]) -> int:
    """Return about how many bytes a request's head has."""
    return len(url) + sum(len(name) + len(value) + 4 for name, value in headers)


def content_length(headers: Iterable[tuple[bytes, bytes]]) -> int:
    """Return the size of a body that its headers announce; 0: none, or it is sent in chunks."""
    for name, value in headers:
        if name == b"content-length":
            return int(value) if value.isdigit() else 0
    return 0


class BodiesError(BackPressureError):
    """A request was refused: the bodies of those that wait in this process hold too much memory.

    Args:
        size: of its body, as far as it is known (bytes).
        held: by the bodies that wait (bytes).
        limit: of both (bytes).
    """

    def __init__(self, size: int, held: int, limit: int) -> None:
        super().__init__(0, 0)
        self.args = (size, held, limit)
        self._message = (
            f"Request dropped: its body of {size} bytes has no room beside the {held} bytes of other "
            f"requests that wait for a replica in this process (max_queued_body_bytes={limit})."
        )


class BodyBudget:
    """The memory for bodies of requests that wait in this process.

    Args:
        limit: bytes.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0

    def take(self, size: int) -> None:
        """Count some bytes.

        Raises:
            BodiesError: there is no room for them.
        """
        self.check(size)
        self.held += size

    def check(self, size: int) -> None:
        """Raise BodiesError if there is no room for so many bytes."""
        if self.held + size > self.limit:
            raise BodiesError(size, self.held, self.limit)

    def give(self, size: int) -> None:
        """Count bytes no more."""
        self.held -= size
