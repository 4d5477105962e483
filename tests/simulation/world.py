"""The world of simulated processes: its clock, the streams between them, and whose turn it is.

Everything happens on one thread. A process takes a turn when bytes have arrived for it, when a timer of its is due, or
when it asked for a turn; when no process is ready, the clock jumps to the next event. A process that waits (the driver,
in ``get``) lets the others run from inside of its poll.
"""

from __future__ import annotations

import array
import errno
import heapq
import itertools
import os
import select
import socket
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from skate import engine
from skate._transport.reactor import Reactor, Timer
from skate._worker.objects.object_ref import adoption, without_session
from skate._worker.process import current

from . import virtual
from .trace import Tap, Trace

#: How long bytes are under way (seconds).
LATENCY_S = 20e-6


class Ended(BaseException):
    """Unwinds the turn of a process that ended itself."""


class World:
    """All simulated processes."""

    def __init__(self) -> None:
        self.trace = Trace()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()
        self._numbers = itertools.count(1_000_000)
        self._pids = itertools.count(101)
        #: Processes that are to take a turn, in this order.
        self._ready: dict[Process, None] = {}
        self.listening: dict[str, Listening] = {}
        self.processes: list[Process] = []
        self.current: Process | None = None
        #: Exceptions of handlers, which are bugs.
        self.bugs: list[BaseException] = []

    # ------------------------------------------------------------------ events

    def after(self, seconds: float, callback: Callable[[], None]) -> None:
        self.at(virtual.time.now + seconds, callback)

    def at(self, when: float, callback: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._count), callback))

    def wake(self, process: Process) -> None:
        """Have a process take a turn."""
        if process.alive:
            self._ready[process] = None

    def run_until(self, process: Process, deadline: float | None) -> None:
        """Let the others run until a process that polls is to go on, or the deadline has come."""
        clock = virtual.time
        while self._ready.pop(process, 0) == 0:
            other = next((one for one in self._ready if not one.polls), None)
            if other is not None:
                del self._ready[other]
                other.turn()
            elif self._events and (deadline is None or self._events[0][0] <= deadline):
                when, _, callback = heapq.heappop(self._events)
                clock.now = max(clock.now, when)
                callback()
            elif deadline is not None:
                clock.now = max(clock.now, deadline)
                return
            else:
                raise AssertionError(f"nothing happens any more, and {process.name} waits")

    # ------------------------------------------------------------------ streams

    def pair(self, one: Process, other: Process) -> tuple[Stream, Stream]:
        """Return the two ends of a new connection."""
        ends = Stream(one, next(self._numbers)), Stream(other, next(self._numbers))
        ends[0].peer, ends[1].peer = ends[1], ends[0]
        return ends

    def listen(self, process: Process, address: str) -> Listening:
        assert address not in self.listening
        made = self.listening[address] = Listening(process, next(self._numbers), address)
        return made

    def dial(self, process: Process, address: str) -> Stream:
        listening = self.listening.get(address)
        if listening is None:
            raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        ours, theirs = self.pair(process, listening.process)
        listening.backlog.append(theirs)
        self.wake(listening.process)
        return ours

    def next_pid(self) -> int:
        return next(self._pids)


class Process:
    """One simulated process: its loop, its streams, and what a process has only one of."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.pid = world.next_pid()
        self.alive = True
        self.polls = False
        self.core: Any = None
        #: What is to be done after it ended, with its wait status.
        self.on_end: Callable[[int], None] = lambda status: None
        self._call = current.call.get()
        self._streams: dict[Stream | Listening, None] = {}
        world.processes.append(self)
        with self.entered():
            self.reactor = SimulatedReactor(self)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Run as this process."""
        world = self.world
        outer = world.current, current.process.core, adoption.by, engine.connection.engine, current.call.get()
        world.current, virtual.identity.pid = self, self.pid
        if self.core is not None:
            self.core.attach()
        else:
            current.process.core, adoption.by = None, without_session
        engine.connection.engine = self.core.engine if self.core is not None else None
        current.call.set(self._call)
        try:
            yield
        finally:
            self._call = current.call.get()
            world.current, current.process.core, adoption.by, engine.connection.engine = outer[:4]
            current.call.set(outer[4])
            virtual.identity.pid = outer[0].pid if outer[0] is not None else 0

    def adopt(self, core: Any, its_engine: Any) -> None:
        """Be a driver or worker from now on. As this process."""
        core.engine = its_engine
        self.core = core
        core.attach()
        engine.connection.engine = its_engine
        core.context.reactor.on_bug = self.world.bugs.append

    def turn(self) -> None:
        """Handle what has arrived, and timers that are due."""
        with self.entered():
            try:
                self.reactor.turn(0)
            except Ended:
                pass
        if self.reactor.is_stopped:
            self.end(0)
        elif self.alive and self.reactor.poller.ready():
            self.world.wake(self)

    def owns(self, stream: Stream | Listening) -> None:
        self._streams[stream] = None

    def lost(self, stream: Stream | Listening) -> None:
        self._streams.pop(stream, None)

    def end(self, status: int) -> None:
        """End this process, as the kernel does: close what it had open."""
        if self.alive:
            self.alive = False
            for stream in list(self._streams):
                stream.close()
            self.on_end(status)
        if self.world.current is self:
            raise Ended


class SimulatedReactor(Reactor):
    """The loop of a simulated process: the real one, over streams in memory."""

    def __init__(self, process: Process) -> None:
        self.process = process
        super().__init__(process.name)
        os.close(self._wake_fd)
        self.on_bug = process.world.bugs.append
        # Others request its turns: it sleeps whenever it does not take one.
        self.watched = self.polling = self.blocked_in_poll = True

    def make_poller(self) -> Any:
        self.poller = Poller(self.process)
        return self.poller

    def dial(self, address: str) -> Any:
        return self.process.world.dial(self.process, address)

    def listen(self, address: str) -> Any:
        return self.process.world.listen(self.process, address)

    def wait_until_writable(self, fd: int, seconds: float) -> bool:
        return True

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        timer = super().call_later(seconds, callback)
        self.process.world.at(timer.when, lambda: self.process.world.wake(self.process))
        return timer

    def request_turn(self) -> None:
        self.process.world.wake(self.process)

    def wake(self) -> None:
        self.request_turn()

    def start_background(self) -> None:
        raise AssertionError("a simulated process has one thread")

    def close(self) -> None:
        self._stopped = True


class Poller:
    """In place of epoll."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._watched: dict[int, Stream | Listening] = {}

    def register(self, fd: int, events: int) -> None:
        stream = BY_NUMBER.get(fd)
        if stream is not None:  # or it is the reactor's own descriptor
            self._watched[fd] = stream
            if stream.is_readable:
                self._process.world.wake(self._process)

    def modify(self, fd: int, events: int) -> None:
        assert not events & select.EPOLLOUT, "a stream in memory takes everything at once"

    def unregister(self, fd: int) -> None:
        self._watched.pop(fd, None)

    def ready(self) -> list[tuple[int, int]]:
        return [(fd, select.EPOLLIN) for fd, stream in self._watched.items() if stream.is_readable]

    def poll(self, timeout: float | None = None) -> list[tuple[int, int]]:
        process = self._process
        if not self.ready() and timeout != 0:
            deadline = None if timeout is None else virtual.time.now + timeout
            process.polls = True
            try:
                process.world.run_until(process, deadline)
            finally:
                process.polls = False
            if not process.alive:
                raise Ended
        return self.ready()


#: Streams by the numbers that stand for their descriptors.
BY_NUMBER: dict[int, Any] = {}


class Stream:
    """One end of a connection in memory. Sent bytes arrive after a moment, in their order, and then the end."""

    peer: Stream

    def __init__(self, process: Process, number: int) -> None:
        self.process = process
        self._number = number
        #: Pieces with the descriptors that came along.
        self._inbox: deque[tuple[bytes, tuple[int, ...]]] = deque()
        self._ended = self._closed = False
        self._tap = Tap()
        BY_NUMBER[number] = self
        process.owns(self)

    def fileno(self) -> int:
        return self._number

    def setblocking(self, flag: bool, /) -> None:
        assert not flag

    @property
    def is_readable(self) -> bool:
        return bool(self._inbox) or self._ended

    def send(self, data: Any, /) -> int:
        self._push(bytes(data), ())
        return len(data)

    def sendmsg(self, buffers: Any, ancdata: Any, /) -> int:
        data = b"".join(buffers)
        self._push(data, tuple(os.dup(fd) for _, _, fds in ancdata for fd in fds))
        return len(data)

    def _push(self, data: bytes, fds: tuple[int, ...]) -> None:
        if self._closed or self.peer._closed:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
        self.process.world.after(LATENCY_S, lambda: self.peer._arrived(data, fds))

    def _arrived(self, data: bytes, fds: tuple[int, ...]) -> None:
        world = self.process.world
        for message in self._tap.messages(data):
            lost = " (lost)" if self._closed else ""
            world.trace.add(virtual.time.now, self.peer.process.name, self.process.name, message + lost)
        if self._closed:
            for fd in fds:
                os.close(fd)
            return
        self._inbox.append((data, fds))
        world.wake(self.process)

    def _hung_up(self) -> None:
        if not self._closed:
            self._ended = True
            self.process.world.wake(self.process)

    def recv(self, bufsize: int, /) -> bytes:
        return self.recvmsg(bufsize, 0, 0)[0]

    def recvmsg(self, bufsize: int, ancbufsize: int, flags: int, /) -> tuple[bytes, list[Any], int, Any]:
        if self._closed:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        if not self._inbox:
            if self._ended:
                return b"", [], 0, None
            raise BlockingIOError
        data, fds = self._inbox.popleft()
        if len(data) > bufsize:
            self._inbox.appendleft((data[bufsize:], ()))
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds).tobytes())] if fds else []
        return data[:bufsize], rights, 0, None

    def shutdown(self, how: int, /) -> None:
        raise NotImplementedError

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            del BY_NUMBER[self._number]
            self.process.lost(self)
            self.process.world.after(LATENCY_S, self.peer._hung_up)


class Listening:
    """Where a simulated process can be dialled."""

    def __init__(self, process: Process, number: int, address: str) -> None:
        self.process = process
        self.backlog: deque[Stream] = deque()
        self._address = address
        self._number = number
        BY_NUMBER[number] = self
        process.owns(self)

    def fileno(self) -> int:
        return self._number

    def setblocking(self, flag: bool, /) -> None:
        assert not flag

    @property
    def is_readable(self) -> bool:
        return bool(self.backlog)

    def accept(self) -> tuple[Stream, str]:
        if not self.backlog:
            raise BlockingIOError
        return self.backlog.popleft(), ""

    def close(self) -> None:
        if self.process.world.listening.pop(self._address, None) is not None:
            del BY_NUMBER[self._number]
            self.process.lost(self)
