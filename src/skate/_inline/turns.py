"""In place of the reactor: no sockets, no loop; what was said under the lock is done when it is released.

Whoever releases the lock first delivers the messages that were sent meanwhile, in their order, then
lets go of what ``__del__`` methods left, and then, without the lock, starts or resumes the strands that
were called, one after the other, standing by for each. So nothing happens while a table is half
changed, and a single user thread sees everything in one order.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from skate._base.clock import monotonic
from skate._transport.connection import Connection, Handler
from skate._transport.reactor import (
    MAX_POLL_S,
    Flushable,
    Reactor,
    Timer,
    Waiter,
    in_main_thread,
    print_bug,
)
from skate._transport.table_lock import TableLock, suspend


class Begun(Protocol):
    """Something to be started or resumed, without the lock."""

    def go(self, stand_by: bool) -> list[Begun]:
        """Do it; return what else is to be done. ``stand_by``: wait until it has settled."""


class Sleeper(Protocol):
    """A thread that waits in its own way."""

    def sleep(self, waiter: Waiter, deadline: float | None) -> bool:
        """See ``Turns.wait``."""


class _Here(threading.local):
    sleeper: Sleeper | None = None


#: The strand that the calling thread is, if it is one.
here = _Here()


class Door:
    """The lock. See the module's text."""

    __slots__ = ("inner", "_turns", "_depth")

    def __init__(self, turns: Turns) -> None:
        #: The lock without what follows its release.
        self.inner = TableLock()
        self._turns = turns
        self._depth = 0

    def acquire(self) -> None:
        """Take the lock: see TableLock."""
        self.inner.__enter__()
        self._depth += 1

    def release(self) -> None:
        """Do what was said meanwhile, give the lock back, and start what was called."""
        turns = self._turns
        self._depth -= 1
        if self._depth:  # a debugger's: what it interrupted goes on first
            self.inner.release()
            return
        suspend()
        try:
            turns.deliver()
            begun, turns.begun = turns.begun, []
        finally:
            self.inner.__exit__(None, None, None)
        if begun:
            turns.start(begun)
        if any(turns.leftovers):
            turns.request_turn()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *exc: object) -> None:
        self.release()


class Turns(Reactor):
    """See the module's text."""

    def __init__(self, name: str) -> None:
        # Not the reactor's own: it would open descriptors.
        self.name = name
        self.lock = Door(self)  # type: ignore[assignment]
        self.on_turn: Callable[[], None] | None = None
        #: What __del__ methods leave behind is seen to at once.
        self.polling = self.blocked_in_poll = True
        self.watched = False
        self.leftovers: tuple[deque[Any], ...] = ()
        self.on_bug: Callable[[BaseException], None] = print_bug
        self.interrupted = False
        self.on_interrupt: Callable[[], None] = lambda: None
        self.dirty: list[Flushable] = []
        #: Said and not heard yet: to whom, and what.
        self.messages: deque[tuple[End, Any]] = deque()
        #: Called and not started yet.
        self.begun: list[Begun] = []
        self._stopped = False
        self._pending: dict[threading.Timer, Timer] = {}
        #: What threads of the program sleep on.
        self.sleeping: set[threading.Lock] = set()

    # ------------------------------------------------------------------ turning

    def deliver(self) -> None:
        """Hand over what was said. Under the lock."""
        messages = self.messages
        while True:
            while messages:
                end, message = messages.popleft()
                try:
                    end.receive(message)
                except Exception as bug:  # a handler's bug must not stop the others
                    self.on_bug(bug)
            if self.on_turn is not None:
                self.on_turn()
            if not messages:
                return

    def start(self, begun: list[Begun]) -> None:
        """Start or resume strands in their order. Without the lock."""
        sleeper = here.sleeper
        if sleeper is not None and getattr(sleeper, "ending", False):
            sleeper.bequeath(begun)  # type: ignore[attr-defined]
            return
        waiting = deque(begun)
        try:
            while waiting:
                waiting.extend(waiting.popleft().go(True))
        except BaseException:  # raised in this thread from outside: nobody stands by any more, but all start
            for one in waiting:
                one.go(False)
            raise

    def request_turn(self) -> None:
        """See to what is left behind, unless whoever has the lock will. Safe in ``__del__``."""
        inner = self.lock.inner  # type: ignore[attr-defined]
        if inner.is_owned() or not inner.try_enter():
            return
        try:
            self.deliver()
            begun, self.begun = self.begun, []
        finally:
            inner.__exit__(None, None, None)
        for one in begun:
            # We may be anywhere: nobody stands by here.
            for following in one.go(False):
                following.go(False)

    def wake(self) -> None:
        """See Reactor."""
        self.request_turn()

    def nudge(self) -> None:
        """See Reactor."""
        for gate in list(self.sleeping):
            release(gate)

    def flush(self) -> None:
        """Nothing is kept back here."""

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """See Reactor: on a thread of its own."""
        timer = Timer(monotonic() + seconds, 0, callback)

        def fire() -> None:
            self._pending.pop(thread, None)
            with self.lock:
                call, timer.callback = timer.callback, None
                if call is not None and not self._stopped:
                    call()

        thread = threading.Timer(seconds, fire)
        thread.daemon = True
        thread.name = "skate-inline-timer"
        self._pending[thread] = timer
        try:
            thread.start()
        except RuntimeError:
            del self._pending[thread]
            raise
        return timer

    # ------------------------------------------------------------------ waiting

    def wait(self, waiter: Waiter, deadline: float | None = None) -> bool:
        """See Reactor."""
        if waiter.done:
            return True
        sleeper = here.sleeper
        if sleeper is not None:
            return sleeper.sleep(waiter, deadline)
        gate = threading.Lock()
        gate.acquire()
        with self.lock:
            waiter.gate = gate
        self.sleeping.add(gate)
        try:
            while not (waiter.done or self._stopped):
                if self.interrupted and sleeper is None and in_main_thread():
                    self.interrupted = False
                    self.on_interrupt()
                    continue
                if not sleep(gate, deadline):
                    break
        finally:
            self.sleeping.discard(gate)
        return waiter.done

    # ------------------------------------------------------------------ end

    def stop(self) -> None:
        """See Reactor."""
        self._stopped = True

    def close(self) -> None:
        """See Reactor."""
        self._stopped = True
        for thread in list(self._pending):
            thread.cancel()
        for thread in list(self._pending):
            if thread is not threading.current_thread():
                thread.join(1)
        self._pending.clear()

    def abandon(self) -> None:
        """See Reactor."""
        self._stopped = True
        self.lock = Door(self)  # type: ignore[assignment]  # whoever had it is not here


def sleep(gate: threading.Lock, deadline: float | None) -> bool:
    """Wait until the gate opens; False: the deadline (monotonic seconds) came first."""
    if deadline is None:
        return gate.acquire()
    while True:
        left = min(max(deadline - monotonic(), 0), MAX_POLL_S)
        if gate.acquire(timeout=left):
            return True
        if monotonic() >= deadline:
            return False


def release(gate: threading.Lock) -> None:
    """Open a gate, whoever else does so at the same time."""
    try:
        gate.release()
    except RuntimeError:
        pass


class End(Connection):
    """One end of a line: what is sent here is heard at the other end."""

    __slots__ = ("turns", "other", "table")

    def __init__(self, turns: Turns, table: Mapping[type, Handler]) -> None:
        # Not the connection's own: there is no socket.
        self.turns = turns
        self.table = table
        self.other: End
        self.out = bytearray()
        self.peer: Any = None
        self.closed = False
        self.close_reason = ""

    @property
    def queued_bytes(self) -> int:
        """Nothing waits for a kernel here."""
        return 0

    def send(self, message: Any) -> None:
        """Have it heard at the other end, when the lock is released. Under the lock."""
        if not self.closed:
            self.turns.messages.append((self.other, message))

    def send_now(self, message: Any) -> None:
        """See Connection: nothing is kept back here."""
        self.send(message)

    def receive(self, message: Any) -> None:
        """Call whoever sees to messages of this kind; what nobody sees to does not matter here."""
        handler = self.table.get(type(message))
        if handler is not None:
            handler(self, message)

    def flush(self) -> None:
        """Nothing is kept back."""

    def drain(self) -> None:
        """What was said before is heard before."""

    def close(self, reason: str = "") -> None:
        """Say nothing more."""
        self.closed, self.close_reason = True, reason

    def abandon(self) -> None:
        """Say nothing more."""
        self.closed = True


def line(turns: Turns, one: Mapping[type, Handler], other: Mapping[type, Handler]) -> tuple[End, End]:
    """Return the two ends of a line, and who listens at each."""
    ends = End(turns, one), End(turns, other)
    ends[0].other, ends[1].other = ends[1], ends[0]
    return ends
