"""The event loop of every process: led by whichever thread waits, so a call needs no hand-off.

Drivers and workers have user threads. A thread that must wait *leads* (polls, reads, dispatches) until
its wait is over; further threads *follow* (sleep on a gate) and are promoted when the leader leaves. A
background thread leads when no other thread has for a tick, so that peers are served while user code
computes. Daemon and control store have one thread, which calls ``run``.

::

    submit (any thread)                 wait (any thread)
         |  under self.lock                  |
         v                                   v          no leader
    tables, conn.send --dirty--> flush   [follower] ---------------> [leader] --turn()--> poll,
                                             ^   promoted: hand_over()  |     dispatch under lock,
                                             '--------------------------'     flush, timers

Rules: every table of the process is touched under ``lock`` only; nothing that can block, no user
code and no unpickling happens under it (see ``table_lock``).

User code may run at any other place, in a ``__del__`` method that the collector calls, and wait here itself:
a thread that leads already leads the inner wait, too, and one that follows takes its outer wait out of the
queue meanwhile. A signal's handler runs when its thread has left the lead (``on_interrupt``).
"""

from __future__ import annotations

import heapq
import os
import select
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from skate._base import descriptors, threads
from skate._base.clock import monotonic
from skate._transport.neglect import Neglect
from skate._transport.spin import Spin
from skate._transport.streams import Network
from skate._transport.table_lock import TableLock, resume, state, suspend

#: The background thread checks this often whether it should lead (seconds).
TICK_S = 0.002

#: A background thread that was just busy polls this long (seconds) before it looks at ``leftovers`` again;
#: if a turn left some, a tick.
LAZY_POLL_S = 0.01

#: epoll takes milliseconds as a C int: a longer wait polls several times (seconds).
MAX_POLL_S = 3600.0

READABLE = select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR
WRITABLE = select.EPOLLOUT


class Source(Protocol):
    """Something with a descriptor that the reactor watches."""

    def handle(self, events: int) -> None:
        """React to readiness. Under the reactor's lock."""


class Flushable(Protocol):
    """Something with bytes to send: a connection that was written to since the last flush."""

    def flush(self) -> None:
        """Send what is queued. Under the reactor's lock."""


class Waiter:
    """One thread's wait. ``notify`` it under the lock, once or more."""

    __slots__ = ("done", "gate", "thread", "leads")

    def __init__(self) -> None:
        self.done = False
        self.gate: threading.Lock | None = None
        #: The thread that waits, where that matters.
        self.thread = 0
        #: The reactor that its thread leads.
        self.leads: Reactor | None = None

    def notify(self) -> None:
        """End the wait."""
        self.done = True
        if self.gate is not None:
            self.open_gate()
        leads = self.leads
        if leads is not None and leads.polling:
            leads.request_turn()  # another thread than the leader itself has the news

    def open_gate(self) -> None:
        """Wake the thread if it sleeps as a follower."""
        gate = self.gate
        if gate is not None and gate.locked():
            try:
                gate.release()
            except RuntimeError:
                pass  # another thread was faster; it is open


class Timer:
    """A function that is called later. ``cancel`` it if it is not wanted any more."""

    __slots__ = ("when", "order", "callback")

    def __init__(self, when: float, order: int, callback: Callable[[], None] | None) -> None:
        self.when, self.order, self.callback = when, order, callback

    def cancel(self) -> None:
        """Forget the call."""
        self.callback = None

    def __lt__(self, other: Timer) -> bool:
        return (self.when, self.order) < (other.when, other.order)


class Reactor(Network):
    """Dials, listens, polls descriptors, runs timers and flushes, on the thread that leads. One a process.

    ``close`` frees its descriptors.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        #: Guards every table of this process.
        self.lock = TableLock()
        #: Called under the lock in each turn: drains what __del__ methods left (see _worker.objects.garbage),
        #: or a part of it.
        self.on_turn: Callable[[], None] | None = None
        #: Called under the lock when the background thread takes the lead: user threads are busy.
        self.on_background: Callable[[], None] | None = None
        #: A thread sleeps in poll, or is about to: queued messages and leftovers need ``request_turn``.
        self.polling = False
        #: The same, but false for a lazy poll of the background thread, which looks at ``leftovers`` again
        #: soon. A turn for each would have it compete with user code that drops refs one by one.
        self.blocked_in_poll = False
        #: Queues that ``on_turn`` drains. Any thread may append to them without the lock.
        self.leftovers: tuple[deque[Any], ...] = ()
        #: Another loop watches ``fileno``: it sleeps in poll for us, and takes turns. The background thread
        #: leads only while that loop does not come, and keeps out of its way otherwise.
        self.watched = False
        #: The thread of that loop while it is awake, between two sleeps in its selector; else 0.
        self.awake_thread = 0
        self.after_turn: list[Callable[[], object]] | None = None  # during its turn: what it calls next
        #: Called under the lock when a handler failed: a bug of ours, never the user's; or memory ran out.
        self.on_bug: Callable[[BaseException], None] = print_bug
        #: A signal's handler, or another call for the main thread, is due: see ``on_interrupt``.
        self.interrupted = False
        #: Makes that call. The main thread calls it in a wait, without the lock and without the lead; it may
        #: raise.
        self.on_interrupt: Callable[[], None] = _nothing
        self.dirty: list[Flushable] = []
        #: The polls of threads that wait and have nothing else to do. Off, unless the role sets another one.
        self.spin = Spin(0.0)
        self._epoll = self.make_poller()
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._wake_fd, select.EPOLLIN)
        self._sources: dict[int, Source] = {}
        self._timers: list[Timer] = []
        self._timer_count = 0
        self._turn_requested = False
        #: Held by the thread that leads; once more for each wait inside another one.
        self._lead = threading.RLock()
        self._depth = 0
        #: A wait inside the turn of another one has handled the events that the outer poll found.
        self._stale = False
        self._leader: Waiter | None = None
        self._followers: deque[Waiter] = deque()
        self._entered = 0  # times that a user thread came to wait
        self._background_leads = False
        self._background: threading.Thread | None = None
        self._parked = False
        self._park_gate = threading.Lock()
        self._park_gate.acquire()
        self._neglect = Neglect(self.fileno, self.dirty, self._sleep_in_background)
        self._stopped = False

    # ------------------------------------------------------------------ sources and timers

    def register(self, fd: int, source: Source, events: int = READABLE) -> None:
        """Watch a descriptor."""
        self._sources[fd] = source
        self._epoll.register(fd, events)

    def modify(self, fd: int, events: int) -> None:
        """Change what a descriptor is watched for."""
        self._epoll.modify(fd, events)

    def unregister(self, fd: int) -> None:
        """Stop watching; the caller closes the descriptor afterwards."""
        if self._sources.pop(fd, None) is not None:
            try:
                self._epoll.unregister(fd)
            except (OSError, ValueError):
                pass

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Call ``callback`` under the lock after that time. Under the lock."""
        self._timer_count += 1
        timer = Timer(monotonic() + seconds, self._timer_count, callback)
        heapq.heappush(self._timers, timer)
        if self._timers[0] is timer:
            self.request_turn()
        return timer

    def request_turn(self) -> None:
        """Make the leader take another turn soon: there is something to flush or to drain.

        Safe in ``__del__`` and signal handlers: one write to an eventfd, no lock.
        """
        if not self._turn_requested:
            self._turn_requested = True
            try:
                os.eventfd_write(self._wake_fd, 1)
            except (BlockingIOError, OSError):
                pass

    def request_flush(self) -> None:
        """Have queued messages sent soon."""
        # The loop that watches sends what its own thread has queued before it sleeps: see ``loop_sleeps``.
        if self.awake_thread != threading.get_ident() or not self._neglect.is_ticking:
            self.request_turn()

    def wake(self) -> None:
        """Request a turn, whether or not one was requested before."""
        self._turn_requested = False
        self.request_turn()

    def nudge(self) -> None:
        """Make every waiting thread check whether it was interrupted. For signal handlers."""
        self.wake()
        for waiter in list(self._followers):
            waiter.open_gate()

    # ------------------------------------------------------------------ turning

    def flush(self) -> None:
        """Send what is queued. Under the lock."""
        dirty = self.dirty
        while dirty:
            dirty.pop().flush()

    def turn(self, timeout: float | None, *, spin: bool = False, lazy: bool = False) -> bool:
        """Poll once and dispatch; tell whether there was anything to do. The caller leads, without the lock.

        ``spin``: the caller has nothing else to do, so it may poll before it blocks. ``lazy``: leftovers have
        time until the timeout.
        """
        timers = self._timers
        if timers:
            left = timers[0].when - monotonic()
            if timeout is None or left < timeout:
                timeout = left if left > 0 else 0
        if timeout is not None and timeout > MAX_POLL_S:
            timeout = MAX_POLL_S
        self.polling = True
        self.blocked_in_poll = not lazy
        # Threads that left something behind before this requested no turn, as no thread slept then.
        waiter = self._leader
        if self.dirty or (not lazy and any(self.leftovers)) or (waiter is not None and waiter.done):
            timeout = 0
        events: Sequence[tuple[int, int]] = ()
        if spin and timeout != 0:
            events = self.spin.look(self._epoll.poll)
        if not events:
            events = self._epoll.poll(timeout)
        self.polling = self.blocked_in_poll = self.watched
        busy = bool(events) or any(self.leftovers)
        lock = self.lock
        suspend()
        lock.acquire()
        suspend()
        try:
            if self._stale:
                self._stale = False
                events = ()  # the next poll finds again what is still to be handled
            for fd, event in events:
                source = self._sources.get(fd)
                if source is not None:
                    try:
                        source.handle(event)
                    except Exception as bug:  # a handler's bug must not stop the loop
                        self.on_bug(bug)
                elif fd == self._wake_fd:
                    try:
                        os.eventfd_read(fd)
                    except BlockingIOError:
                        pass
                    # Not before the read, which would take a later request's write and leave its flag set.
                    self._turn_requested = False
            if timers and timers[0].when <= monotonic():
                self._run_timers()
            try:
                if self.on_turn is not None:
                    self.on_turn()
                if self.dirty:
                    self.flush()
            except MemoryError as error:
                self.on_bug(error)
        finally:
            if state.wanted:
                resume()
            lock.release()
        return busy

    def _run_timers(self) -> None:
        now = monotonic()
        while self._timers and self._timers[0].when <= now:
            callback = heapq.heappop(self._timers).callback
            if callback is not None:
                try:
                    callback()
                except Exception as bug:
                    self.on_bug(bug)

    def run(self) -> None:
        """Lead until ``stop``: the main loop of a role with one thread."""
        self._lead.acquire()
        self._depth += 1
        try:
            while not self._stopped:
                self.turn(None)
        finally:
            self._depth -= 1
            self._lead.release()

    def fileno(self) -> int:
        """Return the epoll descriptor: readable when a turn would have something to do."""
        return self._epoll.fileno()

    def turn_if_free(self) -> None:
        """Take one turn without waiting, unless a thread leads: for a loop that watches ``fileno``."""
        if self.try_lead():  # the background thread leaves the lead to us
            try:
                self.turn(0)
            finally:
                self.leave_lead()

    def loop_sleeps(self) -> None:
        """Send what is queued: the loop that watches is about to sleep, and nothing runs on its thread."""
        self.awake_thread = 0
        if self.dirty:
            self._entered += 1
            with self.lock:
                self.flush()

    def try_lead(self) -> bool:
        """Lead, if no thread does, to wait for some sources alone, for less than a tick. See ``leave_lead``.

        The caller polls those sources and ``fileno``, handles them under the lock, and calls ``turn(0)`` now
        and then.
        """
        self._entered += 1
        if self._stopped or not self._lead.acquire(False):  # the thread that closed it leads for good
            return False
        self._depth += 1
        return True

    def leave_lead(self) -> None:
        """Leave the lead, which ``try_lead`` or a wait took."""
        self._depth -= 1
        inside = self._depth > 0
        if inside:
            # The outer leader may be about to sleep in poll: its next poll finds what was left meanwhile.
            self._stale = self.polling = self.blocked_in_poll = True
            self.wake()
        self._lead.release()
        if not inside and (self._followers or self._parked):
            self._hand_over()

    def stop(self) -> None:
        """End ``run`` or the background thread."""
        self._stopped = True
        self.wake()
        self._unpark()

    @property
    def is_led_in_background(self) -> bool:
        """Whether no user thread waits: all of them compute."""
        return self._background_leads

    @property
    def is_stopped(self) -> bool:
        """Whether ``stop`` was called."""
        return self._stopped

    # ------------------------------------------------------------------ waiting

    def wait(self, waiter: Waiter, deadline: float | None = None) -> bool:
        """Return True when the waiter is notified, False at the deadline (monotonic seconds).

        Without the lock. The calling thread leads where no other does, else it follows.
        """
        while not waiter.done:
            if self._stopped:
                return waiter.done
            if self.interrupted and in_main_thread():
                self.interrupted = False
                self.on_interrupt()
                continue
            if not self._lead.acquire(False) and not self._follow(waiter, deadline):
                if self.interrupted and not waiter.done and in_main_thread():
                    continue
                return waiter.done
            self._depth += 1
            self._entered += 1
            outer = self._leader
            waiter.leads = self
            self._leader = waiter
            try:
                if self.dirty:
                    with self.lock:
                        self.flush()
                while not waiter.done and not self._stopped:
                    if deadline is None:
                        self.turn(None, spin=True)
                    else:
                        # At least one turn, so that polling with a timeout of 0 makes progress.
                        left = deadline - monotonic()
                        self.turn(left if left > 0 else 0, spin=True)
                        if left <= 0:
                            return waiter.done
                    if self.interrupted and in_main_thread():
                        break
            finally:
                self._leader = outer
                waiter.leads = None
                self.leave_lead()
        return True

    def _follow(self, waiter: Waiter, deadline: float | None) -> bool:
        """Sleep until promoted, then return True with the lead held. Return False when the wait is over, or
        the main thread is interrupted."""
        gate = waiter.gate = threading.Lock()
        gate.acquire()
        waiter.thread = threading.get_ident()
        self._entered += 1
        outer: Waiter | None = None
        try:
            while not waiter.done:
                with self.lock:
                    outer = self._take_out(waiter.thread) or outer
                    self._followers.append(waiter)
                # A leader that left before it could see this follower does not promote it: try once more.
                if self._lead.acquire(False):
                    with self.lock:
                        if waiter in self._followers:
                            self._followers.remove(waiter)
                    return True
                if self._background_leads:
                    self.wake()
                timeout = -1.0
                if deadline is not None:
                    timeout = min(max(deadline - monotonic(), 0), MAX_POLL_S)
                woken = usable = interrupted = False
                try:
                    woken = gate.acquire(timeout=timeout)
                    interrupted = self.interrupted and in_main_thread()
                    usable = woken and not waiter.done and not interrupted
                finally:
                    with self.lock:
                        promoted = waiter not in self._followers
                        if not promoted:
                            self._followers.remove(waiter)
                    if promoted and not usable:
                        self._hand_over()  # pass on a promotion that this thread cannot use
                if interrupted or self._stopped:
                    return False
                if not woken and deadline is not None and monotonic() >= deadline:
                    return False
                if not waiter.done and self._lead.acquire(False):
                    return True
                if promoted and usable and waiter.done:
                    self._hand_over()  # the wait ended just after it seemed usable
            return False
        finally:
            if outer is not None:
                outer.open_gate()  # it queues again

    def _take_out(self, thread: int) -> Waiter | None:
        """Remove the thread's outer wait from the followers, and return it. Under the lock."""
        for follower in self._followers:
            if follower.thread == thread:
                self._followers.remove(follower)
                return follower
        return None

    def _hand_over(self) -> None:
        """Promote a follower, or wake the background thread. Call it after the lead was released."""
        if self._followers:
            with self.lock:
                if self._followers:
                    self._followers.popleft().open_gate()
                    return
        if self._parked:  # also where the last follower has just ended its wait itself
            self._unpark()

    def _unpark(self) -> None:
        if self._park_gate.locked():
            try:
                self._park_gate.release()
            except RuntimeError:
                pass  # two threads were here at once; it is open

    # ------------------------------------------------------------------ background

    def start_background(self) -> None:
        """Start the thread that leads while no user thread does."""
        self._background = threads.start("skate-io", self._lead_in_background)

    def _lead_in_background(self) -> None:
        seen = -1
        while not self._stopped:
            if self.watched and not self._depth:
                seen = self._entered
                left = self._next_timer_s()
                if left > 0 and not self._neglect.looked(seen, left):
                    continue
            if self._depth:
                if self._entered == seen:
                    # The same leader for a whole tick: sleep until it leaves.
                    self._parked = True
                    if self._depth and not self._stopped:
                        self._park_gate.acquire()
                    self._parked = False
                else:
                    seen = self._entered
                    self._park_gate.acquire(timeout=TICK_S)
            elif self._entered != seen or not self._lead.acquire(False):
                seen = self._entered
                self._park_gate.acquire(timeout=TICK_S)
            else:
                self._depth += 1
                self._background_leads = True
                try:
                    with self.lock:
                        try:
                            if self.on_turn is not None:
                                self.on_turn()
                            if self.on_background is not None:
                                self.on_background()
                            self.flush()
                        except MemoryError as error:
                            self.on_bug(error)
                    seen = self._entered
                    # A user thread that comes to wait ends this, even if its wait is over before
                    # it could lead: the next one need not take the lead over and give it back.
                    busy = True
                    while self._entered == seen and not self._stopped:
                        pause = TICK_S if any(self.leftovers) else LAZY_POLL_S
                        busy = self.turn(pause, lazy=True) if busy else self.turn(None)
                        if self.watched and not busy:
                            break
                except MemoryError as error:
                    with self.lock:
                        self.on_bug(error)
                finally:
                    self._background_leads = False
                    self.leave_lead()

    def _sleep_in_background(self, seconds: float) -> None:
        self._park_gate.acquire(timeout=seconds)

    def _next_timer_s(self) -> float:
        """Return how long it takes until the next timer is due. Any thread."""
        try:
            return self._timers[0].when - monotonic()
        except IndexError:  # there is none, or a turn has just run it
            return MAX_POLL_S

    def close(self) -> None:
        """Stop, join the background thread, free the descriptors."""
        self.stop()
        if self._background is not None and self._background is not threading.current_thread():
            self._background.join()
        with self.lock:
            for waiter in self._followers:
                waiter.open_gate()
        # The leader leaves now; no thread leads after this one.
        self._lead.acquire(timeout=5)
        self._epoll.close()
        os.close(self._wake_fd)

    def abandon(self) -> None:
        """Close the descriptors in a forked child, which has no threads of the parent."""
        self._stopped = True
        self._epoll.close()
        os.close(self._wake_fd)


def _nothing() -> None:
    pass


def in_main_thread() -> bool:
    """Tell whether the caller runs on the thread that gets signals."""
    return threading.get_ident() == threading.main_thread().ident


def print_bug(bug: BaseException) -> None:
    """Print a bug of the runtime, and ask the user to report it."""
    print("skate: internal error; please report it", file=sys.stderr)
    try:
        traceback = descriptors.load("traceback")
    except OSError:  # no descriptor is left to read the module by
        print(repr(bug), file=sys.stderr)
        return
    traceback.print_exception(type(bug), bug, bug.__traceback__)
