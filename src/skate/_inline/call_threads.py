"""Runs calls on threads of this process, while their starters pause.

::

    starter                         call thread
    run_deferred() --gate opens---> runs user code
      pauses                          |
      goes on <----settled------------+-- the call ended
                                      +-- it waits (get, wait, back-pressure); the thread that ends the
                                          wait pauses again, as if it had started the call
    (after MAX_PAUSE_S the starter goes on in any case; from then on no thread pauses for that call)

While a debugger looks at a call thread, its starter pauses without a limit.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from skate._base import threads
from skate._inline.reactor import Deferred, here, release, sleep, start_without_pause
from skate._transport.reactor import Waiter

if TYPE_CHECKING:
    from skate._inline.reactor import InlineReactor

#: The longest time for which a starter pauses for a call that neither ends nor waits; after that no thread
#: pauses for the call: it may wait in its own way for something that only the starter will do.
MAX_PAUSE_S = 0.5


class Killed(BaseException):
    """Unwinds user code at its next wait: its call was ended from outside (``kill``, ``shutdown``)."""


class _Gate:
    """Replaces a lock on which a waiter sleeps: opening it resumes the call thread when the lock is free."""

    __slots__ = ("_call_thread",)

    def __init__(self, call_thread: CallThread) -> None:
        self._call_thread = call_thread

    def locked(self) -> bool:
        """See ``Waiter.open_gate``."""
        return True

    def release(self) -> None:
        """See ``Waiter.open_gate``. Under the lock."""
        self._call_thread.call()


class _Start:
    """Starts a call thread's next job when the lock is free. See Deferred."""

    __slots__ = ("_call_thread",)

    def __init__(self, call_thread: CallThread) -> None:
        self._call_thread = call_thread

    def run_deferred(self, pause: bool) -> list[Deferred]:
        """Start the job."""
        return self._call_thread.start_job(pause)


class CallThread:
    """A thread that runs one job after the other, each when ``start_job`` is called."""

    def __init__(self, reactor: InlineReactor, on_end: Callable[[CallThread], None]) -> None:
        self._reactor = reactor
        self._on_end = on_end
        #: It sleeps on the first in a wait, on the second between jobs. An actor's next job may begin before
        #: the last one has returned: a wait of that one, in a finalizer, must not take its start.
        self._gate, self._start_gate = threading.Lock(), threading.Lock()
        self._gate.acquire()
        self._start_gate.acquire()
        self._opening = _Gate(self)
        self._job: Callable[[], None] | None = None
        #: Locks on which its starters pause.
        self._settling: list[threading.Lock] = []
        self._watched = False
        self._inherited: list[Deferred] = []
        self._trace: Any = None
        #: It is among the reactor's deferred work, to be resumed.
        self._called = False
        #: It has no job; it takes no further job; its thread has ended.
        self._idle = self._retired = self.has_ended = False
        #: It sleeps until this waiter is done.
        self._waiter: Waiter | None = None
        #: It cannot begin anything just now: it waits, or pauses for another thread.
        self.busy = False
        #: Its job sends its last messages: its starter does the deferred work that they cause.
        self.ending = False
        #: Its call is to end, or to get a KeyboardInterrupt, at its next wait.
        self.killed = False
        self.interrupted = False
        #: No thread pauses for it: its job is a loop, or takes long.
        self.alone = False
        self.thread = threads.start("skate-inline", self._run)

    @property
    def is_current(self) -> bool:
        """Tell whether the calling thread is this one."""
        return here.sleeper is self

    # ------------------------------------------------------------------ from outside (under the lock)

    def begin(self, job: Callable[[], None]) -> None:
        """Set its job, which starts when the lock is released."""
        self._job = job
        self._reactor.deferred.append(_Start(self))

    def call(self) -> None:
        """Resume it when the lock is released, if it waits."""
        if self._waiter is not None and not self._called:
            self._called = True
            self._reactor.deferred.append(self)

    def kill(self) -> None:
        """End its call at the next wait."""
        self.killed = True
        self.call()

    def interrupt(self) -> None:
        """Raise KeyboardInterrupt in its call at the next wait."""
        self.interrupted = True
        self.call()

    def retire(self) -> None:
        """End the thread when its job has ended. Under the lock."""
        self._retired = True
        self._job = None
        if self._idle:
            release(self._start_gate)

    # ------------------------------------------------------------------ starting (without the lock)

    def run_deferred(self, pause: bool) -> list[Deferred]:
        """Resume its job, which waits. See Deferred."""
        return self._open(self._gate, pause)

    def start_job(self, pause: bool) -> list[Deferred]:
        """Start its next job. See Deferred."""
        # While its last job still waits for something, the starter must not pause: that may depend on it.
        return self._open(self._start_gate, pause and self._waiter is None)

    def _open(self, gate: threading.Lock, pause: bool) -> list[Deferred]:
        if self.has_ended:
            return []
        # Between two jobs, its own thread may start its next job: it must not pause for itself.
        if not pause or self.alone or self.thread.ident == threading.get_ident():
            self._trace = sys.gettrace()
            release(gate)
            return []
        self._watched = True
        self._trace = sys.gettrace()
        try:
            self.pause(lambda settled: release(gate))
        except BaseException:
            start_without_pause(self._stop_watching())
            raise
        return self._stop_watching()

    def _take_unwatched(self) -> list[Deferred]:
        """Return the work that was passed on, unless a starter still pauses and will do it."""
        with self._reactor.lock.inner:  # type: ignore[attr-defined]
            return [] if self._watched else self.take_inherited()

    def _stop_watching(self) -> list[Deferred]:
        with self._reactor.lock.inner:  # type: ignore[attr-defined]
            self._watched = False
            return self.take_inherited()

    def pause(self, begin: Callable[[threading.Lock], None]) -> None:
        """Call ``begin``, and wait until this call thread settles or releases the lock given to ``begin``."""
        me = here.sleeper
        was_busy = False
        if isinstance(me, CallThread):
            # Before anything begins: it may look whether this thread is free.
            was_busy, me.busy = me.busy, True
        try:
            settled = threading.Lock()
            settled.acquire()
            self._settling.append(settled)
            if me is None:
                self._reactor.sleeping.add(settled)  # Ctrl-C ends the pause, too
            begin(settled)
            while not settled.acquire(timeout=MAX_PAUSE_S):
                if not _debugged(self.thread.ident):
                    self.alone = True
                    return
        finally:
            if isinstance(me, CallThread):
                me.busy = was_busy
            else:
                self._reactor.sleeping.discard(settled)

    # ------------------------------------------------------------------ on the call thread itself

    def settle(self) -> None:
        """Let the pausing threads go on."""
        settling, self._settling = self._settling, []
        for one in settling:
            release(one)

    def pass_on(self, deferred: list[Deferred]) -> None:
        """Leave work to the thread that pauses for this one. Without one, it is done here, later."""
        self._inherited.extend(deferred)

    def take_inherited(self) -> list[Deferred]:
        """Return the work that was passed on. Under the lock."""
        inherited, self._inherited = self._inherited, []
        return inherited

    def sleep(self, waiter: Waiter, deadline: float | None) -> bool:
        """Wait on this thread. See ``InlineReactor.wait``."""
        # A finalizer may wait inside another wait, at almost any line of it.
        outer, was_busy = self._waiter, self.busy
        try:
            return self._sleep(waiter, deadline)
        finally:
            if outer is not None:
                self._waiter, self.busy = outer, was_busy
                release(self._gate)  # the outer wait checks whether it was resumed meanwhile

    def _sleep(self, waiter: Waiter, deadline: float | None) -> bool:
        reactor = self._reactor
        while True:
            with reactor.lock:
                self._check()
                if waiter.done or reactor.is_stopped:
                    return waiter.done
                waiter.gate = self._opening  # type: ignore[assignment]
                self._waiter = waiter
            self.busy = True
            unwatched = self._take_unwatched()
            self.settle()
            # A finalizer may wait while the job ends, perhaps for work that nobody else would do by then.
            start_without_pause(unwatched)
            try:
                woken = sleep(self._gate, deadline)
                if not woken:
                    with reactor.lock.inner:  # type: ignore[attr-defined]
                        called = self._called
                        if not called:
                            self._waiter = None
                            waiter.gate = None
                    if called:
                        self._gate.acquire()  # another thread is about to open it
            finally:
                self._called, self._waiter, self.busy = False, None, False
            if not woken:
                self._check()
                return waiter.done

    def _check(self) -> None:
        if self.killed:
            raise Killed
        if self.interrupted:
            self.interrupted = False
            raise KeyboardInterrupt

    def _run(self) -> None:
        reactor = self._reactor
        job: Callable[[], None] | None = None
        while True:
            with reactor.lock.inner:  # type: ignore[attr-defined]
                self.has_ended = self._retired
                self._idle = not self.has_ended
            if not self.has_ended:
                self._start_gate.acquire()
                with reactor.lock.inner:  # type: ignore[attr-defined]
                    self._idle = False
                    job, self._job = self._job, None
                    self.has_ended = job is None
            if self.has_ended or job is None:
                self.settle()
                return
            traced = self._trace is not None and sys.gettrace() is None
            # Only in a job: between jobs a finalizer waits as on any thread, as the gate is for the next job.
            here.sleeper = self
            try:
                if traced:
                    sys.settrace(self._trace)  # the starter's breakpoints
                job()
            except Killed:
                pass
            except BaseException as bug:
                reactor.on_bug(bug)
            finally:
                if traced:
                    sys.settrace(None)
            job = None
            here.sleeper = None
            self._trace = None
            self.interrupted = self.ending = self.alone = False
            self._on_end(self)
            unwatched = self._take_unwatched()
            self.settle()
            if unwatched:
                reactor.start(unwatched)


def _debugged(ident: int | None) -> bool:
    """Tell whether a debugger is at work, on this thread or on another."""
    monitoring = getattr(sys, "monitoring", None)
    if monitoring is not None and monitoring.get_tool(monitoring.DEBUGGER_ID) is not None:
        return True
    if _debugs(sys.gettrace()):
        return True
    frame = sys._current_frames().get(ident or 0)
    while frame is not None:
        if _debugs(frame.f_trace):
            return True
        frame = frame.f_back
    return False


def _debugs(trace: Any) -> bool:
    """Tell a debugger's trace function from that of coverage.py."""
    if trace is None:
        return False
    module = getattr(trace, "__module__", None) or type(trace).__module__
    return not str(module).startswith("coverage")
