"""Runs calls in a worker: on the main thread, one at a time, in the order in which they came.

The main thread reads its sockets itself while it is idle, so that a call goes from the socket to
user code to the socket on one thread. While user code runs long, the background thread reads.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from functools import partial
from mmap import mmap
from typing import Any

from skate._base.clock import monotonic, perf_counter
from skate._base.hooks import unset
from skate._base.process import end_process_group
from skate._base.user_errors import is_a
from skate._base.waits import lane
from skate._serialize.tracebacks import format_error
from skate._store.client import StoreClient
from skate._transport.connection import EAGER_BYTES, Connection, Handler
from skate._transport.reactor import Waiter
from skate._transport.table_lock import resume, state, suspend
from skate._wire import control, node
from skate._wire import worker as wire
from skate._worker.execution import output, titles
from skate._worker.execution.actor_host import ActorHost, ActorInstance
from skate._worker.execution.blocking import Blocking
from skate._worker.execution.exits import Exit
from skate._worker.execution.failures import Failures
from skate._worker.execution.function import Function
from skate._worker.execution.interrupts import Interrupts
from skate._worker.execution.invocation import Invocation, Result
from skate._worker.execution.lanes import Key, is_serial
from skate._worker.execution.runner import Runner
from skate._worker.execution.yielding import Yielding
from skate._worker.objects.garbage import Garbage
from skate._worker.objects.refs import ObjectEntry, RefTable
from skate._worker.objects.values import Values
from skate._worker.process import current
from skate._worker.process.context import ProcessContext
from skate._worker.process.current import CallInfo
from skate._worker.process.daemon_link import DaemonLink
from skate._worker.process.exhaustion import dump_or_end
from skate._worker.process.main_thread import MainThread
from skate._worker.process.peers import Peer
from skate._worker.process.waiting import Waiting

#: A slot of the progress table: owner, seq with a flag.
_SLOT = struct.Struct("<8sQ")
#: Replies of short calls are batched for at most this time (seconds).
_REPLY_BATCH_S = 0.001
_SPENT = "a function was called as often as its max_calls allows"


class Executor:
    """Runs the calls that arrive, and begins to end the process. Built by Core, which sets the hooks.

    Args:
        progress_table: shared with the daemon; ``slot`` names the call that was begun last.
        cancel_children: cancels the calls that a call (owner, seq, with force) of this process has made.
    """

    def __init__(
        self,
        context: ProcessContext,
        daemon: DaemonLink,
        main_thread: MainThread,
        waiting: Waiting,
        refs: RefTable,
        store: StoreClient,
        garbage: Garbage,
        values: Values,
        invocation: Invocation,
        yielding: Yielding,
        progress_table: mmap,
        slot: int,
        cancel_children: Callable[[bytes, int, bool], None],
    ) -> None:
        self._context = context
        self._reactor = context.reactor
        self._daemon = daemon
        self._main_thread = main_thread
        self._refs = refs
        self._store = store
        self._garbage = garbage
        self._values = values
        self._progress_table = progress_table
        self._slot_offset = slot * _SLOT.size
        self._queue: deque[tuple[Connection, Any]] = deque()
        self._waiter: Waiter | None = None
        #: Objects with users' functions: the main thread drops them, without the lock, for ``__del__``.
        self._dropped: list[Any] = []
        self._running = False
        #: The owner of the call that runs, or ran last; and whether that process is gone.
        self._caller = b""
        self._seq = 0
        self._started = 0.0
        self._orphaned = False
        #: Why the process ends after this task; "": it does not.
        self._spent = ""
        self._gpus: str | None = None
        self._stopping = False
        self._exit_code = 0
        self._last_flush = 0.0
        #: Methods of the actor whose last call here was short. (Owners keep that of their functions.)
        self._short: set[int | str] = set()
        self.title = titles.Title()
        self.invocation = invocation
        self.yielding = yielding
        self.failures = Failures(invocation, partial(dump_or_end, context), f"worker process {context.pid}")
        self.failures.on_task_exit = self._task_exited
        self.blocking = Blocking(context, daemon, waiting, self)
        #: Called under the lock before the process says that it leaves, and when its last call has ended:
        #: see ``reporting.report``.
        self.on_leave: Callable[[], None] = unset
        self.on_end: Callable[[], None] = unset
        #: The actor that runs in this process.
        self.host: ActorHost | None = None
        #: The runner of its calls, if it is not a serial one.
        self.runner: Runner | None = None
        main_thread.gate.add_boundaries(
            (Executor._invoke.__code__, Yielding.run.__code__, Yielding.run_async.__code__,
             Invocation.encode_yielded.__code__, ActorInstance._construct.__code__,
             ActorInstance._construct_on_loop.__code__, ActorInstance.farewell.__code__)
        )  # fmt: skip
        self.interrupts = Interrupts(context, daemon, self._main_thread.gate, self, cancel_children)
        self.invocation.cancelled = self.interrupts.cancelled
        self._reactor.on_background = self.blocking.look_at_main_thread

    def handlers(self) -> dict[type, Handler]:
        """Return the handlers of messages from callers."""
        return {
            wire.DefineFunction: self._define,
            wire.ForgetFunction: self._forget,
            wire.Call: self._called,
            **self.yielding.results_table(),
            wire.CancelCall: self.interrupts.cancel_requested,
        }

    def daemon_handlers(self) -> dict[type, Handler]:
        """Return the handlers of messages from the daemon."""
        return {node.StartActor: self._called, node.Exit: self._exit_requested,
                node.OwnerLeft: self._owner_left,
                node.EndActor: lambda c, m: self._leave(m.reason)}  # fmt: skip

    # ------------------------------------------------------------------ messages (under the lock)

    def _define(self, connection: Connection, message: wire.DefineFunction) -> None:
        connection.peer.functions[message.fn] = Function(message)
        self._context.captures |= message.captures

    def _forget(self, connection: Connection, message: wire.ForgetFunction) -> None:
        self._drop(connection.peer.functions.pop(message.fn, None))

    def _drop(self, functions: object) -> None:
        """Have the main thread drop users' functions. Under the lock."""
        if functions:
            self._dropped.append(functions)
            if self._waiter is not None:
                self._waiter.notify()

    def _called(self, connection: Connection, message: Any) -> None:
        if self.runner is not None:
            self.runner.submit(connection, message)
            return
        self._queue.append((connection, message))
        if self._waiter is not None:
            self._waiter.notify()
        elif self.blocking.cpus_released or self._reactor.is_led_in_background:
            # The running call waits, perhaps for this very call, or takes long.
            self.return_queued_tasks()

    def post(self, connection: Connection, work: Callable[[], None]) -> None:
        """Run ``work`` on the main thread of a serial actor, after the queued calls. Under the lock."""
        self._called(connection, work)

    def has_work(self) -> bool:
        """Tell whether a call, or the end of the process, waits for the main thread of a serial actor."""
        return bool(self._queue) or self._stopping

    def return_queued_tasks(self) -> None:
        """Return tasks to their owners that are queued behind the one that runs. Under the lock."""
        if not self._running or self.host is not None:
            return
        self.title.show_task()  # it takes long, or waits: ``ps`` shows it
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
    def running_call(self) -> Key | None:
        """Owner and seq of the call that the main thread runs."""
        return (self._caller, self._seq) if self._running else None

    def lanes(self) -> list[dict[str, Any]]:
        """Return the lanes of this process with their running and queued calls: see ``_base.waits``."""
        if self.runner is not None:
            return self.runner.lanes()
        running = self.running_call
        calls: list[tuple[bytes, int, float]] = []
        if running is not None:
            calls = [(*running, perf_counter() - self._started)]
        elif self.host is not None and self.host.instance is None:
            calls = [(b"", 0, 0.0)]
        # Calls behind a task are returned and run elsewhere; behind a method they wait.
        queued = [
            (connection.peer.id, call.seq) for connection, call in self._queue if isinstance(call, wire.Call)
        ]
        return [lane(self._context.worker_id, 1, calls, queued if self.host is not None else [])]

    def caller_left(self, connection: Connection) -> None:
        """Drop the queued calls of a caller that is gone, and stop its generators."""
        for outgoing in connection.peer.streams.values():
            outgoing.news()
        self._drop(connection.peer.functions)
        self._queue = deque(item for item in self._queue if item[0] is not connection)

    def _exit_requested(self, connection: Connection, message: node.Exit) -> None:
        self._garbage.drain()
        if self._running or self._queue or self._refs.entries or self._store.objects:
            self._daemon.send(node.ExitRefused())
            return
        self._leave("it was idle")

    def _owner_left(self, connection: Connection, message: node.OwnerLeft) -> None:
        """End this process, as the one that leased it is gone; after the task, if it owns objects."""
        if not self._running or self._caller != message.owner:
            self._daemon.send(node.ExitRefused())
        elif self._refs.has_owned():
            self._orphaned = True
        else:
            self._daemon.send(node.Leaving("the process that had sent it its task ended"))
            self._daemon.flush()
            end_process_group()

    def _leave(self, reason: str, code: int = 0, intended: bool = True) -> None:
        self.on_leave()
        self._daemon.send(node.Leaving(reason, intended))
        self._daemon.flush()
        self._stopping = True
        self._exit_code = code
        if self._waiter is not None:
            self._waiter.notify()
        if self.runner is not None:
            self.runner.stop()

    # ------------------------------------------------------------------ the main thread

    def run(self) -> int:
        """Serve until the process is to end; return the exit code."""
        while not self._stopping:
            if self._reactor.interrupted:
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
        with self._context.locked:
            self._garbage.drain()
            self.on_end()
            self._reactor.flush()
        return self._exit_code

    def _idle(self) -> None:
        reactor = self._reactor
        with reactor.lock:
            if reactor.dirty:
                reactor.flush()
            if self._queue or self._stopping:
                return
            if self.title.busy:
                self.title.idle()
            waiter = self._waiter = Waiter()
        try:
            reactor.wait(waiter)
        except BaseException as error:
            self._handler_raised(error)
        self._waiter = None

    def run_handlers(self) -> None:
        """Run the handlers of signals that were put off. Between calls, on the main thread."""
        try:
            self._main_thread.check_interrupt()
        except BaseException as error:
            self._handler_raised(error)

    def _handler_raised(self, error: BaseException) -> None:
        """End the process, or warn: a signal's handler raised while no call runs that could get the error."""
        if is_a(error, SystemExit):
            self.leave_by(error, "a signal's handler")
        else:
            self._context.warn(f"a signal's handler raised between calls:\n{format_error(error).rstrip()}")

    # ------------------------------------------------------------------ calls

    def _run_call(self, connection: Connection, call: wire.Call) -> None:
        word = call.seq | (call.flags & wire.REPEATABLE) << 62
        _SLOT.pack_into(self._progress_table, self._slot_offset, connection.peer.id, word)
        self._caller = connection.peer.id
        self._seq = call.seq
        self._running = True
        if self.interrupts.cancelled and self.interrupts.was_early(connection, call):
            self._running = False
            return
        received: list[ObjectEntry] = []
        started = self._started = perf_counter()
        try:
            result: Result | None = self._invoke(connection, call, received)
        except BaseException as error:
            result = self.failed(error, connection, call)
        if result is None:
            return
        taken = int((perf_counter() - started) * 1_000_000)
        self._running = False
        if self.host is not None:
            if taken < self._context.config.short_task_us:
                self._short.add(call.fn)
            else:
                self._short.discard(call.fn)
        self.interrupts.cancelled.clear()  # also of calls that had ended before: no other runs here
        output.flush(self.host is None)
        lock = self._context.lock
        suspend()
        lock.acquire()
        suspend()
        try:
            if self.invocation.reply(connection, call, result, taken, received):
                self._flush(connection)
            if self._orphaned:
                self._orphaned = False
                self._daemon.send(node.ExitRefused())
                self._daemon.flush()
            if self._spent:
                self._retire(connection, self._spent)
        finally:
            if state.wanted:
                resume()
            lock.release()

    def _task_exited(self, reason: str) -> None:
        self._spent = reason

    def _retire(self, connection: Connection, reason: str) -> None:
        """End the process after its last task, unless it owns objects. Under the lock.

        Queued tasks are returned to their owners, who send elsewhere the ones still on the way here.
        """
        connection.flush()
        self._garbage.drain()
        if self._refs.has_owned() or connection.peer.acks:
            return
        self._running = True  # else nothing is returned
        self.return_queued_tasks()
        self._running = False
        # A retry of the last task, which has its number, may be on the way: it has not begun here.
        _SLOT.pack_into(self._progress_table, self._slot_offset, b"", 0)
        self._reactor.flush()
        self._leave(reason)

    def _invoke(self, connection: Connection, call: wire.Call, received: list[ObjectEntry]) -> Result:
        """Run user code. Its arguments and results live in this frame only, so that they are gone when the
        reply names the refs that are still held."""
        name, target = self.target(connection.peer, call)
        args, kwargs = self.invocation.decode_arguments(call, received)
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
        """Send replies now, unless the next call comes from the same caller and is known to be short."""
        queue = self._queue
        if queue and len(connection.out) < EAGER_BYTES:
            caller, following = queue[0]
            if (
                caller is connection
                and type(following) is wire.Call
                and (following.flags & wire.SHORT or following.fn in self._short)
            ):
                now = monotonic()
                if now - self._last_flush < _REPLY_BATCH_S:
                    if self._reactor.blocked_in_poll:
                        self._reactor.request_turn()  # in case that call takes long after all
                    return
                self._last_flush = now
        connection.flush()

    def name_of(self, peer: Peer, call: wire.Call) -> str:
        """Return the name by which users know a call that was sent here."""
        if self.host is not None:
            return call.name or f"{self.host.spec.class_name}.{call.fn}"
        return call.name or peer.functions[call.fn].name  # type: ignore[index]

    def failed(self, error: BaseException, connection: Connection, call: wire.Call) -> Result | None:
        """Return the reply for an exception of user code; None: it ends the actor, and this process."""
        peer = connection.peer
        return self.failures.reply_to(peer.id, call, error, self.name_of(peer, call), self.host)

    def leave_by(self, error: BaseException, name: str) -> None:
        """Begin to end the process: a method or the constructor of the actor ended the actor."""
        end = Exit(error)
        self._running = False
        with self._context.locked:
            self._reactor.flush()
            self._leave(f"{end.what} in {name}", end.status, end.intended)

    # ------------------------------------------------------------------ becoming an actor

    def _become(self, message: node.StartActor) -> None:
        """Become an actor: construct it and serve its calls, first those that came early."""
        with self._context.locked:
            self._garbage.drain()
            if self._refs.has_owned():
                self._daemon.send(node.ActorRefused(message.actor_id, message.incarnation))
                self._daemon.flush()
                return
            self._daemon.send(node.ActorAccepted(message.actor_id, message.incarnation))
            self._daemon.flush()
        host = self.host = ActorHost(
            self._context, self._daemon, self._refs, self._garbage, self._values, self.invocation, message,
            self.leave_by,
        )  # fmt: skip
        self.title.become(host.spec.class_name)
        if is_serial(host.spec):
            host.start()
            return
        runner = self._make_runner(host.spec)
        with self._context.locked:
            early, self._queue = self._queue, deque()
            self.runner = runner
        for connection, call in early:
            runner.submit(connection, call)
        runner.serve(host)

    def _make_runner(self, spec: control.ActorSpec) -> Runner:
        """Return the runner of an async or threaded actor."""
        from skate._worker.execution import concurrency  # asyncio takes a while to import

        if not spec.is_async:
            return concurrency.ThreadedRunner(self._context, self, spec)
        if not spec.concurrency_groups:
            return concurrency.AsyncRunner(self._context, self._main_thread.gate, self, spec)
        from skate._worker.execution.group_loops import GroupedRunner

        return GroupedRunner(self._context, self._main_thread.gate, self, spec)

    def wait_until_stopped(self) -> None:
        """Lead the reactor on this thread while others run the calls."""
        while not self._stopping:
            self._idle()
