"""Runs calls in a worker: on the main thread, one at a time, in the order in which they came.

The main thread reads its sockets itself while it is idle, so that a call goes from the socket to
user code to the socket on one thread. While user code runs long, the background thread reads.
"""

from __future__ import annotations

import pickle
import struct
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from mmap import mmap
from typing import TYPE_CHECKING, Any

from skate._base.clock import monotonic, perf_counter
from skate._base.process import end_process_group
from skate._base.user_errors import is_a
from skate._base.waits import lane
from skate._serialize.tracebacks import format_error
from skate._transport.connection import EAGER_BYTES, Connection, Handler
from skate._transport.reactor import Waiter
from skate._transport.table_lock import resume, state, suspend
from skate._wire import node
from skate._wire import worker as wire
from skate._worker.debugging import breakpoints
from skate._worker.execution import output, titles
from skate._worker.execution.actor_host import ActorHost, Runner, limit_threads
from skate._worker.execution.exits import Exit
from skate._worker.execution.failures import reply_of, taken_apart
from skate._worker.execution.interrupts import Interrupts
from skate._worker.execution.invocation import ArgumentLost, Invocation, Result
from skate._worker.execution.yielding import Yielding
from skate._worker.objects.refs import ObjectEntry
from skate._worker.process import current
from skate._worker.process.current import CallInfo
from skate._worker.process.exhaustion import dump_or_end

if TYPE_CHECKING:
    from skate._worker.core import Core
    from skate._worker.process.peers import Peer

_WORD = struct.Struct("<8sQ")
#: Replies of short calls are kept together at most this long (seconds).
_HOLD = 0.001
_SPENT = "a function was called as often as its max_calls allows"


class Function:
    """A remote function that an owner sent; unpickled at its first call."""

    __slots__ = ("name", "label", "blob", "threads", "max_calls", "resources", "called", "callable")

    def __init__(self, message: wire.DefineFunction) -> None:
        self.name, self.label = message.name, current.CodeName(message.name)
        self.blob = message.blob
        self.threads = message.threads
        self.max_calls = message.max_calls
        self.resources = message.resources
        #: How often it ran here.
        self.called = 0
        self.callable: Callable[..., Any] | None = None

    def load(self) -> Callable[..., Any]:
        """Return the function."""
        if self.callable is None:
            limit_threads(self.threads)
            self.callable = self.label.of(pickle.loads(self.blob))
            self.blob = b""
        return self.callable


class Executor:
    """See the module's text."""

    def __init__(self, core: Core, board: mmap, slot: int) -> None:
        self._core = core
        self._board = board
        self._word = slot * _WORD.size
        self._queue: deque[tuple[Connection, Any]] = deque()
        self._waiter: Waiter | None = None
        #: What holds users' functions: let go of by the main thread, without the lock, for ``__del__``.
        self._dropped: list[Any] = []
        self._running = False
        #: Whose call runs, or ran last; and whether that process is gone.
        self._caller = b""
        self._seq = 0
        self._started = 0.0
        self._orphaned = False
        #: Why the process is to end after this task; "": it is not.
        self._spent = ""
        self._gpus: str | None = None
        #: The main thread waits in get, its CPUs lent: what arrives cannot begin here.
        self._lent = False
        self._stopping = False
        self._exit_code = 0
        self._last_flush = 0.0
        #: Methods of the actor whose last call here was short. (Of functions their owners know.)
        self._short: set[int | str] = set()
        self._main = threading.current_thread()
        self.core = core
        self.title = titles.Title()
        self.invocation = Invocation(core)
        self.yielding = Yielding(core, self.invocation)
        #: The actor that this process is.
        self.host: ActorHost | None = None
        #: What runs its calls, if it is not a serial one.
        self._runner: Runner | None = None
        core.gate.add_boundaries(
            (Executor._invoke.__code__, Yielding.run.__code__, Yielding.run_async.__code__,
             Invocation.encode_yielded.__code__, ActorHost._construct.__code__,
             ActorHost._construct_on_loop.__code__, ActorHost.farewell.__code__)
        )  # fmt: skip
        self.interrupts = Interrupts(core, self)
        self.invocation.cancelled = self.interrupts.cancelled
        core.peers.handlers.update(
            {
                wire.DefineFunction: self._define,
                wire.ForgetFunction: self._forget,
                wire.Call: self._called,
                **self.yielding.results_table(),
                wire.CancelCall: self.interrupts.asked,
            }
        )
        core.reactor.on_background = self._give_back
        core.on_node_lost = lambda reason: end_process_group()

    def node_handlers(self) -> dict[type, Handler]:
        """Return which message of the daemon goes where."""
        return {node.StartActor: self._called, node.Exit: self._asked_to_exit,
                node.OwnerLeft: self._owner_left,
                node.EndActor: lambda c, m: self._leave(m.reason)}  # fmt: skip

    # ------------------------------------------------------------------ what arrives (under the lock)

    def _define(self, connection: Connection, message: wire.DefineFunction) -> None:
        connection.peer.functions[message.fn] = Function(message)

    def _forget(self, connection: Connection, message: wire.ForgetFunction) -> None:
        self._drop(connection.peer.functions.pop(message.fn, None))

    def _drop(self, functions: object) -> None:
        """Have the main thread let go of users' functions. Under the lock."""
        if functions:
            self._dropped.append(functions)
            if self._waiter is not None:
                self._waiter.notify()

    def _called(self, connection: Connection, message: Any) -> None:
        if self._runner is not None:
            self._runner.submit(connection, message)
            return
        self._queue.append((connection, message))
        if self._waiter is not None:
            self._waiter.notify()
        elif self._lent or self._core.reactor.background_leads:
            # What runs waits, perhaps for this very call, or takes long.
            self._give_back()

    def post(self, connection: Connection, work: Callable[[], None]) -> None:
        """Run ``work`` on the main thread of a serial actor, behind what waits. Under the lock."""
        self._called(connection, work)

    def has_work(self) -> bool:
        """Tell whether the main thread of a serial actor is wanted: a call waits for it, or the end."""
        return bool(self._queue) or self._stopping

    def _give_back(self) -> None:
        """Return calls to their owners that wait behind one that takes long. Not those of actors."""
        self.title.look(self)
        if not self._running or self.host is not None or not self._queue:
            return
        waiting = list(self._queue)
        self._queue.clear()
        by_connection: dict[Connection, list[int]] = {}
        for connection, call in waiting:
            if isinstance(call, wire.Call):
                by_connection.setdefault(connection, []).append(call.seq)
            else:
                self._queue.append((connection, call))
        for connection, seqs in by_connection.items():
            connection.send(wire.Returned(seqs))

    def return_queued(self) -> None:
        """Give every call back that has not begun; this process is about to end. Under the lock."""
        self._running = True
        self._give_back()

    def withdraw(self, connection: Connection, seq: int) -> wire.Call | None:
        """Forget a call that has not begun, and return it. Under the lock."""
        for item in self._queue:
            if item[0] is connection and isinstance(item[1], wire.Call) and item[1].seq == seq:
                try:
                    self._queue.remove(item)
                except ValueError:
                    return None  # the main thread was faster
                return item[1]
        return None

    @property
    def running_call(self) -> tuple[bytes, int] | None:
        """Owner and seq of what the main thread runs."""
        return (self._caller, self._seq) if self._running else None

    def lanes(self) -> list[dict[str, Any]]:
        """Return where calls run here, which do, and which are behind them: see ``_base.waits``."""
        if self._runner is not None:
            return self._runner.lanes()
        running = self.running_call
        calls: list[tuple[bytes, int, float]] = []
        if running is not None:
            calls = [(*running, perf_counter() - self._started)]
        elif self.host is not None and self.host.instance is None:
            calls = [(b"", 0, 0.0)]
        # What waits behind a task is given back and runs elsewhere; behind a method it waits.
        queued = [
            (connection.peer.id, call.seq) for connection, call in self._queue if isinstance(call, wire.Call)
        ]
        return [lane(self._core.worker_id, 1, calls, queued if self.host is not None else [])]

    def caller_left(self, connection: Connection) -> None:
        """A caller is gone: what it still had queued here is not run, what it was sent is not made."""
        for outgoing in connection.peer.streams.values():
            outgoing.news()
        self._drop(connection.peer.functions)
        self._queue = deque(item for item in self._queue if item[0] is not connection)

    def _asked_to_exit(self, connection: Connection, message: node.Exit) -> None:
        core = self._core
        core.drain()
        if self._running or self._queue or core.refs.entries or core.store.objects:
            core.node.send(node.ExitRefused())
            return
        self._leave("it was idle")

    def _owner_left(self, connection: Connection, message: node.OwnerLeft) -> None:
        """Whoever leased this worker is gone. What others hold of it must not go with its task."""
        core = self._core
        if not self._running or self._caller != message.owner:
            core.node.send(node.ExitRefused())
        elif any(entry.owner_address is None for entry in core.refs.entries.values()):
            self._orphaned = True
        else:
            core.node.send(node.Leaving("the process that had sent it its task ended"))
            core.node.flush()
            end_process_group()

    def _leave(self, reason: str, code: int = 0, intended: bool = True) -> None:
        self._core.reporter.tell_metrics()
        self._core.node.send(node.Leaving(reason, intended))
        self._core.node.flush()
        self._stopping = True
        self._exit_code = code
        if self._waiter is not None:
            self._waiter.notify()
        if self._runner is not None:
            self._runner.stop()

    # ------------------------------------------------------------------ the main thread

    def run(self) -> int:
        """Serve until told to end; return the exit code."""
        reactor = self._core.reactor
        while not self._stopping:
            if reactor.interrupted:
                self.run_handlers()
            try:
                connection, message = self._queue.popleft()
            except IndexError:
                self._dropped.clear()
                self._idle()
                continue
            if type(message) is wire.Call:
                self._run_call(connection, message)
            elif type(message) is node.StartActor:
                self._become(message)
            else:
                message()
        if self.host is not None:
            self.host.farewell()
        with self._core.lock:
            self._core.drain()
            self._core.reporter.last_words()
            self._core.reactor.flush()
        return self._exit_code

    def _idle(self) -> None:
        core = self._core
        with core.lock:
            if core.reactor.dirty:
                core.reactor.flush()
            if self._queue or self._stopping:
                return
            if self.title.busy:
                self.title.idle()
            waiter = self._waiter = Waiter()
        try:
            core.reactor.wait(waiter)
        except BaseException as error:
            self._handler_raised(error)
        self._waiter = None

    def run_handlers(self) -> None:
        """Run the handlers of signals that were put off, between calls. On the main thread."""
        try:
            self._core.check_interrupt()
        except BaseException as error:
            self._handler_raised(error)

    def _handler_raised(self, error: BaseException) -> None:
        """A signal's handler raised, and no call runs that could get it: end, or tell."""
        if is_a(error, SystemExit):
            self.leave_by(error, "a signal's handler")
        else:
            self._core.warn(f"a signal's handler raised between calls:\n{format_error(error).rstrip()}")

    @property
    def lends(self) -> bool:
        """Whether the calling thread runs a task whose CPUs can be lent while it waits."""
        # Lent already: a signal's handler, or a finalizer, waits inside the wait.
        return (
            self._running
            and self.host is None
            and not self._lent
            and threading.current_thread() is self._main
        )

    def wait_lending(self, waiter: Waiter, deadline: float | None) -> bool:
        """Wait; after a moment give back what is queued here and lend the CPUs."""
        core = self._core
        soon = monotonic() + core.config.lend_after_ms / 1000
        if deadline is not None and deadline <= soon:
            return core.reactor.wait(waiter, deadline)
        if core.reactor.wait(waiter, soon):
            return True
        with core.changing:
            self._lent = True
            self._give_back()
            core.node.send(node.Blocked(True))
            core.reactor.flush()
        try:
            return core.wait_watched(waiter, deadline)
        finally:
            with core.changing:
                self._lent = False
                core.node.send(node.Blocked(False))
                core.node.flush()

    def wait_stopped(self, waiter: Waiter) -> None:
        """Wait at a breakpoint. What is queued behind the call is given back; its CPUs stay its own, or
        every task of a thousand would start a process to stop in."""
        lends = self.lends
        if lends:
            with self._core.lock:
                self._lent = True
                self._give_back()
                self._core.reactor.flush()
        try:
            self._core.reactor.wait(waiter)
        finally:
            if lends:
                self._lent = False

    # ------------------------------------------------------------------ calls

    def _run_call(self, connection: Connection, call: wire.Call) -> None:
        word = call.seq | (call.flags & wire.REPEATABLE) << 62
        _WORD.pack_into(self._board, self._word, connection.peer.id, word)
        self._caller = connection.peer.id
        self._seq = call.seq
        self._running = True
        met: list[ObjectEntry] = []
        started = self._started = perf_counter()
        try:
            result = self._invoke(connection, call, met)
        except BaseException as error:
            result = self.failed(error, connection, call)
            if self._stopping:
                return
        taken = int((perf_counter() - started) * 1_000_000)
        self._running = False
        if self.host is not None:
            if taken < self._core.config.short_task_us:
                self._short.add(call.fn)
            else:
                self._short.discard(call.fn)
        if self.interrupts.cancelled:
            self.interrupts.over(connection.peer.id, call.seq)
        output.flush(self.host is None)
        lock = self._core.lock
        suspend()
        lock.acquire()
        suspend()
        try:
            if self.invocation.reply(connection, call, result, taken, met):
                self._flush(connection)
            if self._orphaned:
                self._orphaned = False
                self._core.node.send(node.ExitRefused())
                self._core.node.flush()
            if self._spent:
                self._retire(connection, self._spent)
        finally:
            if state.wanted:
                resume()
            lock.release()

    def _retire(self, connection: Connection, reason: str) -> None:
        """A task was the last one of this process: end, unless objects would go too.

        What is queued goes back to its owners; what is still under way they send elsewhere, for it has
        not begun. Under the lock.
        """
        core = self._core
        connection.flush()
        core.drain()
        if any(entry.owner_address is None for entry in core.refs.entries.values()) or connection.peer.acks:
            return
        self._running = True  # for giving back what is queued
        self._give_back()
        self._running = False
        # A retry of the last task, which has its number, may be under way: it has not begun here.
        _WORD.pack_into(self._board, self._word, b"", 0)
        core.reactor.flush()
        self._leave(reason)

    def _invoke(self, connection: Connection, call: wire.Call, met: list[ObjectEntry]) -> Result:
        """Run user code. Its arguments and results live in this frame only, so that they are gone
        when the reply says which refs are still held."""
        name, target = self.target(connection.peer, call)
        args, kwargs = self.invocation.decode_arguments(call, met)
        if call.stream is not None:
            self.yielding.run(connection, call, target(*args, **kwargs))
            return wire.NONE, b"", None, None, None
        return self.invocation.encode(connection.peer, call, name, target(*args, **kwargs))

    def target(self, peer: Peer, call: wire.Call) -> tuple[str, Callable[..., Any]]:
        """Return the name and the code of a call, and make it the current one of this context."""
        if self.host is None:
            function = peer.functions[call.fn]  # type: ignore[index]
            function.called += 1
            self._spent = _SPENT if 0 < function.max_calls <= function.called else ""
            current.process.resources = function.resources
            if call.gpus != self._gpus:
                self._gpus = call.gpus
                current.see_gpus(call.gpus)
            name = output.names.current = call.name or function.name
            depth = call.flags >> wire.DEPTH_SHIFT
            current.call.set(CallInfo(peer.id, call.seq, name, depth, function.label))
            return name, function.load()
        method = f"{self.host.spec.class_name}.{call.fn}"
        name = call.name or method
        current.call.set(CallInfo(peer.id, call.seq, name, call.flags >> wire.DEPTH_SHIFT, method))
        return name, self.host.method(str(call.fn))

    def _flush(self, connection: Connection) -> None:
        """Send replies now, unless the next call is of the same caller and known to be short."""
        queue = self._queue
        if queue and len(connection.out) < EAGER_BYTES:
            caller, following = queue[0]
            if (
                caller is connection
                and type(following) is wire.Call
                and (following.flags & wire.SHORT or following.fn in self._short)
            ):
                now = monotonic()
                if now - self._last_flush < _HOLD:
                    if self._core.reactor.asleep:
                        self._core.reactor.request_turn()  # should that call take long after all
                    return
                self._last_flush = now
        connection.flush()

    def name_of(self, peer: Peer, call: wire.Call) -> str:
        """Return what users call a call that was sent here."""
        if self.host is not None:
            return call.name or f"{self.host.spec.class_name}.{call.fn}"
        return call.name or peer.functions[call.fn].name  # type: ignore[index]

    def failed(self, error: BaseException, connection: Connection, call: wire.Call) -> Result:
        """User code raised: return the reply that says so, or begin to end the process."""
        error, before = taken_apart(error)
        if type(error) is ArgumentLost:
            return wire.LOST, error.what, None, None, None
        name = self.name_of(connection.peer, call)
        if self.interrupts.cancelled:
            cancelled = self.interrupts.outcome(connection, call, error)
            if cancelled is not None:
                if before is not None:
                    self.invocation.forget(connection.peer.id, call, before)
                return wire.ERROR, cancelled, None, None, None
        actor = None
        if self.host is not None:
            if is_a(error, SystemExit):
                self._running = False
                self.leave_by(error, name)
                return wire.NONE, b"", None, None, None
            actor = (self.host.repr, self.host.actor_id.hex())
        elif is_a(error, SystemExit):
            self._spent, result = Exit(error).of_task(name)
            return result
        breakpoints.look_at(self._core, error)
        dump = partial(dump_or_end, self._core)
        return reply_of(self.invocation, dump, connection.peer.id, call, error, name, actor, before)

    def leave_by(self, error: BaseException, name: str) -> None:
        """A method or the constructor of the actor ended the actor: begin to end the process."""
        end = Exit(error)
        with self._core.lock:
            self._core.reactor.flush()
            self._leave(f"{end.what} in {name}", end.status, end.intended)

    # ------------------------------------------------------------------ becoming an actor

    def _become(self, message: node.StartActor) -> None:
        """Be this actor from now on; calls that came early are its first."""
        core = self._core
        with core.lock:
            core.drain()
            if any(entry.owner_address is None for entry in core.refs.entries.values()):
                core.node.send(node.ActorRefused(message.actor_id, message.incarnation))
                core.node.flush()
                return
            core.node.send(node.ActorAccepted(message.actor_id, message.incarnation))
            core.node.flush()
        host = self.host = ActorHost(self, message)
        runner = host.make_runner()
        if runner is None:
            host.start()
            return
        with self._core.lock:
            early, self._queue = self._queue, deque()
            self._runner = runner
        for connection, call in early:
            runner.submit(connection, call)
        runner.serve(host)

    @property
    def runner(self) -> Runner | None:
        """What runs the calls of an actor that is not a serial one."""
        return self._runner

    def wait_until_stopped(self) -> None:
        """Lead the reactor on this thread while others run the calls."""
        while not self._stopping:
            self._idle()

    @property
    def stopping(self) -> bool:
        """Whether the process is about to end."""
        return self._stopping
