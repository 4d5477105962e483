"""The main thread of a driver or worker: it alone gets signals, and a notebook reads answers there only."""

from __future__ import annotations

import threading
from collections.abc import Callable

from skate._transport.reactor import Reactor, in_main_thread
from skate._worker.process.signals import Gate
from skate._worker.process.waiting import Waiting


class MainThread:
    """Runs the handlers of signals, and callbacks for the main thread, where that is safe."""

    def __init__(self, reactor: Reactor, waiting: Waiting) -> None:
        self._reactor = reactor
        self._waiting = waiting
        reactor.on_interrupt = self._interrupted_in_wait
        #: Handlers of signals that the program installed.
        self.gate = Gate(self._wake)
        #: The function that the main thread calls in its next wait for objects.
        self._callback: Callable[[], None] | None = None

    # ------------------------------------------------------------------ interrupts

    def _wake(self) -> None:
        """Have the main thread run handlers and callbacks at its next safe point. Safe in signal handlers."""
        self._reactor.interrupted = True
        self._reactor.nudge()

    def check_interrupt(self) -> None:
        """Run the handlers of signals that were put off; they may raise. At a safe point."""
        if in_main_thread():
            self._reactor.interrupted = False
            try:
                self.gate.run()
            finally:
                if self.gate.has_waiting:  # one raised, and others are behind it
                    self._reactor.interrupted = True

    def hold_signals(self) -> None:
        """Run no handler in a wait from now on: the session is being ended."""
        self._reactor.on_interrupt = lambda: None

    def _interrupted_in_wait(self) -> None:
        """Run handlers and the callback: see ``Reactor.on_interrupt``."""
        self.check_interrupt()
        if self._callback is not None and self.main_waits():
            with self._reactor.lock:
                callback, self._callback = self._callback, None
            if callback is not None:
                callback()

    def main_waits(self) -> bool:
        """Tell whether the main thread waits for objects."""
        return self._waiting.is_waiting(threading.main_thread().ident)

    # ------------------------------------------------------------------ callbacks on the main thread

    def run_callback(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Have the main thread call a function when it waits for objects. Any other thread; drivers only."""
        self._callback = callback
        self._wake()
        return callback

    def wake_again(self) -> None:
        """Wake the main thread if it has not taken the callback yet."""
        if self._callback is not None:
            self._wake()

    def cancel_callback(self, callback: Callable[[], None]) -> bool:
        """Withdraw a callback; tell whether the main thread had not begun with it, and will not."""
        with self._reactor.lock:
            forgotten = self._callback is callback
            if forgotten:
                self._callback = None
        return forgotten
