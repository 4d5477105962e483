"""Cancels calls in the process that runs them. The owner's part is in ``calls.cancellation``.

A task runs on the main thread, where a signal raises KeyboardInterrupt: in user code at once, even
in a system call; in the runtime's own code (``get``, pickling), at its next safe point; while a module
is imported, at the end of that. A signal that comes late finds another call, or none, and does nothing.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from skate._base.process import end_process_group
from skate._transport.connection import Connection
from skate._wire import node
from skate._wire import worker as wire
from skate._worker.execution.failures import withdrawn
from skate._worker.execution.lanes import Key
from skate._worker.execution.runner import Invoker
from skate._worker.process.context import ProcessContext
from skate._worker.process.daemon_link import DaemonLink
from skate._worker.process.signals import Gate

#: A signal whose handler did not run is sent again after this time (seconds).
_RESEND_DELAY_S = 0.05
#: The file that Python names for the frames of its import system.
_IMPORT_SYSTEM = "<frozen importlib._bootstrap>"


class Interrupts:
    """Interrupts calls that run here. Its sets change under the lock, or on the thread that runs the call.

    Args:
        cancel_children: cancels the calls that a call (owner, seq, with force) has made.
    """

    def __init__(
        self,
        context: ProcessContext,
        daemon: DaemonLink,
        gate: Gate,
        invoker: Invoker,
        cancel_children: Callable[[bytes, int, bool], None],
    ) -> None:
        self._context = context
        self._daemon = daemon
        self._gate = gate
        self._invoker = invoker
        self._cancel_children = cancel_children
        #: Calls that run here, or are about to, and were cancelled; and some that had ended before.
        self.cancelled: set[Key] = set()
        #: The handler ran since the last call was cancelled.
        self._handled = True
        #: Called by the handler of the next signal, if a debugger sent it.
        self.on_debugger: Callable[[Any], None] | None = None
        #: The next KeyboardInterrupt is for a statement that was typed at a breakpoint.
        self._typed = False

    def install(self) -> None:
        """Take over SIGINT. On the main thread."""
        self._gate.set_own(signal.SIGINT, self._on_signal)

    # ------------------------------------------------------------------ messages (under the lock)

    def cancel_requested(self, connection: Connection, message: wire.CancelCall) -> None:
        """Cancel a call that was sent here, for its caller."""
        invoker = self._invoker
        key = (connection.peer.id, message.seq)
        call = invoker.withdraw(connection, message.seq)
        if call is not None:
            self.answer(connection, call)
            return
        runner = invoker.runner
        if runner is not None:
            if runner.cancel(connection, message.seq):
                self._recurse(key, message)
            return
        self.cancelled.add(key)
        if invoker.running_call != key:
            return  # it has ended, or the main thread is just about to begin it: see ``was_early``
        self._recurse(key, message)
        if invoker.host is not None:
            return  # a method is not interrupted: it may ask
        if message.force:
            self._end()
        self._handled = False
        self._signal(key)

    def _signal(self, key: Key) -> None:
        ident = threading.main_thread().ident
        assert ident is not None
        signal.pthread_kill(ident, signal.SIGINT)
        self._context.reactor.call_later(_RESEND_DELAY_S, lambda: self._resend(key))

    def interrupt_for_debugger(self, call: Callable[[Any], None]) -> None:
        """Have the main thread call a function, with its current frame, in the handler of a signal."""
        self.on_debugger = call
        self._wake_debugger()

    def _wake_debugger(self) -> None:
        if self.on_debugger is not None:
            ident = threading.main_thread().ident
            assert ident is not None
            signal.pthread_kill(ident, signal.SIGINT)
            self._context.reactor.call_later(_RESEND_DELAY_S, self._wake_debugger)

    def _resend(self, key: Key) -> None:
        """Send a signal again that came just before a system call, which it does not interrupt."""
        if not self._handled and key in self.cancelled and self._invoker.running_call == key:
            self._signal(key)

    def _recurse(self, key: Key, message: wire.CancelCall) -> None:
        if message.recursive:
            self._cancel_children(*key, message.force)

    def answer(self, connection: Connection, call: wire.Call) -> None:
        """Tell the caller that a call was cancelled before it began."""
        name = self._invoker.name_of(connection.peer, call)
        connection.send(wire.Reply(call.seq, wire.ERROR, withdrawn(connection.peer.id, call.seq, name)))
        connection.flush()

    def _end(self) -> None:
        """Kill this process, and nothing but the running call with it."""
        self._invoker.return_queued_tasks()
        self._context.reactor.flush()
        self._daemon.send(node.Leaving("its task was cancelled with force"))
        self._daemon.flush()
        end_process_group()

    # ------------------------------------------------------------------ around calls

    def was_early(self, connection: Connection, call: wire.Call) -> bool:
        """Tell whether a call that is about to run was cancelled after it left the queue, and answer it if
        so. Cancels that come later find it running."""
        if (connection.peer.id, call.seq) not in self.cancelled:
            return False
        self.cancelled.clear()
        with self._context.locked:
            self.answer(connection, call)
        return True

    def call_ended(self, key: Key) -> None:
        """Forget a call that ended, where several run."""
        self.cancelled.discard(key)

    # ------------------------------------------------------------------ the signal, on the main thread

    def _on_signal(self, signum: int, frame: Any) -> None:
        if os.getpid() != self._context.pid:
            signal.default_int_handler(signum, None)  # a child that user code forked
        if self.on_debugger is not None:
            call, self.on_debugger = self.on_debugger, None
            call(frame)
            return
        self._handled = True
        if _imports(frame):
            # The module would stay half made in this process, for the tasks that come.
            self._gate.put_off(signum, self._raise)
        else:
            self._gate.arrived(signum, self._raise, frame)

    def interrupt_typed(self) -> None:
        """Raise KeyboardInterrupt at the next safe point, in a statement that was typed. In the handler."""
        self._typed = True
        self._gate.put_off(signal.SIGINT, self._raise)

    def _raise(self, signum: int, frame: Any) -> None:
        """Raise KeyboardInterrupt, unless the call has ended. In user code, or at a safe point."""
        if self._typed:
            self._typed = False
            raise KeyboardInterrupt
        if self._invoker.running_call in self.cancelled and self._invoker.host is None:
            raise KeyboardInterrupt


def _imports(frame: FrameType | None) -> bool:
    """Tell whether a module is being imported where a frame is."""
    while frame is not None:
        if frame.f_code.co_filename == _IMPORT_SYSTEM:
            return True
        frame = frame.f_back
    return False
