"""Threads of tests: they wait for conditions, never for time."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from skate._transport.reactor import Reactor, Waiter

T = TypeVar("T")

#: Whoever waits this long hangs (seconds). It is no measure of speed: everything takes milliseconds.
HUNG = 5.0


class Hung(AssertionError):
    """Something that must happen did not."""


class Background(Generic[T]):
    """A function on a thread of its own."""

    def __init__(self, function: Callable[[], T], name: str = "") -> None:
        self._function = function
        self._outcome: list[tuple[T | None, BaseException | None]] = []
        self.thread = threading.Thread(target=self._run, daemon=True, name=name or "test")
        self.thread.start()

    def _run(self) -> None:
        try:
            self._outcome.append((self._function(), None))
        except BaseException as error:
            self._outcome.append((None, error))

    def result(self) -> T:
        """Return what the function returned, or raise what it raised."""
        self.thread.join(HUNG)
        if not self._outcome:
            raise Hung(f"thread {self.thread.name} does not end")
        value, error = self._outcome[0]
        if error is not None:
            raise error
        return value  # type: ignore[return-value]

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return not self._outcome


def meet(event: threading.Event | threading.Semaphore, what: str) -> None:
    """Wait for an event."""
    done = event.wait(HUNG) if isinstance(event, threading.Event) else event.acquire(timeout=HUNG)
    if not done:
        raise Hung(what)


class Followers(deque[Waiter]):
    """Takes the place of a reactor's followers; tells when one comes."""

    def __init__(self) -> None:
        super().__init__()
        self.came = threading.Semaphore(0)

    def append(self, waiter: Waiter) -> None:
        super().append(waiter)
        self.came.release()


class Poll:
    """Takes the place of a reactor's epoll; tells when a thread begins to poll."""

    def __init__(self, real: Any) -> None:
        self._real = real
        self.began = threading.Semaphore(0)
        #: Names of the threads that polled.
        self.by: list[str] = []
        self.on_close: Callable[[], None] = lambda: None

    def close(self) -> None:
        self._real.close()
        self.on_close()

    def poll(self, timeout: float | None = None) -> Any:
        self.by.append(threading.current_thread().name)
        self.began.release()
        return self._real.poll(timeout)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


class Probe:
    """A reactor whose comings and goings can be waited for."""

    def __init__(self) -> None:
        self.reactor = Reactor("test")
        self.followers = Followers()
        self.reactor._followers = self.followers
        self.poll = Poll(self.reactor._epoll)
        self.reactor._epoll = self.poll  # type: ignore[assignment]

    def lead(self, waiter: Waiter, deadline: float | None = None) -> Background[bool]:
        """Start a thread that waits; return when it leads."""
        while self.poll.began.acquire(blocking=False):
            pass
        thread = Background(lambda: self.reactor.wait(waiter, deadline), "leader")
        meet(self.poll.began, "nobody came to lead")
        return thread

    def follow(self, waiter: Waiter, deadline: float | None = None) -> Background[bool]:
        """Start a thread that waits; return when it follows. Somebody must lead."""
        thread = Background(lambda: self.reactor.wait(waiter, deadline), "follower")
        meet(self.followers.came, "nobody came to follow")
        return thread


class HookedWaiter(Waiter):
    """Calls a hook when it is asked whether it is done: what other threads do just then."""

    def __init__(self, hook: Callable[[HookedWaiter, int], None]) -> None:
        self._hook = hook
        self._asked = -1
        self._done = False
        super().__init__()
        self._asked = 0

    @property
    def done(self) -> bool:  # type: ignore[override]
        if self._asked >= 0:
            self._asked += 1
            before = self._done
            self._hook(self, self._asked)
            return before
        return self._done

    @done.setter
    def done(self, value: bool) -> None:
        self._done = value
