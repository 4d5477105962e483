"""Strands: the threads that run calls in this process, and how their starters stand by.

::

    starter                         strand
    go() --gate opens-------------> runs user code
      stands by                       |
      goes on <----settled------------+-- the call ended
                                      +-- it waits (get, wait, back-pressure); who ends the wait
                                          stands by again, as if it had started it
    (after PATIENCE seconds the starter goes on in any case; from then on nobody stands by for that call)

While a debugger looks at a strand there is no hurry: its starter stands by as long as it takes.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from skate._base import threads
from skate._inline.turns import Begun, here, release, sleep
from skate._transport.reactor import Waiter

if TYPE_CHECKING:
    from skate._inline.turns import Turns

#: A call that neither ends nor waits holds up its starter this long (seconds), and nobody after that: it
#: may wait in its own way for something that only the starter will do.
PATIENCE = 0.5


class Doomed(BaseException):
    """What runs here was ended from outside (``kill``, ``shutdown``): unwinds user code at its next wait."""


class _Gate:
    """In place of a lock that a waiter sleeps on: opening it calls the strand when the lock is free."""

    __slots__ = ("_strand",)

    def __init__(self, strand: Strand) -> None:
        self._strand = strand

    def locked(self) -> bool:
        """See ``Waiter.open_gate``."""
        return True

    def release(self) -> None:
        """See ``Waiter.open_gate``. Under the lock."""
        self._strand.call()


class Strand:
    """A thread. It runs one job after the other, each when ``go`` is called."""

    def __init__(self, turns: Turns, over: Callable[[Strand], None]) -> None:
        self._turns = turns
        self._over = over
        self._gate = threading.Lock()
        self._gate.acquire()
        self._opening = _Gate(self)
        self._job: Callable[[], None] | None = None
        #: Of its starter; others that posted something here (loops).
        self._settling: list[threading.Lock] = []
        self._watched = False
        self._legacy: list[Begun] = []
        self._trace: Any = None
        #: ``go`` is on its way.
        self._called = False
        #: It has no job; it is to have none any more; its thread has ended.
        self._idle = self._retired = self.gone = False
        #: It sleeps until this is done.
        self._waiter: Waiter | None = None
        #: It can take no part just now: it waits, or stands by for another one.
        self.busy = False
        #: It has said its last: what that begins is its starter's to start.
        self.ending = False
        #: What runs here is to end; or gets a KeyboardInterrupt, at its next wait.
        self.doomed = False
        self.interrupted = False
        #: Nobody stands by for it: its job is a loop, or takes long.
        self.alone = False
        self.thread = threads.start("skate-inline", self._run)

    @property
    def here(self) -> bool:
        """Whether the calling thread is this one."""
        return here.sleeper is self

    # ------------------------------------------------------------------ from outside (under the lock)

    def begin(self, job: Callable[[], None]) -> None:
        """Give it a job, to be started when the lock is released."""
        self._job = job
        self._turns.begun.append(self)

    def call(self) -> None:
        """Have it resumed when the lock is released, if it waits."""
        if self._waiter is not None and not self._called:
            self._called = True
            self._turns.begun.append(self)

    def doom(self) -> None:
        """End what runs here, at its next wait."""
        self.doomed = True
        self.call()

    def interrupt(self) -> None:
        """Raise KeyboardInterrupt in what runs here, at its next wait."""
        self.interrupted = True
        self.call()

    def retire(self) -> None:
        """End the thread when its job is over. Under the lock."""
        self._retired = True
        self._job = None
        if self._idle:
            release(self._gate)

    # ------------------------------------------------------------------ starting (without the lock)

    def go(self, stand_by: bool) -> list[Begun]:
        """See Begun."""
        if self.gone:
            return []
        # By its thread: between two jobs it is nobody's sleeper, and may begin the next of its own.
        if not stand_by or self.alone or self.thread.ident == threading.get_ident():
            self._trace = sys.gettrace()
            release(self._gate)
            return []
        self._watched = True
        self._trace = sys.gettrace()
        try:
            self.stand_by(lambda settled: release(self._gate))
        except BaseException:
            for one in self._watched_no_more():
                one.go(False)
            raise
        return self._watched_no_more()

    def _watched_no_more(self) -> list[Begun]:
        with self._turns.lock.inner:  # type: ignore[attr-defined]
            self._watched = False
            legacy, self._legacy = self._legacy, []
        return legacy

    def stand_by(self, begin: Callable[[threading.Lock], None]) -> None:
        """Have something begin here, and wait until the strand settles (or the lock given is released)."""
        me = here.sleeper
        was_busy = False
        if isinstance(me, Strand):
            # First of all: what begins may look whether it can count on us.
            was_busy, me.busy = me.busy, True
        try:
            settled = threading.Lock()
            settled.acquire()
            self._settling.append(settled)
            if me is None:
                self._turns.sleeping.add(settled)  # Ctrl-C ends it, too
            begin(settled)
            while not settled.acquire(timeout=PATIENCE):
                if not _debugged(self.thread.ident):
                    self.alone = True
                    return
        finally:
            if isinstance(me, Strand):
                me.busy = was_busy
            else:
                self._turns.sleeping.discard(settled)

    # ------------------------------------------------------------------ on the strand itself

    def settle(self) -> None:
        """Let whoever stands by go on."""
        settling, self._settling = self._settling, []
        for one in settling:
            release(one)

    def bequeath(self, begun: list[Begun]) -> None:
        """The job's last words began this: it is started by whoever stands by, else here, after the job."""
        self._legacy.extend(begun)

    def take_legacy(self) -> list[Begun]:
        """Return what was bequeathed. Under the lock."""
        legacy, self._legacy = self._legacy, []
        return legacy

    def sleep(self, waiter: Waiter, deadline: float | None) -> bool:
        """See ``Turns.wait``."""
        # A finalizer may wait inside another wait, at almost any line of it.
        outer, was_busy = self._waiter, self.busy
        try:
            return self._sleep(waiter, deadline)
        finally:
            if outer is not None:
                self._waiter, self.busy = outer, was_busy
                release(self._gate)  # what came meanwhile was for either: it looks

    def _sleep(self, waiter: Waiter, deadline: float | None) -> bool:
        turns = self._turns
        while True:
            with turns.lock:
                self._check()
                if waiter.done or turns.stopped:
                    return waiter.done
                waiter.gate = self._opening  # type: ignore[assignment]
                self._waiter = waiter
            self.busy = True
            self.settle()
            try:
                woken = sleep(self._gate, deadline)
                if not woken:
                    with turns.lock.inner:  # type: ignore[attr-defined]
                        called = self._called
                        if not called:
                            self._waiter = None
                            waiter.gate = None
                    if called:
                        self._gate.acquire()  # it is about to be opened
            finally:
                self._called, self._waiter, self.busy = False, None, False
            if not woken:
                self._check()
                return waiter.done

    def _check(self) -> None:
        if self.doomed:
            raise Doomed
        if self.interrupted:
            self.interrupted = False
            raise KeyboardInterrupt

    def _run(self) -> None:
        turns = self._turns
        job: Callable[[], None] | None = None
        while True:
            with turns.lock.inner:  # type: ignore[attr-defined]
                self.gone = self._retired
                self._idle = not self.gone
            if not self.gone:
                self._gate.acquire()
                with turns.lock.inner:  # type: ignore[attr-defined]
                    self._idle = False
                    job, self._job = self._job, None
                    self.gone = job is None
            if self.gone or job is None:
                self.settle()
                return
            traced = self._trace is not None and sys.gettrace() is None
            # Between jobs a finalizer that runs here waits as any thread does: the gate is for the next job.
            here.sleeper = self
            try:
                if traced:
                    sys.settrace(self._trace)  # breakpoints of whoever started it
                job()
            except Doomed:
                pass
            except BaseException as bug:
                turns.on_bug(bug)
            finally:
                if traced:
                    sys.settrace(None)
            job = None
            here.sleeper = None
            self._trace = None
            self.interrupted = self.ending = self.alone = False
            self._over(self)
            with turns.lock.inner:  # type: ignore[attr-defined]
                mine: list[Begun] = []
                if not self._watched:
                    mine, self._legacy = self._legacy, []
            self.settle()
            if mine:
                turns.start(mine)


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
