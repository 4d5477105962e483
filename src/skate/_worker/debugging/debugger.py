"""Runs pdb in a worker, over a ``Stop``. Imported by the first breakpoint of a process."""

from __future__ import annotations

import bdb
import code
import codeop
import dis
import pdb
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from skate._base.errors import RayTaskError
from skate._base.process import PACKAGE
from skate._base.user_errors import is_a, summary_of, traceback_of
from skate._worker.debugging.breakpoints import Breakpoints, Stop, boundary, place

#: A coroutine or generator that waits, not one that ends: the instruction at which it left its frame.
_SUSPENDS = frozenset({"YIELD_VALUE", "YIELD_FROM", "SEND"})
_CAN_SUSPEND = 0x20 | 0x80 | 0x200  # CO_GENERATOR, CO_COROUTINE, CO_ASYNC_GENERATOR


_MACHINERY = (bdb.__file__, pdb.__file__)


class _Active(threading.local):
    debugger: Debugger | None = None
    #: The last one was left with q.
    left = False


_active = _Active()


def was_left() -> bool:
    """Tell, once, whether the user left this thread's debugger with q."""
    left, _active.left = _active.left, False
    return left


def set_trace(breakpoints: Breakpoints, frame: FrameType, *, header: str | None = None) -> None:
    """Stop at the next line of ``frame``, for ``breakpoint()``."""
    debugger = _active.debugger
    if debugger is None:
        debugger = _active.debugger = Debugger(breakpoints, boundary(frame, PACKAGE))
    debugger.header = header
    debugger.set_trace(frame)


def post_mortem(breakpoints: Breakpoints, error: BaseException) -> None:
    """Stop where an exception was raised, before its call has ended."""
    trace = traceback_of(error)
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(PACKAGE):
        trace = trace.tb_next
    if trace is None or is_a(error, RayTaskError):
        return  # no frame of the user's; or the error of another task, which has stopped already
    debugger = Debugger(breakpoints, None)
    debugger.header = summary_of(error)
    debugger.reset()
    try:
        debugger.interaction(None, trace)
    finally:
        debugger.finish()


class _Channel:
    """The terminal of pdb: shows text up to the last newline, and takes the rest for a prompt."""

    encoding = "utf-8"

    def __init__(self, debugger: Debugger) -> None:
        self._debugger = debugger
        self._text = ""

    def write(self, text: str) -> int:
        self._text += text
        if "\n" in self._text:
            lines, newline, self._text = self._text.rpartition("\n")
            self._debugger.show(lines + newline)
        return len(text)

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return False

    def readline(self, size: int = -1) -> str:
        prompt, self._text = self._text, ""
        return self._debugger.read_line(prompt)


class _Interpreter(code.InteractiveConsole):
    """The interpreter of pdb's ``interact``."""

    def __init__(self, channel: _Channel, names: dict[str, Any]) -> None:
        super().__init__(names)
        self._channel = channel

    def write(self, data: str) -> None:
        self._channel.write(data)

    def raw_input(self, prompt: str = "") -> str:
        self._channel.write(prompt)
        line = self._channel.readline()
        if not line:
            raise EOFError
        return line.rstrip("\n")


class Debugger(pdb.Pdb):
    """One thread's pdb, from a breakpoint to the end of the call, or until it continues without breaks."""

    def __init__(self, breakpoints: Breakpoints, outermost: FrameType | None) -> None:
        self._channel = _Channel(self)
        super().__init__(
            stdin=self._channel, stdout=self._channel,  # type: ignore[arg-type]
            skip=["skate", "skate.*"], nosigint=True,
        )  # fmt: skip
        self._breakpoints = breakpoints
        #: The call's first frame of user code. None: the call has raised already.
        self._outermost = outermost
        self._thread = threading.get_ident()
        self._stop: Stop | None = None
        self._place = ""
        self._interrupted_there = False
        self.header: str | None = None

    # ------------------------------------------------------------------ the terminal

    def show(self, text: str) -> None:
        """Show text."""
        if self._stop is not None:
            self._stop.write(text)

    def read_line(self, prompt: str) -> str:
        """Return a line with its newline; "": the end of input."""
        assert self._stop is not None
        while True:
            try:
                return self._stop.ask(prompt) + "\n"
            except EOFError:
                return ""
            except ConnectionError:
                self._stop.attach()
                self.show(self._place)

    # ------------------------------------------------------------------ stops

    def interaction(self, frame: FrameType | None, *rest: Any) -> None:
        """Run commands of the attached terminal, until the thread goes on."""
        trace = rest[0] if rest else None
        if self._outermost is not None and not self._within(frame):
            return  # another coroutine of the same loop
        try:
            with self._attached(frame, trace):
                super().interaction(frame, *rest)
        except BaseException:
            self.finish()
            raise
        if self.quitting or (self.stopframe is self.botframe and self.stoplineno == -1):
            if self.breaks and not self.quitting:
                self._let_go()  # it may stop again, and announces that then
            else:
                self.finish()

    @contextmanager
    def _attached(self, frame: FrameType | None, trace: Any) -> Iterator[None]:
        if self._stop is None:
            last: TracebackType | None = trace if isinstance(trace, TracebackType) else None
            while last is not None and last.tb_next is not None:
                last = last.tb_next
            shown, line = (last.tb_frame, last.tb_lineno) if last is not None else (frame, 0)
            assert shown is not None
            kind = "exception" if self._outermost is None else "breakpoint"
            where = place(shown.f_code, line or shown.f_lineno or 0)
            self._stop = Stop(self._breakpoints, where, kind)
            self._stop.on_interrupt = self._interrupt
            self._stop.attach()
            if self.header:
                self.message(self.header)
                self.header = None
            self._place = f"> {where}\n"
        if self._interrupted_there:
            self._interrupted_there = False
            self.message("Interrupted.")
        yield

    def _within(self, frame: FrameType | None) -> bool:
        while frame is not None and frame is not self._outermost:
            frame = frame.f_back
        return frame is not None

    def get_stack(self, f: FrameType | None, t: TracebackType | None) -> Any:
        """Return the frames of the user, and the index of the current one."""
        stack, index = super().get_stack(f, t)
        first, end = 0, len(stack)
        for number, (frame, _) in enumerate(stack):
            if frame is self._outermost:
                first = number
        while end > first + 1 and stack[end - 1][0].f_code.co_filename.startswith(PACKAGE):
            end -= 1
        return stack[first:end], min(max(index, first), end - 1) - first

    def _cmdloop(self) -> None:
        # As pdb's, but a KeyboardInterrupt that cancels the task ends the session.
        while True:
            try:
                self.allow_kbdint = True
                self.cmdloop()
                self.allow_kbdint = False
                break
            except KeyboardInterrupt:
                if self._cancelled():
                    raise
                self.message("--KeyboardInterrupt--")

    def _cancelled(self) -> bool:
        calls = self._breakpoints.calls
        return calls.running_call in calls.interrupts.cancelled

    def dispatch_return(self, frame: FrameType, arg: Any) -> Any:
        """Finish when the call's own code returns: the code after that is not the user's."""
        try:
            return super().dispatch_return(frame, arg)
        finally:
            if frame is self._outermost and not _suspended(frame):
                self.finish()

    def _let_go(self) -> None:
        stop, self._stop = self._stop, None
        if stop is not None:
            stop.close()

    def finish(self) -> None:
        """Trace no more, and release the terminal."""
        if _active.debugger is self:
            _active.debugger = None
        _active.left = self.quitting
        if self._outermost is not None:
            if self.breaks:
                self.clear_all_breaks()
            if sys.gettrace() is not None:
                quitting = self.quitting
                self.set_continue()
                self.quitting = quitting
            self._outermost = None
        self._let_go()

    # ------------------------------------------------------------------ Ctrl-C while it runs

    def _interrupt(self) -> None:
        """Have the main thread stop where it is. Under the lock."""
        if self._thread == threading.main_thread().ident:  # another cannot be interrupted in Python
            self._breakpoints.calls.interrupts.interrupt_for_debugger(self._interrupted)

    def _interrupted(self, frame: FrameType | None) -> None:
        """Stop where the main thread is. In the signal's handler: it takes no lock and is not traced."""
        if self._stop is None:
            return  # the terminal was released meanwhile
        if self.allow_kbdint:
            while frame is not None and frame.f_code.co_filename not in _MACHINERY:
                if frame.f_code.co_filename.startswith(PACKAGE):
                    # A statement that was typed waits in get.
                    self._breakpoints.calls.interrupts.interrupt_typed()
                    return
                frame = frame.f_back
            raise KeyboardInterrupt
        sys.settrace(None)
        while frame is not None and frame.f_code.co_filename.startswith((*_MACHINERY, PACKAGE)):
            frame = frame.f_back
        self._interrupted_there = True
        self.set_step()
        self.set_trace(frame)

    # ------------------------------------------------------------------ commands

    def default(self, line: str) -> Any:
        """Run a statement; one that is not complete goes on in the next lines."""
        if sys.version_info < (3, 13):
            line = self._whole(line)
        return super().default(line)

    def _whole(self, line: str) -> str:
        text = line[1:].strip() if line[:1] == "!" else line
        try:
            while codeop.compile_command(text, "<stdin>", "single") is None:
                self._channel.write("...   ")
                more = self._channel.readline()
                text += "\n" + more.rstrip("\n")
                if not more:
                    break
        except (SyntaxError, ValueError, OverflowError):
            pass  # the user sees it when the statement runs
        return text

    def do_interact(self, arg: str) -> Any:
        """Start an interpreter with all names that are visible here."""
        frame: Any = self.curframe
        names = {**frame.f_globals, **frame.f_locals}
        streams = sys.stdin, sys.stdout
        sys.stdin = sys.stdout = self._channel
        try:
            _Interpreter(self._channel, names).interact("*interactive*", "*exit from interactive*")
        finally:
            sys.stdin, sys.stdout = streams

    def do_EOF(self, arg: str) -> Any:
        """Go on without the debugger: the end of a terminal must not harm the task."""
        self.clear_all_breaks()
        self.set_continue()
        return 1


def _suspended(frame: FrameType) -> bool:
    if not frame.f_code.co_flags & _CAN_SUSPEND or frame.f_lasti < 0:
        return False
    code, last = frame.f_code.co_code, frame.f_lasti
    # In Python 3.10 a frame that awaits stands before the instruction that does.
    return dis.opname[code[last]] in _SUSPENDS or (
        sys.version_info < (3, 11) and last + 2 < len(code) and dis.opname[code[last + 2]] == "YIELD_FROM"
    )
