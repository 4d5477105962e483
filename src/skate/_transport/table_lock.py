"""The lock of a process's tables. User code never runs on the thread that holds it.

Three ways lead from the runtime's own code into user code; each is closed while the lock is held:

- The collector runs ``__del__`` methods and weak reference callbacks at almost any instruction that
  allocates. Automatic collection is suspended from before the lock is taken until after the last change.
- The interpreter runs a signal's handler between two instructions of the main thread. The handler waits for
  the next safe point (``_worker.process.signals``).
- The last reference to a user's object is dropped. Tables hold bytes, not such objects; the few places
  that have one drop it outside of the lock.

The lock is re-entrant all the same: a trace function (a debugger's, a profiler's) remains, and must not hang
the process.

Suspending is ``gc.disable``, one flag for the whole process, which other threads may read or set meanwhile.
For them ``install`` puts functions in the place of ``gc.enable``, ``gc.disable`` and ``gc.isenabled`` that
speak of what the program *wants*; the flag itself belongs to this module. So does the lock: a second one
would resume collection under the first. ADR 25 has the proof, and the alternatives that lost.
"""

from __future__ import annotations

import gc
import os
import threading
from types import TracebackType

_lock = threading.RLock()

#: Stop automatic collection. Safe to repeat; allocates nothing.
suspend = gc.disable
#: Start it again, where ``state.wanted``.
resume = gc.enable


class _State:
    """The program's own setting of the collector. Changes under the lock, or by one assignment."""

    __slots__ = ("wanted", "installed")

    def __init__(self) -> None:
        self.wanted = gc.isenabled()
        self.installed = False


state = _State()


class TableLock:
    """A context manager for the lock. The busiest places write out what it does.

    ::

        suspend()       # no collection between the next two lines
        acquire()
        suspend()       # the thread that had the lock before has resumed collection
        try:
            ...
        finally:
            if state.wanted:
                resume()
            release()
    """

    __slots__ = ("acquire", "release", "is_owned")

    def __init__(self) -> None:
        install()
        self.acquire = _lock.acquire
        self.release = _lock.release
        #: Whether the calling thread holds it.
        self.is_owned = _lock._is_owned  # type: ignore[attr-defined]

    def __enter__(self) -> None:
        suspend()
        self.acquire()
        suspend()

    def try_enter(self) -> bool:
        """Enter if no other thread holds it; tell whether that was so."""
        if not self.acquire(blocking=False):
            return False  # the thread that holds it resumes collection when it leaves
        suspend()
        return True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if state.wanted:
            resume()
        self.release()


def enable() -> None:
    """Enable automatic garbage collection."""
    with TableLock():  # the collector must not run on a thread that changes tables
        state.wanted = True


def disable() -> None:
    """Disable automatic garbage collection."""
    state.wanted = False
    suspend()


def isenabled() -> bool:
    """Return true if automatic garbage collection is enabled."""
    return state.wanted


def install() -> None:
    """Let the program's calls of ``gc.enable``, ``gc.disable`` and ``gc.isenabled`` pass through here."""
    if state.installed:
        return
    state.installed = True
    state.wanted = gc.isenabled()
    for function in (enable, disable, isenabled):
        setattr(gc, function.__name__, function)
    os.register_at_fork(after_in_child=_after_fork)


def _after_fork() -> None:
    """Free the lock in a child: no thread that held it at the fork is there."""
    _lock._at_fork_reinit()  # type: ignore[attr-defined]
    if state.wanted:
        resume()
