"""Implements ``breakpoint()`` in a worker: the thread stops, and waits until a terminal attaches.

::

    stopped thread                 node daemon            driver, or `skate debug`
      listens, Stopped ───────────────►│──────────────────────────►│ shows where
      waits (the reactor goes on)      │                           │
      │◄──────────────────────────────────────────────── dials ────│
      │  Output, Ask ─────────────────────────────────────────────►│ shows, reads a line
      │◄──────────────────────────────────────── Line, Detach ─────│
      goes on, Resumed ───────────────►│──────────────────────────►│ the next one

The process works all the while: it answers peers and the daemon, and can be cancelled and killed. If the
terminal vanishes, the thread stays stopped and waits for another one.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable
from types import CodeType
from typing import Any, Protocol

from skate._base import ids
from skate._base.user_errors import args_of, is_a, set_args, type_name
from skate._transport.acceptor import Acceptor
from skate._transport.connection import Connection, Listener
from skate._transport.reactor import Waiter
from skate._wire import debugger as wire
from skate._wire import node, services
from skate._wire.handshake import BUSY, Refused
from skate._worker.process import current
from skate._worker.process.context import ProcessContext
from skate._worker.process.daemon_link import DaemonLink

_DEBUGGER = "skate._worker.debugging.debugger"
#: Text is sent in pieces of this many characters.
_PIECE_CHARS = 16 * 1024

#: Environment variables that stop calls where they raise: ours, and Ray's.
_POST_MORTEM = ("SKATE_POST_MORTEM", "RAY_DEBUG_POST_MORTEM")


class DebuggedCalls(Protocol):
    """The calls of this worker, as a debugger sees them: ``execution.executor.Executor``."""

    @property
    def running_call(self) -> tuple[bytes, int] | None:
        """Owner and seq of the call that the main thread runs."""

    @property
    def interrupts(self) -> DebuggerSignals:
        """The calls that were cancelled, and the signal that a debugger shares with them."""


class DebuggerSignals(Protocol):
    """Cancelled calls and the signal: ``execution.interrupts.Interrupts``."""

    cancelled: set[tuple[bytes, int]]

    def interrupt_for_debugger(self, call: Any) -> None:
        """Have the main thread call a function, with its current frame, in the handler of a signal."""

    def interrupt_typed(self) -> None:
        """Raise KeyboardInterrupt at the next safe point, in a statement that was typed."""


class Breakpoints:
    """Stops threads of this worker at breakpoints, and where calls raise. Built by Core.

    Args:
        calls: those of this worker.
        wait_stopped: blocks the calling thread at a breakpoint.
        load_debugger: imports the module ``debugger``, which is above this one, at the first breakpoint: pdb
            is large, and most programs have none.
    """

    def __init__(
        self,
        context: ProcessContext,
        daemon: DaemonLink,
        calls: DebuggedCalls,
        wait_stopped: Callable[[Waiter], None],
        load_debugger: Callable[[], Any],
    ) -> None:
        self.context = context
        self.daemon = daemon
        self.calls = calls
        self.wait_stopped = wait_stopped
        self._load_debugger = load_debugger

    def install(self) -> None:
        """Take over ``breakpoint()`` in this process."""
        sys.breakpointhook = self.hook

    def hook(self, *args: Any, **kwargs: Any) -> Any:
        """Stop the calling thread. PYTHONBREAKPOINT has its usual meaning."""
        if current.process.core is None or os.environ.get("PYTHONBREAKPOINT"):
            return sys.__breakpointhook__(*args, **kwargs)
        return self.set_trace(sys._getframe(1), *args, **kwargs)

    def set_trace(self, frame: Any, *args: Any, **kwargs: Any) -> Any:
        """Stop the calling thread at the next line of ``frame``."""
        return self._load_debugger().set_trace(self, frame, *args, **kwargs)

    def post_mortem(self, error: BaseException) -> None:
        """Stop the calling thread where an exception was raised."""
        self._load_debugger().post_mortem(self, error)

    def look_at(self, error: BaseException) -> None:
        """Stop where a call raised, before the reply, if the environment asks for it."""
        if type_name(error) == "BdbQuit":
            if not args_of(error):
                ours = sys.modules.get(_DEBUGGER)
                if ours is not None and ours.was_left():
                    set_args(error, ("the debugger was left with q",))
                else:
                    text = "pdb has no terminal in a worker: write breakpoint() for pdb.set_trace()"
                    set_args(error, (text,))
            return
        if is_a(error, Exception) and any(
            os.environ.get(name, "0").lower() not in ("", "0", "false") for name in _POST_MORTEM
        ):
            self.post_mortem(error)


class Stop:
    """One stop of one thread: its socket, and the attached terminal. ``close`` it."""

    def __init__(self, breakpoints: Breakpoints, where: str, kind: str) -> None:
        context = self._context = breakpoints.context
        self._daemon = breakpoints.daemon
        self._wait_stopped = breakpoints.wait_stopped
        self._path = os.path.join(context.session_dir, "s", "b" + ids.random_bytes(7).hex())
        call = current.call.get()
        self._stopped = node.Stopped(
            self._path, call.name or "a thread", context.pid, call.task_id, where, kind
        )
        self._connection: Connection | None = None
        #: Lines that were typed; None: the end of input.
        self._typed: deque[str | None] = deque()
        self._waiter: Waiter | None = None
        #: Called under the lock for Ctrl-C while the thread runs.
        self.on_interrupt: Any = None
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()  # earlier output must appear before the stop
            except (OSError, ValueError, AttributeError):
                pass
        with context.locked:
            self._acceptor = Acceptor(
                context.reactor,
                services.BREAKPOINT,
                {wire.Attach: self._attach, wire.Line: self._line, wire.Detach: self._detach,
                 wire.Interrupt: self._interrupt},
                self._left,
            )  # fmt: skip
            listening = context.reactor.listen(self._path)
            self._listener = Listener(context.reactor, listening, self._accepted)
            self._announce()

    # ------------------------------------------------------------------ under the lock

    def _announce(self) -> None:
        self._daemon.send(self._stopped)
        self._daemon.flush()

    def _accepted(self, sock: Any) -> None:
        self._acceptor.accept(sock, "a terminal")

    def _attach(self, connection: Connection, message: wire.Attach) -> None:
        if self._connection is not None:
            connection.refuse(Refused(BUSY, "came while another terminal is attached to this breakpoint"))
            return
        self._connection = connection
        self._notify()

    def _line(self, connection: Connection, message: wire.Line) -> None:
        self._typed.append(message.text)
        self._notify()

    def _detach(self, connection: Connection, message: wire.Detach) -> None:
        self._typed.append(None)
        self._notify()

    def _interrupt(self, connection: Connection, message: wire.Interrupt) -> None:
        if self._waiter is None and self.on_interrupt is not None:
            self.on_interrupt()

    def _left(self, connection: Connection) -> None:
        if connection is self._connection:
            self._connection = None
            self._typed.clear()
            self._notify()

    def _notify(self) -> None:
        if self._waiter is not None:
            self._waiter.notify()

    # ------------------------------------------------------------------ the stopped thread

    def _wait(self) -> None:
        """Wait for the next message. Raises the KeyboardInterrupt of a cancelled task."""
        waiter = self._waiter
        assert waiter is not None
        try:
            self._wait_stopped(waiter)
        finally:
            self._waiter = None

    def attach(self) -> None:
        """Wait until a terminal is attached."""
        while True:
            with self._context.locked:
                if self._connection is not None:
                    return
                self._waiter = Waiter()
            self._wait()

    def write(self, text: str) -> None:
        """Show text on the attached terminal."""
        with self._context.locked:
            if self._connection is not None:
                for start in range(0, len(text), _PIECE_CHARS):
                    self._connection.send(wire.Output(text[start : start + _PIECE_CHARS]))
                self._connection.flush()

    def ask(self, prompt: str) -> str:
        """Return the next line that is typed.

        Raises:
            EOFError: it is the end of input.
            ConnectionError: the terminal vanished; the stop was announced again.
        """
        prompted = False
        while True:
            with self._context.locked:
                if self._connection is None:
                    self._announce()
                    raise ConnectionError
                if self._typed:
                    line = self._typed.popleft()
                    if line is None:
                        raise EOFError
                    return line
                if not prompted:
                    prompted = True
                    self._connection.send(wire.Ask(prompt))
                    self._connection.flush()
                self._waiter = Waiter()
            self._wait()

    def close(self) -> None:
        """End the stop, and hang up on the terminal."""
        with self._context.locked:
            self._listener.close()
            self._acceptor.close()
            try:
                os.unlink(self._path)
            except OSError:
                pass
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.flush()
                connection.abandon()
            self._daemon.send(node.Resumed(self._path))
            self._daemon.flush()


def boundary(frame: Any, package: str) -> Any:
    """Return the outermost frame of user code around ``frame``: it has no caller, or a frame of ours."""
    while frame.f_back is not None and not frame.f_back.f_code.co_filename.startswith(package):
        frame = frame.f_back
    return frame


def place(code: CodeType, line: int) -> str:
    """Return "file:line"."""
    return f"{code.co_filename}:{line}"
