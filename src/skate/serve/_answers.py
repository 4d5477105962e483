"""How the requests of a replica or a version ended, and whether a version does worse. Decisions only: no I/O,
no clock."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from types import TracebackType

#: A version is judged once it has answered so many requests.
_ENOUGH = 20
#: It does worse if its share of failures exceeds this many times that of the other version, and by this much.
_TIMES, _MORE = 2.0, 0.05
#: How much of a failure is kept for the status (characters).
_LONGEST = 2000


@dataclass
class Answers:
    """Requests of one replica, or of one version, that have ended.

    Args:
        requests: how many.
        failures: those of them that raised, or were answered with status 5xx.
        latest: what the latest failure says.
    """

    requests: int = 0
    failures: int = 0
    latest: str = ""

    def answered(self, status: int) -> None:
        """A request was answered.

        Args:
            status: by HTTP; calls of handles have 200.
        """
        self.requests += 1
        if status >= 500:
            self.failures += 1
            self.latest = f"the handler answered with status {status}"

    def failed(self, error: BaseException, trace: TracebackType | None = None) -> None:
        """User code raised.

        Args:
            error: what it raised.
            trace: the part of the traceback that is the user's; None: all of it is kept.
        """
        self.requests += 1
        self.failures += 1
        self.latest = "".join(traceback.format_exception(type(error), error, trace or error.__traceback__))[
            -_LONGEST:
        ]

    @property
    def share(self) -> float:
        """The failures among the requests, from 0 to 1."""
        return self.failures / self.requests if self.requests else 0.0

    def __add__(self, other: Answers) -> Answers:
        return Answers(
            self.requests + other.requests, self.failures + other.failures, other.latest or self.latest
        )

    def __str__(self) -> str:
        return f"{self.failures} of {self.requests}"


def is_worse(new: Answers, old: Answers) -> bool:
    """Tell whether a version fails more than the one before: after enough requests, and by far."""
    before = old.share if old.requests >= _ENOUGH else 0.0
    return new.requests >= _ENOUGH and new.share > max(_TIMES * before, before + _MORE)
