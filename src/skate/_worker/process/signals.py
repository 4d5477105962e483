"""Handlers of signals that the program installed, kept out of the runtime's own code.

The interpreter calls a handler between any two instructions of the main thread. In the middle of the
runtime that would be user code where a table is half changed, or an exception where nothing expects one.
So each handler is wrapped. Where the innermost frame of this package is the runtime's own, the handler is put
off to the next safe point: the end of an API call, or a wait, after its thread has left the lead. There it
may call the runtime itself and may raise, out of ``get`` for instance. In user code it runs at once.

Should no safe point come soon, the signal is sent again after a moment. Signals of one number that arrive
before the handler has run are one, as the kernel has it too.

``signal.signal`` and ``signal.getsignal`` are replaced while a session lives, so that the program sees the
handlers that it set and handlers set later are wrapped as well.
"""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from types import CodeType, FrameType
from typing import Any

from skate._base import clock
from skate._base.process import PACKAGE
from skate._transport.reactor import in_main_thread

#: Packages above the public API: they stand where a user's code could, and hold no tables.
_ABOVE = tuple(
    os.path.join(PACKAGE, name)
    for name in (f"cli{os.sep}", f"util{os.sep}", f"testing{os.sep}", f"experimental{os.sep}",
                 f"data{os.sep}", f"serve{os.sep}", "__main__.py")
)  # fmt: skip

#: A signal that was put off is sent again after this time (seconds).
_REMINDER_S = 0.02

Handler = Callable[[int, "FrameType | None"], Any]


class Gate:
    """The handlers of this process: which wait, and where they may run. Changed by the main thread only.

    Args:
        on_put_off: called in the signal handler when one was put off: it wakes the threads that wait.
    """

    def __init__(self, on_put_off: Callable[[], None]) -> None:
        self._on_put_off = on_put_off
        self._pid = os.getpid()
        self._waiting: dict[int, Handler] = {}
        self._reminding = False
        self._installed = False
        #: ``adopt`` is still to be called on the main thread.
        self._to_adopt = False
        #: The functions that call user code: frames above them are the user's, up to the next one of ours.
        self._boundaries = {Gate.run.__code__, _Wrapped.__call__.__code__}
        #: Called first for SIGINT: whether Ctrl-C was meant for a breakpoint.
        self.takes_interrupt: Callable[[], bool] | None = None
        #: The main thread waits for typed input, in the runtime's code: handlers run there at once.
        self.types = False

    # ------------------------------------------------------------------ install

    def install(self) -> None:
        """Wrap the present and all later handlers. On the main thread, or later by ``adopt``."""
        global _current
        _current = self
        self._installed = True
        if signal.signal is not _signal:
            signal.signal, signal.getsignal = _signal, _getsignal
        self.adopt()

    def adopt(self, *_: object) -> None:
        """Wrap handlers that were set behind ``signal.signal``'s back."""
        if not self._installed:
            return
        if not in_main_thread():
            self._to_adopt = True  # only the main thread can: at its next safe point
            self._on_put_off()
            return
        self._to_adopt = False
        for number in signal.valid_signals():
            handler = _plain_getsignal(number)
            if callable(handler) and not isinstance(handler, _Wrapped):
                try:
                    _plain_signal(number, _Wrapped(handler))
                except (OSError, ValueError):
                    pass  # the C library keeps it for itself

    def set_own(self, number: int, handler: Handler) -> None:
        """Install a handler of the runtime's own, which runs anywhere. On the main thread."""
        _plain_signal(number, handler)

    def uninstall(self) -> None:
        """Give the program its handlers back; those put off run now, and may raise."""
        global _current
        self._installed = False
        if _current is self:
            _current = None
        if not in_main_thread():
            return  # the wrappers that stay call their handlers at once
        for number in signal.valid_signals():
            handler = _plain_getsignal(number)
            if isinstance(handler, _Wrapped):
                _plain_signal(number, handler.handler)
        self.run()

    def add_boundaries(self, codes: Iterable[CodeType]) -> None:
        """Note which functions call user code."""
        self._boundaries.update(codes)

    # ------------------------------------------------------------------ in a handler

    def in_user_code(self, frame: FrameType | None) -> bool:
        """Tell whether a handler may run, and raise, where this frame is."""
        if self.types:
            return True
        while frame is not None:
            code = frame.f_code
            if code in self._boundaries:
                return True
            if code.co_filename.startswith(PACKAGE):
                return code.co_filename.startswith(_ABOVE)
            frame = frame.f_back
        return True

    def arrived(self, number: int, handler: Handler, frame: FrameType | None) -> None:
        """Run a handler, or put it off. In the handler of a signal that came, on the main thread."""
        if number == signal.SIGINT and self.takes_interrupt is not None and self.takes_interrupt():
            return
        forked = os.getpid() != self._pid
        if forked or self.in_user_code(frame) or getattr(handler, "__module__", "") == _ASYNCIO:
            self._waiting.pop(number, None)
            handler(number, frame)
        else:
            self.put_off(number, handler)

    def put_off(self, number: int, handler: Handler) -> None:
        """Run a handler at the next safe point. In a signal's handler, on the main thread."""
        self._waiting[number] = handler
        self._on_put_off()
        if not self._reminding:
            self._reminding = True
            try:
                # Not by ``threading``, whose own lock the interrupted code may hold.
                _thread.start_new_thread(self._remind, (threading.main_thread().ident,))
            except (RuntimeError, MemoryError):
                self._reminding = False  # no thread can start now: the next safe point runs it

    def _remind(self, main: int | None) -> None:
        assert main is not None
        # Until the handler ran: a signal just before the thread sleeps in a system call does not wake it.
        while True:
            clock.sleep(_REMINDER_S)
            waiting = list(self._waiting)
            if not waiting:
                break
            for number in waiting:
                signal.pthread_kill(main, number)
        self._reminding = False

    # ------------------------------------------------------------------ at a safe point

    @property
    def has_waiting(self) -> bool:
        """Whether a handler waits for a safe point."""
        return bool(self._waiting)

    def run(self) -> None:
        """Run the handlers that wait. On the main thread, without the lock and the lead; they may raise."""
        if self._to_adopt:
            self.adopt()
        while self._waiting:
            for number in list(self._waiting):
                handler = self._waiting.pop(number, None)
                if handler is not None:  # or the signal came once more, just now, and it has run
                    handler(number, sys._getframe(1))


class _Wrapped:
    """Wraps a handler of the program."""

    __slots__ = ("handler",)

    def __init__(self, handler: Handler) -> None:
        self.handler = handler

    def __call__(self, number: int, frame: FrameType | None) -> None:
        gate = _current
        if gate is None:
            self.handler(number, frame)
        else:
            gate.arrived(number, self.handler, frame)


#: Of the module of asyncio's own handler, which does nothing: its loop reads the signal's number elsewhere.
_ASYNCIO = "asyncio.unix_events"

#: The gate of the session that lives.
_current: Gate | None = None

_plain_signal = signal.signal
_plain_getsignal = signal.getsignal


def _signal(signalnum: Any, handler: Any) -> Any:
    """Set the handler of a signal, and return the one that there was: see the standard library."""
    if _current is not None and callable(handler) and not isinstance(handler, (signal.Handlers, _Wrapped)):
        handler = _Wrapped(handler)
    return _unwrapped(_plain_signal(signalnum, handler))


def _getsignal(signalnum: Any) -> Any:
    """Return the handler of a signal: see the standard library."""
    return _unwrapped(_plain_getsignal(signalnum))


def _unwrapped(handler: Any) -> Any:
    return handler.handler if isinstance(handler, _Wrapped) else handler
