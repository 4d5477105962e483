"""The runtime of a driver or worker: builds the parts, owns the reactor and the connections. No rules.

What user threads call (submit, get, put, ...) takes the reactor's lock for as long as tables change;
pickling, waiting and user code happen outside of it.
"""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import sys
from collections import deque
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from skate._base import errors, ids
from skate._base.clock import monotonic
from skate._base.config import Config
from skate._base.user_errors import is_a
from skate._serialize.exceptions import dump_error
from skate._store.client import LocalObject, StoreClient
from skate._transport.connection import Connection, Handler
from skate._transport.reactor import Reactor, Waiter, print_bug
from skate._transport.spin import Spin
from skate._wire import control, node, services
from skate._wire import worker as wire
from skate._wire.codec import PROTOCOL
from skate._worker.calls.actor_submitter import ActorSubmitter
from skate._worker.calls.cancellation import Canceller
from skate._worker.calls.records import TaskRecord
from skate._worker.calls.recovery import Recovery
from skate._worker.calls.stream_calls import StreamCalls
from skate._worker.calls.submission import Calls
from skate._worker.calls.task_submitter import NormalSubmitter
from skate._worker.calls.unread import UnreadErrors
from skate._worker.execution import forked_child
from skate._worker.objects import segments
from skate._worker.objects.borrowing import Borrowing
from skate._worker.objects.forks import ForkGuard
from skate._worker.objects.futures import Futures
from skate._worker.objects.refs import Dropped, Freed, ObjectEntry, RefTable
from skate._worker.objects.values import Objects
from skate._worker.process import current
from skate._worker.process.control_link import ControlLink
from skate._worker.process.exhaustion import Changing, ran_out
from skate._worker.process.main_thread import MainThread
from skate._worker.process.peers import Peers
from skate._worker.reporting.report import Reporter

if TYPE_CHECKING:
    from skate._worker.execution.actor_host import ActorHost
    from skate._worker.execution.executor import Executor


#: A wait that takes longer than this is looked at (seconds).
_LONG = 1.0

#: When a program drops a million refs, each turn counts so many of them: whoever wants the lock then waits
#: for a millisecond, not for a second.
_BACKLOG_A_TURN = 1000


class Core(MainThread):
    """See the module's text. One a process; ``current.process.core``."""

    #: There are no workers: everything runs in this process (see ``_inline``).
    in_process = False

    def __init__(
        self,
        kind: str,
        worker_id: bytes,
        session_dir: str,
        config: Config,
        reactor: Reactor | None = None,
    ) -> None:
        self.kind = kind
        self.worker_id = worker_id
        self.session_dir = session_dir
        self.config = config
        self.address = os.path.join(session_dir, "s", worker_id.hex())
        self.job_id = b"\0" * ids.JOB_ID_SIZE
        self.node_id = b"\0" * ids.NODE_ID_SIZE
        #: The driver whose job this process works for.
        self.job_owner = worker_id
        self.namespace = ""
        #: The public API's view of this core (see skate.engine).
        self.engine: Any = None
        super().__init__(Reactor(kind) if reactor is None else reactor)
        if reactor is None:
            self.reactor.spin = Spin(config.spin_us / 1e6)
        self.reactor.on_turn = functools.partial(self.drain, _BACKLOG_A_TURN)
        self.reactor.on_bug = self._failed
        #: The lock, for whoever changes tables.
        self.changing = Changing(self)
        self.refs = RefTable()
        #: Entries whose ObjectRefs ended; appended by ``ObjectRef.__del__``, drained each turn.
        self.dead_refs: deque[ObjectEntry] = deque()
        #: Numbers of remote functions that ended, likewise.
        self.dead_functions: deque[int] = deque()
        self.store = StoreClient(config.extent_cache_bytes)
        self.store.on_dead_view = self._dead_view
        #: Calls of generators whose items nobody will take.
        self.dead_streams: deque[TaskRecord] = deque()
        self.reactor.leftovers = (
            self.dead_refs, self.store.dead_views, self.dead_functions, self.dead_streams
        )  # fmt: skip
        self.counter = 0
        #: The number of the last wait.
        self.last_wait = 0
        self.node: Connection = None  # type: ignore[assignment]  # set by connect_node
        self.peers = Peers(self)
        self.borrowing = Borrowing(self, self.peers)
        self.objects = Objects(self)
        self.futures = Futures(self)
        self.unread = UnreadErrors(self)
        self.normal = NormalSubmitter(self)
        self.actors = ActorSubmitter(self)
        #: Compiled graphs that this process has a part in: each tells where it is (``told``).
        self.graphs: WeakSet[Any] = WeakSet()
        self.control = ControlLink(self)
        #: In workers.
        self.executor: Executor | None = None
        #: What to do with lines that workers print (drivers).
        self.on_log: Callable[[node.LogLines], None] | None = None
        #: Called (once, under the lock) when the daemon's connection ends.
        self.on_node_lost: Callable[[str], None] = self.fail_everything
        #: Done when the daemon has said all that it had to say to a driver that leaves.
        self.on_left = Waiter()
        #: What else is told of a driver's job: JSON.
        self.job_facts = b""
        #: How to start workers of this process's job: JSON (see ``_launch.zygote``).
        self.job_config: dict[str, Any] = {}
        #: The environment of this process, which what it starts inherits: JSON; empty: none.
        self.environment = b""
        self.dead_reason = ""
        #: What the daemon was asked: its answer, once that is there, and who waits for it.
        self._requests: dict[int, tuple[list[Any], Waiter]] = {}
        self._last_request = 0
        #: What drivers do about breakpoints of their job.
        self.on_stop: Callable[[node.Stopped | node.Resumed], None] | None = None
        self.pid = os.getpid()
        self.reporter = Reporter(self)
        self.calls = Calls(self)
        self.streams = StreamCalls(self)
        self.recovery = Recovery(self)
        self.canceller = Canceller(self)
        self.fork_guard = ForkGuard(self)
        self.peers.on_closed = (
            self.borrowing.connection_closed,
            self.actors.disconnected,
            self.normal.disconnected,
            self._caller_left,
            lambda _: self.drain(),
        )
        self.peers.handlers.update(
            {
                **self.borrowing.handlers(),
                wire.Reply: self.calls.replied,
                wire.StreamItem: self.streams.item_arrived,
                wire.Returned: self.normal.returned,
            }
        )
        self.welcome: node.Welcome | None = None
        self.on_welcome: Waiter | None = None

    # ------------------------------------------------------------------ connections

    def connect_node(self, sock: socket.socket, job_config: bytes = b"", error: str = "") -> None:
        """Say hello to the daemon. Called under the lock. ``error``: why this worker cannot serve."""
        handlers: dict[type, Handler] = {
            node.Welcome: self._welcome,
            node.LeaseGranted: self.normal.granted,
            node.DemandRefused: self.normal.refused,
            node.LeaseReclaim: self.normal.reclaim,
            node.WorkerDied: self.normal.worker_died,
            node.Extent: self._extent,
            node.Pinned: self._pinned,
            node.StoreReport: self._answered,
            node.StateAnswer: self._answered,
            node.StateAsk: self.reporter.asked,
            node.CreatorDied: self._creator_died,
            node.PrepareMove: lambda c, m: self.objects.prepare_move(m),
            node.TrimExtents: lambda c, m: self.objects.trim(),
            node.LogLines: self._log_lines,
            node.Stopped: self._stop_news,
            node.Resumed: self._stop_news,
            node.Shutdown: lambda c, m: self.on_left.notify(),
            node.Deadlocked: self._deadlock,
        }
        if self.executor is not None:
            handlers.update(self.executor.node_handlers())
        heard = services.NODE.heard[self.kind]
        handlers = {message: handler for message, handler in handlers.items() if message in heard}
        self.node = Connection(self.reactor, sock, handlers, self._node_closed, receives_fds=True)
        self.node.peer = "the node daemon"
        environment = self.environment if self.kind == "driver" else b""
        self.node.send(
            node.Hello(
                self.kind, self.worker_id, os.getpid(), self.address, PROTOCOL, job_config, error, environment
            )
        )
        self.node.flush()

    def _caller_left(self, connection: Connection) -> None:
        if self.executor is not None:
            self.executor.caller_left(connection)

    def _creator_died(self, connection: Connection, message: node.CreatorDied) -> None:
        """A worker sealed results of ours and is gone: free those whose reply never came."""
        for peer in list(self.peers.connections):
            if peer.peer.id == message.worker_id:
                peer.drain()
        entries = self.refs.entries
        lost = [
            object_id for object_id in message.object_ids
            if object_id not in entries or entries[object_id].kind != wire.SHARED
        ]  # fmt: skip
        if lost:
            self.node.send(node.Free(lost, False, message.worker_id))

    def _welcome(self, connection: Connection, message: node.Welcome) -> None:
        self.welcome = message
        self.node_id = message.node_id
        if self.on_welcome is not None:
            self.on_welcome.notify()

    def _node_closed(self, connection: Connection) -> None:
        for _, waiter in self._requests.values():
            waiter.notify()
        self.on_node_lost(connection.close_reason)

    def fail_everything(self, reason: str) -> None:
        """The session is lost: end every wait with an error. Called under the lock."""
        self.dead_reason = reason
        error = dump_error(errors.LocalRayletDiedError(reason))
        self.normal.fail_all(error)
        self.actors.fail_all(reason)
        for entry in self.refs.pending():
            self.fulfil(entry, wire.ERROR, error)
        if self.on_welcome is not None:
            self.on_welcome.notify()

    def _log_lines(self, connection: Connection, message: node.LogLines) -> None:
        if self.on_log is not None:
            self.on_log(message)

    def _stop_news(self, connection: Connection, message: node.Stopped | node.Resumed) -> None:
        if self.on_stop is not None:
            self.on_stop(message)

    # ------------------------------------------------------------------ requests

    def request(self, make: Callable[[int], Any]) -> Any:
        """Ask the daemon and wait for the answer. Not under the lock.

        If the wait is interrupted, an extent that was asked for is kept for later; what else the answer means
        the caller looks after.

        Raises:
            LocalRayletDiedError: the session is lost.
        """
        box: list[Any] = []
        waiter = Waiter()
        with self.changing:
            self.check_usable()
            self._last_request += 1
            request = self._last_request
            self._requests[request] = box, waiter
            self.node.send(make(request))
            self.node.flush()
        try:
            self.reactor.wait(waiter)
        except BaseException:
            with self.lock:
                if box and type(box[0]) is node.Extent:
                    self.objects.prefetched(box[0])
            raise
        finally:
            with self.lock:
                self._requests.pop(request, None)
        if not box:
            self.check_usable()
            raise errors.RaySystemError(f"{self.node.peer} is gone: {self.node.close_reason}")
        return box[0]

    def _answered(self, connection: Connection, message: Any) -> None:
        found = self._requests.get(message.request)
        if found is not None:
            found[0].append(message)
            found[1].notify()

    def _extent(self, connection: Connection, message: node.Extent) -> None:
        message = segments.attached(self, connection, message)
        if message.request in self._requests:
            self._answered(connection, message)
        else:
            self.objects.prefetched(message)  # or whoever asked was interrupted

    def _pinned(self, connection: Connection, message: node.Pinned) -> None:
        self._answered(connection, segments.attached(self, connection, message))

    # ------------------------------------------------------------------ waiting and interrupts

    def wait(self, waiter: Waiter, deadline: float | None) -> bool:
        """Wait; a worker's task that waits long lends its CPUs meanwhile."""
        executor = self.executor
        if executor is None:
            return self.reactor.wait(waiter, deadline)
        if executor.lends:
            return executor.wait_lending(waiter, deadline)
        if executor.runner is not None:
            executor.runner.about_to_wait()
        return self.wait_watched(waiter, deadline)

    def wait_watched(self, waiter: Waiter, deadline: float | None) -> bool:
        """Wait; after a while have the daemon look whether this can ever end."""
        if deadline is not None or self.reactor.wait(waiter, monotonic() + _LONG):
            return self.reactor.wait(waiter, deadline)
        with self.changing:
            self.node.send(node.Waiting(True))
            self.reactor.flush()
        try:
            return self.reactor.wait(waiter, None)
        finally:
            with self.changing:
                self.node.send(node.Waiting(False))

    def _deadlock(self, connection: Connection, message: node.Deadlocked) -> None:
        for waiter in self.waits:
            if waiter.number == message.number and not waiter.done:
                waiter.error = message.text
                waiter.notify()

    def _failed(self, bug: BaseException) -> None:
        """Handling a message, or a turn, raised. Under the lock."""
        if is_a(bug, MemoryError):
            ran_out(self, bug)  # type: ignore[arg-type]
            return
        with contextlib.suppress(MemoryError):
            print_bug(bug)

    def check_usable(self) -> None:
        """Raise if the session is lost."""
        if self.dead_reason:
            raise errors.LocalRayletDiedError(self.dead_reason)

    def warn(self, text: str) -> None:
        """Tell the user something that is not an error (yet)."""
        print(f"skate: {text}", file=sys.stderr, flush=True)

    # ------------------------------------------------------------------ what runs here

    def hosted(self) -> ActorHost | None:
        """Return the actor that the caller runs in, if it is one."""
        return self.executor.host if self.executor is not None else None

    def id_here(self) -> bytes:
        """Return the id of the process that the caller runs in, or seems to."""
        return self.worker_id

    def assigned(self) -> tuple[Mapping[str, int], tuple[str, ...]]:
        """Return what the caller holds: resources in fixed point, ids of GPUs."""
        return current.process.resources, current.process.gpus

    def lanes(self) -> list[dict[str, Any]]:
        """Return where calls run here: see ``_base.waits``. Under the lock."""
        return self.executor.lanes() if self.executor is not None else []

    def is_cancelled(self) -> bool:
        """Tell whether the call that the caller runs in was cancelled.

        Raises:
            RuntimeError: nobody could tell it so.
        """
        host, info = self.hosted(), current.call.get()
        cancelled = self._cancelled()
        if cancelled is None or (host is not None and host.spec.is_async):
            raise RuntimeError(
                "is_canceled(): This method is only available when the process is a worker, in tasks and in "
                "methods of actors that are not async"
            )
        return (info.owner, info.seq) in cancelled

    def _cancelled(self) -> AbstractSet[tuple[bytes, int]] | None:
        """Return the calls that run here and were cancelled; None: this is no worker."""
        return self.executor.interrupts.cancelled if self.executor is not None else None

    # ------------------------------------------------------------------ reference counts

    def _dead_view(self) -> None:
        if self.reactor.asleep:
            self.reactor.request_turn()

    def drain(self, backlog: int | None = None) -> None:
        """Count what ended since the last turn, and carry out what that means. Under the lock.

        ``backlog``: see ``RefTable.drop_locals``.
        """
        refs = self.refs
        if self.dead_functions:
            self.peers.forget_functions(self.dead_functions)
        while self.dead_streams:
            self.streams.close(self.dead_streams.popleft())
        if refs.untold:
            refs.tell()
        if not self.dead_refs and not self.store.dead_views and not refs.commands:
            return
        free: list[bytes] = []
        keep: list[bytes] = []
        while True:
            if self.dead_refs:
                refs.drop_locals(self.dead_refs, backlog)
                if backlog:
                    backlog = 0  # what is left has time until the next turn
            if self.store.dead_views:
                for object_id, local in self.store.drain_dead():
                    self.view_ended(object_id, local)
            if not refs.commands:
                break
            commands, refs.commands = refs.commands, []
            for command in commands:
                if isinstance(command, Freed):
                    freed = self.objects.free_value(command.entry)
                    if freed is not None:
                        (keep if freed[1] else free).append(freed[0])
                    self._handle_freed(command.entry)
                elif isinstance(command, Dropped):
                    if command.tell:
                        self.borrowing.release(command.entry)
                else:
                    self.borrowing.register(command.entry)
        if free:
            self.node.send(node.Free(free, False))
        if keep:
            self.node.send(node.Free(keep, True))

    def view_ended(self, object_id: bytes, local: LocalObject) -> None:
        """The last view of an object is gone. Under the lock."""
        if self.objects.view_ended(object_id, local):
            self.node.send(node.Free([object_id], False))

    def _handle_freed(self, entry: ObjectEntry) -> None:
        """If the entry stood for the handles of an actor, that actor is to end."""
        if entry.label == "actor":
            actor_id = entry.data
            self.control.post(lambda request: control.ReleaseActor(request, actor_id))
        elif entry.maker is not None:
            self.recovery.lineage.freed(entry)

    def fulfil(self, entry: ObjectEntry, kind: int, data: bytes) -> None:
        """A value is there. Under the lock."""
        waiters = self.refs.fulfil(entry, kind, data)
        if waiters is not None:
            for waiter in waiters:
                waiter.one_ready(kind)  # type: ignore[attr-defined]

    def next_counter(self) -> int:
        """Return a number that names a task or put of this process. Under the lock."""
        self.counter += 1
        return self.counter

    # ------------------------------------------------------------------ end

    def close(self) -> None:
        """Disconnect; refs and views that are left are harmless afterwards."""
        with self.lock:
            if not self.dead_reason:
                self.drain()
            self.fail_everything(self.dead_reason or "this session was shut down")
        self.reactor.close()
        with self.lock:
            self.peers.close()
            self.control.close()
            if self.node is not None:
                self.node.abandon()
            self.store.close()
            self.recovery.lineage.close(self.refs.entries.values())
        self.futures.close()
        self.unread.close()
        try:
            os.unlink(self.address)
        except OSError:
            pass

    def abandon(self) -> None:
        """In a forked child of user code: drop every connection; nothing of this is usable here."""
        current.process.core = None
        current.process.forked = True
        if self.executor is not None:
            forked_child.end_where_user_code_ends(self.executor, self.executor.invocation)
        self.reactor.abandon()
        for connection in (*self.peers.connections, self.node, self.control.connection):
            if connection is not None:
                connection.sock.close()


def _before_fork() -> None:
    core = current.process.core
    if core is not None:
        core.fork_guard.before()


def _after_fork_in_parent() -> None:
    core = current.process.core
    if core is not None:
        core.fork_guard.after_in_parent()


def _after_fork_in_child() -> None:
    core = current.process.core
    if core is not None and core.pid != os.getpid():
        core.abandon()


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
)
