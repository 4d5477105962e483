"""Connects a terminal to a thread that stopped at a breakpoint: shows its output and sends typed lines.

In a driver, a thread of ``Console`` does this, so that the program need not do anything; one breakpoint at a
time has the terminal. In an interactive interpreter or a notebook, which own their terminal, the main thread
reads lines while it waits for objects. `skate debug` attaches from any other terminal.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from _queue import Empty, SimpleQueue
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from skate._base import threads
from skate._transport.connection import Connection, Handler
from skate._transport.dialing import dial
from skate._wire import debugger as wire
from skate._wire import node
from skate._wire.handshake import BUSY, PROTOCOL

if TYPE_CHECKING:
    from skate._transport.reactor import Reactor
    from skate._worker.core import Core

#: Events of a connection: it ended; the user pressed Ctrl-C.
_OVER, _INTERRUPT = object(), object()
#: Stands for a terminal that the main thread reads while it waits.
_MAIN = "main"
#: A terminal that another job uses is checked at this interval (seconds).
_CHECK_INTERVAL_S = 0.1


class StopOver(Exception):
    """The stopped thread went on or ended while the terminal read a line."""


class Reader(Protocol):
    """Reads lines from a terminal."""

    def ask(self, prompt: str, attached: Attached) -> str:
        """Return the next line.

        Raises:
            EOFError: Ctrl-D.
            KeyboardInterrupt: Ctrl-C.
            StopOver: the stopped thread does not wait for the line any more.
        """


class Attached:
    """Represents a stopped thread to which a terminal of this process is attached.

    Raises:
        OSError: the thread does not wait (any more).
    """

    def __init__(self, reactor: Reactor, address: str) -> None:
        self.address = address
        self.over = False
        #: Whether Ctrl-C was pressed and the thread went on without an answer, so that the program itself
        #: gets the signal.
        self.missed_interrupt = False
        #: Called when the stop is over, on any thread.
        self.on_over: Callable[[], None] | None = None
        self._reactor = reactor
        self._events: SimpleQueue[Any] = SimpleQueue()
        handlers: dict[type, Handler] = {wire.Output: self._said, wire.Ask: self._said}
        with reactor.lock:
            self._connection = Connection(reactor, dial(address), handlers, self._left)
            self._connection.send(wire.Attach(PROTOCOL))
            self._connection.flush()

    def _said(self, connection: Connection, message: Any) -> None:
        self._events.put(message)

    def _left(self, connection: Connection) -> None:
        self.over = True
        refused = connection.refused
        if refused is not None and refused.code == BUSY:
            self._events.put(wire.Output("Another terminal is attached to this breakpoint.\n"))
        elif refused is not None:
            self._events.put(wire.Output(f"Not attached: this terminal {refused.what}.\n"))
        self._events.put(_OVER)
        if self.on_over is not None:
            self.on_over()

    def _send(self, message: Any) -> None:
        with self._reactor.lock:
            self._connection.send(message)
            self._connection.flush()

    def interrupt(self) -> None:
        """Send Ctrl-C to the running thread. Safe in signal handlers."""
        self._events.put(_INTERRUPT)

    def talk(self, show: Callable[[str], object], reader: Reader) -> None:
        """Show output and read lines until the thread goes on."""
        while True:
            try:
                # The wait has a limit: a signal that comes just before the thread blocks does not wake it.
                event = self._events.get(timeout=_CHECK_INTERVAL_S)
            except Empty:
                continue
            if event is _OVER:
                self.missed_interrupt |= not self._events.empty()
                return
            if event is _INTERRUPT:
                self.missed_interrupt = True
                self._send(wire.Interrupt())
                continue
            self.missed_interrupt = False
            if isinstance(event, wire.Output):
                show(event.text)
            else:
                try:
                    self._send(self._answer(event.prompt, show, reader))
                except StopOver:
                    show("\n")

    def _answer(self, prompt: str, show: Callable[[str], object], reader: Reader) -> Any:
        while True:
            try:
                return wire.Line(reader.ask(prompt, self))
            except KeyboardInterrupt:
                show("\n")  # the typed text is dropped
            except EOFError:
                show("\n")
                return wire.Detach()

    def close(self) -> None:
        """Close the connection."""
        with self._reactor.lock:
            self._connection.abandon()
        self._events.put(_OVER)
        self.over = True
        if self.on_over is not None:
            self.on_over()


class Terminal:
    """Reads lines from the program's terminal, on a thread that is not the main one."""

    def __init__(self, fd: int, show: Callable[[str], object]) -> None:
        self._fd = fd
        self._show = show
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._typed = b""
        self._interrupted = False
        #: Whether a line is being read.
        self.asking = False

    def wake(self) -> None:
        """Wake ``ask`` up."""
        os.eventfd_write(self._wake, 1)

    def interrupt(self) -> None:
        """Make ``ask`` raise KeyboardInterrupt. Safe in signal handlers."""
        self._interrupted = True
        self.wake()

    def ask(self, prompt: str, attached: Attached) -> str:
        """Return the next line of the terminal; see ``Reader.ask``."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        self.asking = True  # set before the user can see the prompt and press Ctrl-C
        self._show(prompt)
        attached.on_over = self.wake
        try:
            while True:
                if attached.over:
                    raise StopOver
                if self._interrupted:
                    self._typed = b""
                    raise KeyboardInterrupt
                if b"\n" in self._typed:
                    break
                for fd, _ in poll.poll():
                    if fd == self._wake:
                        os.eventfd_read(fd)
                    else:
                        self._read()
            line, _, self._typed = self._typed.partition(b"\n")
            return line.decode(errors="replace")
        finally:
            attached.on_over = None
            self.asking = self._interrupted = False

    def _read(self) -> None:
        try:
            data = os.read(self._fd, 4096)
        except OSError:  # the terminal closed
            data = b""
        if not data and not self._typed:
            raise EOFError
        self._typed += data

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._wake)


class MainThread:
    """Reads lines by ``input()`` on the main thread while it waits for objects."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def ask(self, prompt: str, attached: Attached) -> str:
        """Return the next line of ``input()`` on the main thread; see ``Reader.ask``."""
        answer: SimpleQueue[str | BaseException] = SimpleQueue()

        core = self._core

        def read() -> None:
            try:
                core.main_thread.gate.types = True
                try:
                    line = input(prompt)
                finally:
                    core.main_thread.gate.types = False
                answer.put(line)
            except BaseException as error:
                answer.put(error)

        callback = core.main_thread.run_callback(read)
        while True:
            try:
                line = answer.get(timeout=_CHECK_INTERVAL_S)
            except Empty:
                if attached.over and core.main_thread.cancel_callback(callback):
                    raise StopOver from None
                core.main_thread.wake_again()
                continue
            if isinstance(line, BaseException):
                raise line
            return line


class Console:
    """Manages a driver's breakpoints: the waiting ones and the attached one."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._waiting: deque[node.Stopped] = deque()
        self._attached: Attached | None = None
        self._terminal: Terminal | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._news = threading.Event()
        self._closed = False

    def stopped(self, stop: node.Stopped) -> None:
        """Attach to a thread that stopped, if there is a terminal; else print how to attach."""
        how = _terminal()
        command = _command(self._core.context.session_dir)
        if how is None:
            self._tell(stop, f"To attach: {command}")
            return
        if how == _MAIN and not self._core.main_thread.main_waits():
            self._tell(
                stop, f"It prompts here as soon as you wait for it in get(). To attach elsewhere: {command}"
            )
        with self._lock:
            self._waiting.append(stop)
            if self._thread is None and not self._closed:
                try:
                    self._thread = threads.start("skate-console", self._serve)
                except RuntimeError:
                    self._waiting.clear()
                    self._tell(stop, f"To attach: {command}")

    def resumed(self, address: str) -> None:
        """Forget a stop that is over."""
        with self._lock:
            for stop in [one for one in self._waiting if one.address == address]:
                self._waiting.remove(stop)

    def _tell(self, stop: node.Stopped, more: str = "") -> None:
        what = f"stopped at {'a breakpoint' if stop.kind == 'breakpoint' else 'an exception'} in {stop.where}"
        _show(f"({stop.name} pid={stop.pid}) {what}\n" + (more + "\n" if more else ""))

    def _serve(self) -> None:
        while True:
            with self._lock:
                if not self._waiting or self._closed:
                    self._thread = None
                    return
                stop = None
                if _terminal() != _MAIN or self._core.main_thread.main_waits():
                    stop = self._waiting.popleft()
            if stop is None:
                self._news.wait(_CHECK_INTERVAL_S)
                continue
            try:
                attached = Attached(self._core.context.reactor, stop.address)
            except OSError:
                continue  # the thread went on: `skate debug` was faster, or the process ended
            self._talk(stop, attached)

    def _talk(self, stop: node.Stopped, attached: Attached) -> None:
        others = len(self._waiting)
        self._tell(stop, f"({others} more wait{'s' if others == 1 else ''})" if others else "")
        reader: Reader
        how = _terminal()
        if isinstance(how, int):
            reader = self._terminal = Terminal(how, _show)
        else:
            reader = MainThread(self._core)
        self._attached = attached
        try:
            attached.talk(_show, reader)
        except Exception as error:  # input() does not work here
            _show(f"{type(error).__name__}: {error}\nTo attach: {_command(self._core.context.session_dir)}\n")
        finally:
            self._attached = None
            attached.close()
            terminal, self._terminal = self._terminal, None
            if terminal is not None:
                terminal.close()
        main = threading.main_thread().ident
        if attached.missed_interrupt and not self._closed and main is not None:
            signal.pthread_kill(main, signal.SIGINT)  # the signal is for the program

    def interrupt(self) -> bool:
        """Handle Ctrl-C; tell whether it was meant for the breakpoint. Called in the signal's handler."""
        attached, terminal = self._attached, self._terminal
        if attached is None or terminal is None:
            return False
        if terminal.asking:
            terminal.interrupt()
        else:
            attached.interrupt()
        return True

    def close(self) -> None:
        """Detach, as the session ends."""
        with self._lock:
            self._closed = True
            self._waiting.clear()
            self._news.set()
            thread = self._thread
        attached = self._attached
        if attached is not None:
            attached.close()
        if thread is not None:
            thread.join(2)


def _show(text: str) -> None:
    stream: Any = sys.stdout
    if not _is_terminal(stream) and _is_terminal(sys.stderr):
        stream = sys.stderr
    try:
        stream.write(text)
        stream.flush()
    except (OSError, ValueError, AttributeError):
        pass


def _is_terminal(stream: Any) -> bool:
    try:
        return bool(stream.isatty())
    except (OSError, ValueError, AttributeError):
        return False


def _terminal() -> int | str | None:
    """Return the descriptor to read lines from; _MAIN: only the main thread can read them; None: there is no
    terminal."""
    if hasattr(sys, "ps1") or "IPython" in sys.modules:
        ipython = sys.modules.get("IPython")
        shell = ipython.get_ipython() if ipython is not None else None
        if shell is not None or hasattr(sys, "ps1"):
            kernel = getattr(shell, "kernel", None)
            allowed = kernel is None or getattr(kernel, "_allow_stdin", False)
            return _MAIN if allowed and (kernel is not None or _is_terminal(sys.stdin)) else None
    stream: Any = sys.stdin
    if not _is_terminal(stream) or not (_is_terminal(sys.stdout) or _is_terminal(sys.stderr)):
        return None
    try:
        fd: int = stream.fileno()
        # A program in the background would be stopped if it read.
        return fd if os.tcgetpgrp(fd) == os.getpgrp() else None
    except (OSError, ValueError, AttributeError):
        return None


def _command(session_dir: str) -> str:
    return f"skate debug --address {session_dir}"
