"""Numbered requests to another process, and the threads that wait for the answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from skate._transport.reactor import Reactor, Waiter


class Request(Waiter):
    """One request, until it is answered."""

    __slots__ = ("number", "message", "answer", "posted")

    def __init__(self, number: int, message: Any) -> None:
        super().__init__()
        self.number = number
        self.message = message
        #: None: there is none yet, or there will be none.
        self.answer: Any = None
        #: No thread waits for the answer.
        self.posted = False


class Requests:
    """The requests of one link that have no answer. Under the lock, unless a method says otherwise.

    Args:
        reactor: of this process.
        locked: holds its lock, for a thread that waited.
    """

    def __init__(self, reactor: Reactor, locked: AbstractContextManager[Any]) -> None:
        self._reactor = reactor
        self._locked = locked
        self._unanswered: dict[int, Request] = {}
        self._last = 0

    def add(self, make: Callable[[int], Any]) -> Request:
        """Number a request, which ``make`` returns as a message."""
        self._last += 1
        request = self._unanswered[self._last] = Request(self._last, make(self._last))
        return request

    def answered(self, answer: Any) -> bool:
        """End the wait for an answer that arrived; tell whether one was still expected."""
        request = self._unanswered.pop(answer.request, None)
        if request is None:
            return False
        request.answer = answer
        request.notify()
        return True

    def __iter__(self) -> Iterator[Request]:
        return iter(self._unanswered.values())

    def end_waits(self, *, forget_posted: bool = True) -> None:
        """End the waits, as there will be no answers; or those waits only that a thread is in."""
        for number, request in list(self._unanswered.items()):
            if forget_posted or not request.posted:
                del self._unanswered[number]
                request.notify()

    def wait(
        self,
        request: Request,
        deadline: float | None = None,
        unclaimed: Callable[[Any], None] | None = None,
    ) -> Any:
        """Wait for the answer and return it; None if there is none. Not under the lock.

        Args:
            request: a request that was sent.
            deadline: when to give up (monotonic seconds); None: never.
            unclaimed: called under the lock with an answer that came although the wait was interrupted.
        """
        try:
            self._reactor.wait(request, deadline)
        except BaseException:
            with self._locked:
                self._unanswered.pop(request.number, None)
                if request.answer is not None and unclaimed is not None:
                    unclaimed(request.answer)
            raise
        if not request.done:
            with self._locked:
                self._unanswered.pop(request.number, None)
        return request.answer
