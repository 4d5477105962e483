"""Runs the calls of a simulated worker: each lasts for a virtual time, in which its process goes on reading."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from skate._base.clock import perf_counter
from skate._transport.reactor import TICK_S
from skate._wire import node
from skate._wire import worker as wire
from skate._worker.execution.executor import _SLOT, Executor
from skate._worker.execution.invocation import Result

from .world import Process

#: How long a call lasts without ``lasts`` (seconds).
DEFAULT_S = 0.001
#: Time from a worker's last message to its end (seconds).
_EXIT_S = 0.001


class Dies(BaseException):
    """Raised by user code that ends its process as a signal would."""


def lasts(seconds: float) -> Callable[[Any], Any]:
    """Have calls of a function last so long, in virtual time."""

    def mark(function: Any) -> Any:
        function.virtual_seconds = seconds
        return function

    return mark


class _NoTitle:
    busy = False

    def show_task(self) -> None:
        pass

    idle = show_task

    def become(self, class_name: str) -> None:
        pass


class ScriptedExecutor(Executor):
    """The real executor, but for its main thread: each call has an event for its beginning and one for its end."""

    process: Process

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.title = _NoTitle()  # type: ignore[assignment]
        self._busy = False

    def _called(self, connection: Any, message: Any) -> None:
        self._queue.append((connection, message))
        self._go_on()

    def _go_on(self) -> None:
        if self._queue and not self._busy and not self._stopping:
            self._busy = True
            self._reactor.call_later(0.0, self._begin)

    def _begin(self) -> None:
        if self._stopping or not self._queue:
            self._busy = False
            return
        connection, message = self._queue.popleft()
        if type(message) is wire.Call:
            self._begin_call(connection, message)
            return
        self._become(message)
        self._busy = False
        self._go_on()

    def _begin_call(self, connection: Any, call: wire.Call) -> None:
        word = call.seq | (call.flags & wire.REPEATABLE) << 62
        _SLOT.pack_into(self._progress_table, self._slot_offset, connection.peer.id, word)
        self._caller, self._seq, self._running = connection.peer.id, call.seq, True
        self._started = perf_counter()
        if self.host is None:
            target = connection.peer.functions[call.fn].load()
        else:
            target = self.host.method(str(call.fn))
        seconds = getattr(target, "virtual_seconds", DEFAULT_S)
        if seconds > TICK_S:  # the background thread takes the lead
            self._reactor.call_later(TICK_S, self.return_queued_tasks)
        self._reactor.call_later(seconds, lambda: self._end_call(connection, call))

    def _end_call(self, connection: Any, call: wire.Call) -> None:
        received: list[Any] = []
        try:
            result: Result | None = self._invoke(connection, call, received)
        except Dies:
            self.process.end(signal.SIGKILL)
        except Exception as error:
            result = self.failed(error, connection, call)
        if result is None:  # the actor ends
            return
        taken = int((perf_counter() - self._started) * 1_000_000)
        self._running = self._busy = False
        if self.invocation.reply(connection, call, result, taken, received):
            connection.flush()
        self._go_on()

    def _leave(self, reason: str, code: int = 0, intended: bool = True) -> None:
        super()._leave(reason, code, intended)
        self._reactor.call_later(_EXIT_S, self._exit)

    def _exit(self) -> None:
        if self.host is not None:
            self.host.farewell()
        self._garbage.drain()
        self.on_end()
        self._reactor.flush()
        self.process.end(self._exit_code << 8)

    def _owner_left(self, connection: Any, message: node.OwnerLeft) -> None:
        if self._running and self._caller == message.owner and not self._refs.has_owned():
            self._daemon.send(node.Leaving("the process that had sent it its task ended"))
            self._daemon.flush()
            self.process.end(signal.SIGKILL)
        super()._owner_left(connection, message)
