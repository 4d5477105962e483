"""A real runtime of a driver without sockets, processes and real time: what it sends is kept, what it hears is said.

Its event loop has a clock of its own; its peers and its daemon are played by the test, message by message.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

from skate._base.config import Config
from skate._transport.reactor import Reactor, Timer, Waiter
from skate._transport.table_lock import TableLock
from skate._worker.calls.arguments import NO_ARGUMENTS
from skate._worker.calls.records import FunctionRecord
from skate._worker.core import Core, Kinds
from skate._worker.objects.object_ref import ObjectRef
from skate._worker.process.context import ProcessContext
from skate._worker.process.peers import Peer, Peers

ME = b"me______"


class Loop(Reactor):
    """An event loop without descriptors; time passes when the test says so."""

    def __init__(self) -> None:
        self.name = "test"
        self.lock = TableLock()
        self.on_turn = None
        self.polling = self.blocked_in_poll = self.watched = self.interrupted = False
        self.leftovers = ()
        self.dirty = []
        self.now = 0.0
        self._timers: list[Timer] = []
        self._stopped = False

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        timer = Timer(self.now + seconds, len(self._timers), callback)
        heapq.heappush(self._timers, timer)
        return timer

    def pass_time(self, seconds: float) -> None:
        """Call what is due in the next seconds, and drain."""
        until = self.now + seconds
        while self._timers and self._timers[0].when <= until:
            timer = heapq.heappop(self._timers)
            self.now = timer.when
            if timer.callback is not None:
                timer.callback()
        self.now = until
        if self.on_turn is not None:
            self.on_turn()

    def request_turn(self) -> None:
        pass

    def flush(self) -> None:
        pass

    def wait(self, waiter: Waiter, deadline: float | None = None) -> bool:
        assert waiter.done, "the test's only thread would wait for ever"
        return True


class Line:
    """A connection as this process sees it: ``sent`` is what it said."""

    def __init__(self, worker_id: bytes = b"") -> None:
        self.peer = Peer()
        self.peer.id = worker_id
        self.peer.address = f"/s/{worker_id.hex()}"
        self.sent: list[Any] = []
        self.out = bytearray()
        self.closed, self.close_reason, self.refused = False, "it broke", None

    def send(self, message: Any) -> None:
        self.sent.append(message)

    send_now = send

    def flush(self) -> None:
        pass

    def drain(self) -> None:
        pass

    def taken(self) -> list[Any]:
        """Return what was said since the last look."""
        sent, self.sent = self.sent, []
        return sent


class _Peers(Peers):
    """Other processes answer at every address, unless the test says no."""

    def __init__(self, context: ProcessContext) -> None:
        super().__init__(context)
        self.lines: dict[str, Any] = {}
        self.dead: set[str] = set()

    def reach(self, address: str, then: Any, failed: Any, worker_id: bytes = b"") -> None:
        if address in self.dead:
            failed("")
            return
        line = self.lines.get(address)
        if line is None:
            line = self.lines[address] = Line(worker_id or bytes.fromhex(address.rpartition("/")[2]))
        then(line)


class Lonely:
    """The runtime of a driver, alone."""

    def __init__(self) -> None:
        self.loop = Loop()
        context = ProcessContext("driver", ME, "/session", Config(record_call_sites=False), self.loop)
        self.core = Core(context, Kinds(peers=_Peers))
        self.daemon: Any = Line()
        self.core.daemon.attach(self.daemon)

    @property
    def peers(self) -> _Peers:
        assert isinstance(self.core.peers, _Peers)
        return self.core.peers

    def line(self, worker_id: bytes) -> Any:
        """Return the connection to a process, which there is already."""
        return self.peers.lines[f"/s/{worker_id.hex()}"]

    def hears(self, line: Any, message: Any) -> None:
        """Handle a message of another process, and what follows from it."""
        with self.core.context.lock:
            self.peers.handlers[type(message)](line, message)
        self.loop.pass_time(0)

    def function(self, name: str = "f") -> FunctionRecord:
        return FunctionRecord(1, name, b"code", 1, (), self.core.garbage.dead_functions)

    def call(self, function: FunctionRecord | None = None, retries: int = 3, *args: Any) -> ObjectRef[Any]:
        """Submit a task; return its ref."""
        assert NO_ARGUMENTS.plain
        route = self.core.task_submitter.route({"CPU": 10_000})
        made: ObjectRef[Any] = self.core.submission.submit_task(
            function or self.function(), args, {}, route, 1, retries, None
        )
        return made

    def value(self, ref: ObjectRef[Any]) -> Any:
        return self.core.values.get_one(ref, 0)
