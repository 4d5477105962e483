"""The main thread of a driver or worker: it alone gets signals, and a notebook asks questions there only."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from skate._transport.reactor import Reactor, in_main_thread
from skate._worker.process.signals import Gate

if TYPE_CHECKING:
    from skate._worker.objects.values import CountWaiter


class MainThread:
    """The part of Core that is about it."""

    def __init__(self, reactor: Reactor) -> None:
        self.reactor = reactor
        self.lock = reactor.lock
        reactor.on_interrupt = self._interrupted_in_wait
        #: What threads of this process wait for.
        self.waits: set[CountWaiter] = set()
        #: Handlers of signals that the program installed.
        self.gate = Gate(self._wake)
        #: What the main thread is to do in its next wait for objects.
        self._errand: Callable[[], None] | None = None

    # ------------------------------------------------------------------ interrupts

    def _wake(self) -> None:
        """Have the main thread look at its next safe point. Safe in signal handlers."""
        self.reactor.interrupted = True
        self.reactor.nudge()

    def check_interrupt(self) -> None:
        """At a safe point: run the handlers of signals that were put off; they may raise."""
        if in_main_thread():
            self.reactor.interrupted = False
            try:
                self.gate.run()
            finally:
                if self.gate.waits:  # one raised, and others are behind it
                    self.reactor.interrupted = True

    def hold_signals(self) -> None:
        """Run no handler in a wait from now on: the session is being ended."""
        self.reactor.on_interrupt = lambda: None

    def _interrupted_in_wait(self) -> None:
        """See Reactor.on_interrupt."""
        self.check_interrupt()
        if self._errand is not None and self.main_waits():
            with self.lock:
                errand, self._errand = self._errand, None
            if errand is not None:
                errand()

    def main_waits(self) -> bool:
        """Tell whether the main thread waits for objects."""
        main = threading.main_thread().ident
        return any(one.thread == main for one in list(self.waits))

    # ------------------------------------------------------------------ errands

    def run_in_main(self, errand: Callable[[], None]) -> Callable[[], None]:
        """Have the main thread run it when it waits for objects. Any other thread; drivers only."""
        self._errand = errand
        self._wake()
        return errand

    def call_again(self) -> None:
        """Look again whether the main thread waits: it is still to run what ``run_in_main`` was given."""
        if self._errand is not None:
            self._wake()

    def forget_errand(self, errand: Callable[[], None]) -> bool:
        """Tell whether the main thread had not begun with it, and will not."""
        with self.lock:
            forgotten = self._errand is errand
            if forgotten:
                self._errand = None
        return forgotten
