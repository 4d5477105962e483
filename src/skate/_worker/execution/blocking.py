"""Says what becomes of queued tasks while the main thread of a worker waits or computes.

A task that waits releases its CPUs: another one runs meanwhile.
"""

from __future__ import annotations

from skate._base.clock import monotonic
from skate._transport.reactor import TICK_S, Timer, Waiter, in_main_thread
from skate._wire import node
from skate._worker.execution.runner import Invoker
from skate._worker.process.context import ProcessContext
from skate._worker.process.daemon_link import DaemonLink
from skate._worker.process.waiting import Waiting


class Blocking:
    """The waits of the calls that run in this worker."""

    def __init__(
        self, context: ProcessContext, daemon: DaemonLink, waiting: Waiting, invoker: Invoker
    ) -> None:
        self._context = context
        self._daemon = daemon
        self._waiting = waiting
        self._invoker = invoker
        #: The main thread waits and has released its CPUs: no call can begin here.
        self.cpus_released = False
        self._next_look: Timer | None = None

    def look_at_main_thread(self, pause: float = TICK_S) -> None:
        """Return tasks that are queued while the background thread leads. Under the lock.

        The main thread may still be on its way to its call, and may go on to the next one without a wait: so
        this looks again, after twice the time each time.
        """
        if self._next_look is not None:
            self._next_look.cancel()
            self._next_look = None
        reactor = self._context.reactor
        if self._invoker.host is None and reactor.is_led_in_background:
            self._invoker.return_queued_tasks()
            self._next_look = reactor.call_later(pause, lambda: self.look_at_main_thread(2 * pause))

    def block(self, waiter: Waiter, deadline: float | None) -> bool:
        """Block the calling thread in a wait for objects: see ``Waiting.block``."""
        if self.releases_cpus:
            return self._block_releasing_cpus(waiter, deadline)
        if self._invoker.runner is not None:
            self._invoker.runner.about_to_wait()
        return self._waiting.block_watched(waiter, deadline)

    @property
    def releases_cpus(self) -> bool:
        """Whether the calling thread runs a task, which releases its CPUs when it blocks."""
        # They may be released already: a signal's handler, or a finalizer, waits inside the wait.
        invoker = self._invoker
        return (
            invoker.host is None
            and not self.cpus_released
            and invoker.running_call is not None
            and in_main_thread()
        )

    def _block_releasing_cpus(self, waiter: Waiter, deadline: float | None) -> bool:
        """Wait; after a moment return queued tasks and release the CPUs."""
        reactor, locked = self._context.reactor, self._context.locked
        soon = monotonic() + self._context.config.lend_after_ms / 1000
        if deadline is not None and deadline <= soon:
            return reactor.wait(waiter, deadline)
        if reactor.wait(waiter, soon):
            return True
        with locked:
            self.cpus_released = True
            self._invoker.return_queued_tasks()
            self._daemon.send(node.Blocked(True))
            reactor.flush()
        try:
            return self._waiting.block_watched(waiter, deadline)
        finally:
            with locked:
                self.cpus_released = False
                self._daemon.send(node.Blocked(False))
                self._daemon.flush()

    def wait_stopped(self, waiter: Waiter) -> None:
        """Wait at a breakpoint. Queued tasks are returned, but the call keeps its CPUs, or each of a thousand
        tasks would start a process to stop in."""
        releases = self.releases_cpus
        if releases:
            with self._context.locked:
                self.cpus_released = True
                self._invoker.return_queued_tasks()
                self._context.reactor.flush()
        try:
            self._context.reactor.wait(waiter)
        finally:
            if releases:
                self.cpus_released = False
