"""The main thread of a driver or worker: it alone gets signals, and a notebook asks questions there only."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from skate._transport.reactor import Reactor, Waiter

if TYPE_CHECKING:
    from skate._worker.objects import CountWaiter

PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
#: Not below user code but around it: ``skate run`` runs programs.
_AROUND = (os.path.join(PACKAGE, "cli", ""), os.path.join(PACKAGE, "__main__.py"))


#: How long after a signal that was put off it comes again (seconds).
_REMINDER = 0.02


class Errand(Exception):
    """Takes the main thread out of its wait for a moment: see ``MainThread.run_in_main``."""


class MainThread:
    """The part of Core that is about it."""

    def __init__(self, reactor: Reactor) -> None:
        self.reactor = reactor
        self.lock = reactor.lock
        reactor.check_interrupt = self.check_interrupt
        #: What threads of this process wait for.
        self.waits: set[CountWaiter] = set()
        #: SIGINT came while the main thread was in our code.
        self.interrupted = False
        #: It waits for somebody to type, in our own code: a signal is raised there at once.
        self.types = False
        #: The signal is to come again.
        self._reminding = False
        #: Called first by the handler of SIGINT: whether Ctrl-C was meant for a breakpoint.
        self.takes_interrupt: Callable[[], bool] | None = None
        #: What the main thread is to do in its next wait.
        self._errand: Callable[[], None] | None = None

    def take_interrupts(self, *_: object) -> Any:
        """Handle SIGINT from now on, unless the program does; return the handler that was there, or None."""
        if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            return None
        return signal.signal(signal.SIGINT, self.interrupt)

    def ask_to_interrupt(self) -> None:
        """Have the main thread raise at its next safe point. Safe in signal handlers."""
        self.interrupted = True
        self.reactor.nudge()

    def put_off_interrupt(self) -> None:
        """Our own code is at work where a signal came: raise at the next safe point. In its handler."""
        self.ask_to_interrupt()
        if not self._reminding:
            self._remind()

    def _remind(self) -> None:
        self._reminding = True
        threading.Timer(_REMINDER, self._again).start()

    def interrupt(self, signum: int, frame: Any) -> None:
        """SIGINT in the main thread: raise in user code at once, in ours at the next safe point.

        Ours is whatever runs below a frame of this package: a table may be half changed there.
        """
        if self.takes_interrupt is not None and self.takes_interrupt():
            return
        while frame is not None:
            name = frame.f_code.co_filename
            if name.startswith(PACKAGE) and not name.startswith(_AROUND) and not self.types:
                self.put_off_interrupt()
                return
            frame = frame.f_back
        self.interrupted = False
        signal.default_int_handler(signal.SIGINT, None)

    def _again(self) -> None:
        """Should ours have ended before it reached a safe point, the signal comes again.

        To the main thread itself, and until it is heard: one that arrives just before the thread sleeps in
        a system call does not wake it.
        """
        self._reminding = False
        if self.interrupted:
            self._remind()
            main = threading.main_thread().ident
            assert main is not None
            signal.pthread_kill(main, signal.SIGINT)

    def check_interrupt(self) -> None:
        """At a safe point: raise what a signal asked for while it could not be raised."""
        if self.interrupted and threading.current_thread() is threading.main_thread():
            self.interrupted = False
            signal.default_int_handler(signal.SIGINT, None)
        in_main = self._errand is not None and threading.current_thread() is threading.main_thread()
        if in_main and self.main_waits():
            raise Errand

    def main_waits(self) -> bool:
        """Tell whether the main thread waits for objects."""
        main = threading.main_thread().ident
        return any(one.thread == main for one in list(self.waits))

    # ------------------------------------------------------------------ errands

    def run_in_main(self, errand: Callable[[], None]) -> Callable[[], None]:
        """Have the main thread run it when it waits for objects. Any other thread; drivers only."""
        self._errand = errand
        self.reactor.nudge()
        return errand

    def forget_errand(self, errand: Callable[[], None]) -> bool:
        """Tell whether the main thread had not begun with it, and will not."""
        with self.lock:
            forgotten = self._errand is errand
            if forgotten:
                self._errand = None
        return forgotten

    def wait_after_errand(self, waiter: Waiter, deadline: float | None) -> bool:
        """Do it, and go on with the wait."""
        while True:
            with self.lock:
                errand, self._errand = self._errand, None
            if errand is not None:
                errand()
            try:
                return self.reactor.wait(waiter, deadline)
            except Errand:
                pass
