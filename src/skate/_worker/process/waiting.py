"""Threads of this process that wait for objects, and how they wait."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from skate._base.clock import monotonic
from skate._base.kinds import ERROR
from skate._transport.connection import Connection
from skate._transport.reactor import Waiter
from skate._wire import node
from skate._worker.process import current
from skate._worker.process.context import ProcessContext
from skate._worker.process.daemon_link import DaemonLink

#: The daemon looks for a deadlock when a wait lasts longer than this (seconds).
_LONG_WAIT_S = 1.0


class CountWaiter(Waiter):
    """Waits for a number of entries, or (``on_error``) for the first that is an error."""

    __slots__ = ("missing", "on_error", "entries", "deadline", "number", "call", "began", "error")

    def __init__(
        self, missing: int, on_error: bool, entries: Sequence[Any], deadline: float | None, number: int
    ) -> None:
        self.done = False
        self.gate = self.leads = None
        self.missing = missing
        self.on_error = on_error
        #: The entries that it waits for: shown by ``reporting.waits``.
        self.entries = entries
        self.deadline = deadline
        self.number = number
        self.thread = threading.get_ident()
        self.call = current.call.get()
        self.began = monotonic()
        #: The text of the error to raise, if it can never end.
        self.error = ""

    def one_ready(self, kind: int) -> None:
        """Count an entry that got its value, of this kind."""
        self.missing -= 1
        if self.missing <= 0 or (kind == ERROR and self.on_error):
            self.notify()


class Waiting:
    """The waits of this process's threads for objects. The table changes by single steps, without lock."""

    def __init__(self, context: ProcessContext, daemon: DaemonLink) -> None:
        self._context = context
        self._daemon = daemon
        #: In the order in which they began.
        self.waits: dict[CountWaiter, None] = {}
        self._last = 0
        #: Blocks the calling thread until its waiter is done, or the deadline (monotonic) has passed; tells
        #: which. A worker releases its CPUs meanwhile, in-process mode looks for deadlocks: set by Core.
        self.block: Callable[[Waiter, float | None], bool] = context.reactor.wait

    def begin(
        self, missing: int, on_error: bool, entries: Sequence[Any], deadline: float | None
    ) -> CountWaiter:
        """Return the waiter of the calling thread. Pass it to ``end`` afterwards."""
        self._last += 1
        waiter = CountWaiter(missing, on_error, entries, deadline, self._last)
        self.waits[waiter] = None
        return waiter

    def end(self, waiter: CountWaiter) -> None:
        """Forget a wait."""
        self.waits.pop(waiter, None)

    def block_watched(self, waiter: Waiter, deadline: float | None) -> bool:
        """Block like ``block``; after a while have the daemon find out whether the wait can ever end."""
        reactor = self._context.reactor
        if deadline is not None or reactor.wait(waiter, monotonic() + _LONG_WAIT_S):
            return reactor.wait(waiter, deadline)
        with self._context.locked:
            self._daemon.send(node.Waiting(True))
            reactor.flush()
        try:
            return reactor.wait(waiter, None)
        finally:
            with self._context.locked:
                self._daemon.send(node.Waiting(False))

    def deadlocked(self, connection: Connection, message: node.Deadlocked) -> None:
        """End the wait that the daemon found to be part of a deadlock. Under the lock."""
        for waiter in self.waits:
            if waiter.number == message.number and not waiter.done:
                waiter.error = message.text
                waiter.notify()

    def end_all(self) -> None:
        """Wake every thread that waits. Under the lock."""
        for waiter in list(self.waits):
            waiter.notify()

    def is_waiting(self, thread: int | None) -> bool:
        """Tell whether a thread waits for objects."""
        return any(one.thread == thread for one in list(self.waits))
