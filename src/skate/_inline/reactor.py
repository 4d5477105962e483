"""Replaces the reactor in one process: delivers messages when the lock is released, without sockets and loop.

The first thread that releases the lock delivers the messages that were sent meanwhile, in their order.
It then processes the deques that ``__del__`` methods filled. Without the lock, it starts or resumes call
threads, one after the other, and pauses for each. So nothing happens while a table is half changed, and a
single user thread sees everything in one order.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
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


class Deferred(Protocol):
    """Work that the reactor does after it has released the lock."""

    def run_deferred(self, pause: bool) -> list[Deferred]:
        """Do it, and return more work of this kind. ``pause``: return only after it has settled."""


class Sleeper(Protocol):
    """A thread with a ``wait`` of its own."""

    def sleep(self, waiter: Waiter, deadline: float | None) -> bool:
        """Wait in place of ``InlineReactor.wait``."""


class _Here(threading.local):
    sleeper: Sleeper | None = None


#: The call thread that the calling thread is, if it is one.
here = _Here()


class DeliveringLock:
    """The process's lock; its last release delivers messages and starts deferred work."""

    __slots__ = ("inner", "_reactor", "_depth")

    def __init__(self, reactor: InlineReactor) -> None:
        #: The lock itself; its release does nothing else.
        self.inner = TableLock()
        self._reactor = reactor
        self._depth = 0

    def acquire(self) -> None:
        """Take the lock, as TableLock does."""
        self.inner.__enter__()
        self._depth += 1

    def release(self) -> None:
        """Deliver the waiting messages, release the lock, and start the deferred work."""
        reactor = self._reactor
        self._depth -= 1
        if self._depth:  # a debugger took it: the interrupted code releases it later
            self.inner.release()
            return
        suspend()
        try:
            reactor.deliver()
            deferred, reactor.deferred = reactor.deferred, []
        finally:
            self.inner.__exit__(None, None, None)
        if deferred:
            reactor.start(deferred)
        if any(reactor.leftovers):
            reactor.request_turn()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *exc: object) -> None:
        self.release()


class InlineReactor(Reactor):
    """Delivers messages within the process and starts call threads, when its lock is released."""

    def __init__(self, name: str) -> None:
        # Not the reactor's own: it would open descriptors.
        self.name = name
        self.lock = DeliveringLock(self)  # type: ignore[assignment]
        self.on_turn: Callable[[], None] | None = None
        #: Deques that __del__ methods filled are processed at once.
        self.polling = self.blocked_in_poll = True
        self.watched = False
        self.awake_thread = 0
        self.leftovers: tuple[deque[Any], ...] = ()
        self.on_bug: Callable[[BaseException], None] = print_bug
        self.interrupted = False
        self.on_interrupt: Callable[[], None] = lambda: None
        self.dirty: list[Flushable] = []
        #: Sent and not delivered yet: the receiver and the message.
        self.messages: deque[tuple[LocalConnection, Any]] = deque()
        #: To be done when the lock is released.
        self.deferred: list[Deferred] = []
        self._stopped = False
        self._pending: dict[threading.Timer, Timer] = {}
        #: Locks on which threads of the program sleep.
        self.sleeping: set[threading.Lock] = set()

    # ------------------------------------------------------------------ turning

    def deliver(self) -> None:
        """Deliver all messages. Under the lock."""
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

    def start(self, deferred: list[Deferred]) -> None:
        """Do deferred work in its order. Without the lock."""
        sleeper = here.sleeper
        if sleeper is not None and getattr(sleeper, "ending", False):
            sleeper.pass_on(deferred)  # type: ignore[attr-defined]
            return
        waiting = deque(deferred)
        try:
            while waiting:
                waiting.extend(waiting.popleft().run_deferred(True))
        except BaseException:  # raised in this thread from outside: no thread pauses any more, but all start
            start_without_pause(waiting)
            raise

    def request_turn(self) -> None:
        """Process what ``__del__`` methods left, unless the lock's holder will do so. Safe in ``__del__``."""
        inner = self.lock.inner  # type: ignore[attr-defined]
        if inner.is_owned() or not inner.try_enter():
            return
        try:
            self.deliver()
            deferred, self.deferred = self.deferred, []
        finally:
            inner.__exit__(None, None, None)
        start_without_pause(deferred)  # this may run at any line of user code

    def wake(self) -> None:
        """See Reactor."""
        self.request_turn()

    def nudge(self) -> None:
        """See Reactor."""
        for gate in list(self.sleeping):
            release(gate)

    def flush(self) -> None:
        """Do nothing: messages are not buffered."""

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
        self.lock = DeliveringLock(self)  # type: ignore[assignment]  # its holder may not exist here


def sleep(gate: threading.Lock, deadline: float | None) -> bool:
    """Wait until the gate opens; return False if the deadline (monotonic seconds) came first."""
    if deadline is None:
        return gate.acquire()
    while True:
        left = min(max(deadline - monotonic(), 0), MAX_POLL_S)
        if gate.acquire(timeout=left):
            return True
        if monotonic() >= deadline:
            return False


def start_without_pause(deferred: Iterable[Deferred]) -> None:
    """Do deferred work, and what follows from it, without a pause for any of it. Without the lock."""
    for one in deferred:
        for following in one.run_deferred(False):
            following.run_deferred(False)


def release(gate: threading.Lock) -> None:
    """Open a gate, also if another thread does so at the same time."""
    try:
        gate.release()
    except RuntimeError:
        pass


class LocalConnection(Connection):
    """One of two connected ends: messages sent here arrive at the other end."""

    __slots__ = ("other", "table")

    reactor: InlineReactor

    def __init__(self, reactor: InlineReactor, table: Mapping[type, Handler]) -> None:
        # Not the connection's own: there is no socket.
        self.reactor = reactor
        self.table = table
        self.other: LocalConnection
        self.out = bytearray()
        self.peer: Any = None
        self.closed = False
        self.close_reason = ""

    @property
    def queued_bytes(self) -> int:
        """Return 0: no message waits for the kernel."""
        return 0

    def send(self, message: Any) -> None:
        """Deliver the message at the other end when the lock is released. Under the lock."""
        if not self.closed:
            self.reactor.messages.append((self.other, message))

    def send_now(self, message: Any) -> None:
        """Send without a delay, as ``send`` does."""
        self.send(message)

    def receive(self, message: Any) -> None:
        """Call the handler of this type of message; drop a message without a handler."""
        handler = self.table.get(type(message))
        if handler is not None:
            handler(self, message)

    def flush(self) -> None:
        """Do nothing: messages are not buffered."""

    def drain(self) -> None:
        """Do nothing: messages arrive in the order in which they were sent."""

    def close(self, reason: str = "") -> None:
        """Send no more messages."""
        self.closed, self.close_reason = True, reason

    def abandon(self) -> None:
        """Send no more messages."""
        self.closed = True


def pair(
    reactor: InlineReactor, one: Mapping[type, Handler], other: Mapping[type, Handler]
) -> tuple[LocalConnection, LocalConnection]:
    """Return two connected ends, with the handlers of each."""
    ends = LocalConnection(reactor, one), LocalConnection(reactor, other)
    ends[0].other, ends[1].other = ends[1], ends[0]
    return ends
