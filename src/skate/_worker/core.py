"""Builds the parts of a driver's or worker's runtime and connects them. It decides nothing.

Parts get the parts that they need in their constructors; callbacks to a part above are set as hooks, here.
The methods that user threads call (submit, get, put, ...) take the process's lock while they change tables;
pickling, waiting and user code happen outside of it.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from mmap import mmap
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from skate._base import errors
from skate._base.process import end_process_group
from skate._base.user_errors import is_a
from skate._serialize.exceptions import dump_error
from skate._store.client import StoreClient
from skate._transport.connection import Connection, Handler
from skate._transport.reactor import print_bug
from skate._transport.streams import Stream
from skate._wire import control, node
from skate._wire import worker as wire
from skate._wire.codec import PROTOCOL
from skate._worker.calls.actor_submitter import ActorSubmitter
from skate._worker.calls.arguments import ArgumentEncoder
from skate._worker.calls.cancellation import Canceller
from skate._worker.calls.history import CallHistory
from skate._worker.calls.lineage import Lineage
from skate._worker.calls.recovery import Recovery
from skate._worker.calls.results import Results
from skate._worker.calls.stream_calls import StreamCalls
from skate._worker.calls.submission import Submission
from skate._worker.calls.task_submitter import TaskSubmitter
from skate._worker.calls.tasks import TaskTable
from skate._worker.calls.unretrieved import UnretrievedErrors
from skate._worker.debugging.breakpoints import Breakpoints
from skate._worker.execution import forked_child
from skate._worker.execution.executor import Executor
from skate._worker.execution.invocation import Invocation
from skate._worker.execution.local import Local
from skate._worker.execution.yielding import Yielding
from skate._worker.objects.borrowing import Borrowing
from skate._worker.objects.forks import ForkGuard
from skate._worker.objects.futures import Futures
from skate._worker.objects.garbage import Garbage
from skate._worker.objects.home import Home
from skate._worker.objects.object_ref import adoption, without_session
from skate._worker.objects.refs import RefTable
from skate._worker.objects.shared_memory import SharedMemory
from skate._worker.objects.values import Values
from skate._worker.process import current
from skate._worker.process.context import ProcessContext
from skate._worker.process.control_link import ControlLink
from skate._worker.process.daemon_link import DaemonLink
from skate._worker.process.exhaustion import ran_out
from skate._worker.process.main_thread import MainThread
from skate._worker.process.peers import Peers
from skate._worker.process.waiting import Waiting
from skate._worker.reporting.report import Reporter
from skate._worker.reporting.waits import WaitReport


class Kinds(NamedTuple):
    """The classes of the parts of which in-process mode, or a simulator, has variants."""

    peers: type[Peers] = Peers
    task_submitter: type[TaskSubmitter] = TaskSubmitter
    local: type[Local] = Local
    #: Of workers; a simulator's runs calls in virtual time.
    executor: type[Executor] = Executor


_REAL = Kinds()


class Core:
    """The parts of this process's runtime. One a process: ``current.process.core``."""

    def __init__(self, context: ProcessContext, kinds: Kinds = _REAL) -> None:
        self.context = context
        self._kinds = kinds
        reactor = context.reactor
        #: The public API's view of this process (see skate.engine).
        self.engine: Any = None
        #: Compiled graphs that this process has a part in, the oldest first.
        self.graphs: WeakKeyDictionary[Any, None] = WeakKeyDictionary()
        #: In workers: see ``add_executor``.
        self.executor: Executor | None = None
        self.breakpoints: Breakpoints | None = None

        # The process.
        self.daemon = DaemonLink(context)
        self.control = ControlLink(context)
        self.peers = kinds.peers(context)
        self.waiting = Waiting(context, self.daemon)
        self.main_thread = MainThread(reactor, self.waiting)

        # Objects.
        self.refs = RefTable()
        self.store = StoreClient(context.config.extent_cache_bytes)
        self.home = Home(context, self.refs)
        self.memory = SharedMemory(context, self.daemon, self.refs, self.store)
        self.borrowing = Borrowing(context, self.peers, self.refs)
        self.garbage = Garbage(
            reactor, self.daemon, self.peers, self.refs, self.store, self.memory, self.borrowing, self.home
        )
        self.values = Values(
            context, self.daemon, self.main_thread, self.waiting, self.refs, self.store, self.memory,
            self.borrowing, self.garbage, self.home,
        )  # fmt: skip
        self.futures = self.home.futures = Futures(
            context, self.refs, self.borrowing, self.garbage, self.values
        )
        self.fork_guard = ForkGuard(reactor, self.store, self.memory, self.garbage)

        # Calls of this process.
        self.tasks = TaskTable()
        self.lineage = Lineage(context.config.max_lineage_bytes)
        self.history = CallHistory(context, self.daemon)
        self.unretrieved = UnretrievedErrors(context, self.futures.run_callback)
        self.streams = StreamCalls(
            context, self.daemon, self.refs, self.home, self.borrowing, self.garbage, self.values,
            self.futures, self.tasks, self.lineage,
        )  # fmt: skip
        self.results = Results(
            context, self.daemon, self.refs, self.borrowing, self.tasks, self.streams, self.lineage,
            self.history, self.unretrieved,
        )  # fmt: skip
        self.task_submitter = kinds.task_submitter(
            context, self.daemon, self.peers, self.tasks, self.results, self.unretrieved
        )
        self.actor_submitter = ActorSubmitter(context, self.control, self.peers, self.results)
        self.recovery = Recovery(
            context, self.daemon, self.refs, self.borrowing, self.lineage, self.results,
            (self.task_submitter.take_back, self.actor_submitter.waiting_with),
        )  # fmt: skip
        self.canceller = Canceller(context, self.daemon, self.peers, self.refs, self.tasks, self.results)
        self.arguments = ArgumentEncoder(context, self.refs, self.home, self.values)
        self.submission = Submission(
            context, self.main_thread, self.refs, self.home, self.garbage, self.tasks, self.arguments,
            self.streams, self.results, self.actor_submitter,
        )  # fmt: skip

        # Calls that run here, and reports.
        self.local = kinds.local(context)
        self.wait_report = WaitReport(context, self.tasks, self.waiting, self.local, self.graphs)
        self.reporter = Reporter(
            context, self.daemon, self.refs, self.store, self.garbage, self.tasks, self.history, self.local,
            self.wait_report,
        )  # fmt: skip
        self._set_hooks()

    def _set_hooks(self) -> None:
        """Connect parts with those above them, which they must not import."""
        context, garbage = self.context, self.garbage
        context.reactor.on_turn = garbage.drain_in_turn
        context.reactor.on_bug = self._failed
        context.on_exhausted = self._exhausted
        self.daemon.on_lost = self.fail_everything
        self.memory.drain = garbage.drain
        self.values.on_missing = self.borrowing.on_missing = self.recovery.missing
        self.results.recovery = self.recovery
        self.streams.on_repeated_item = self.recovery.item_arrived
        garbage.on_dead_stream = self.streams.close
        garbage.on_handles_gone = self._handles_gone
        garbage.on_result_freed = self.lineage.freed
        garbage.on_error_freed = self.unretrieved.freed
        self.control.handlers[control.ActorUpdate] = self.actor_submitter.updated
        self.control.on_rejoined = self.actor_submitter.watch_again
        self.control.on_cut_off = self.actor_submitter.cut_off
        #: In this order: a lost connection concerns refs, then calls, then calls that run here.
        self.peers.on_closed = [
            self.borrowing.connection_closed,
            self.actor_submitter.disconnected,
            self.task_submitter.disconnected,
            lambda _: garbage.drain(),
        ]
        self.peers.handlers.update(
            {
                **self.borrowing.handlers(),
                **self.canceller.handlers(),
                wire.Reply: self.results.replied,
                wire.StreamItem: self.streams.item_arrived,
                wire.Returned: self.task_submitter.returned,
            }
        )

    def add_executor(self, progress_table: mmap, slot: int) -> Executor:
        """Build the executor of a worker.

        Args:
            progress_table: shared with the daemon; ``slot`` names the call that was begun last.
            slot: the worker's slot.
        """
        context = self.context
        invocation = Invocation(context, self.daemon, self.memory, self.borrowing, self.garbage)
        yielding = Yielding(context, self.waiting, self.borrowing, invocation)
        executor = self.executor = self.local.executor = self._kinds.executor(
            context, self.daemon, self.main_thread, self.waiting, self.refs, self.store, self.garbage,
            self.values, invocation, yielding, progress_table, slot, self.canceller.cancel_children,
        )  # fmt: skip
        self.breakpoints = Breakpoints(
            context, self.daemon, executor, executor.blocking.wait_stopped, _load_debugger
        )
        executor.failures.on_raised = self.breakpoints.look_at
        executor.on_leave = self.reporter.send_metrics
        executor.on_end = self.reporter.send_history
        self.waiting.block = executor.blocking.block
        self.daemon.on_lost = lambda reason: end_process_group()
        self.peers.on_closed.insert(-1, executor.caller_left)
        self.peers.handlers.update(executor.handlers())
        return executor

    # ------------------------------------------------------------------ connections

    def connect_node(self, sock: Stream, job_config: bytes = b"", error: str = "") -> None:
        """Say hello to the daemon. Under the lock.

        Args:
            job_config: of a driver's job.
            error: why this worker cannot serve.
        """
        context = self.context
        handlers: dict[type, Handler] = {
            **self.memory.handlers(),
            node.LeaseGranted: self.task_submitter.granted,
            node.DemandRefused: self.task_submitter.refused,
            node.LeaseReclaim: self.task_submitter.reclaim,
            node.WorkerDied: self.task_submitter.worker_died,
            node.StateAsk: self.reporter.state_requested,
            node.CreatorDied: self._creator_died,
            node.Deadlocked: self.waiting.deadlocked,
        }
        if self.executor is not None:
            handlers.update(self.executor.daemon_handlers())
        environment = context.environment if context.kind == "driver" else b""
        hello = node.Hello(
            context.kind, context.worker_id, context.pid, context.address, PROTOCOL, job_config, error,
            environment,
        )  # fmt: skip
        self.daemon.connect(sock, handlers, hello)

    def _creator_died(self, connection: Connection, message: node.CreatorDied) -> None:
        """Read the last messages of a dead worker, then free results that it had sealed without a reply."""
        self.peers.drain(message.worker_id)
        self.memory.free_orphans(message.worker_id, message.object_ids)

    def _handles_gone(self, actor_id: bytes) -> None:
        self.control.post(lambda request: control.ReleaseActor(request, actor_id))

    def attach(self) -> None:
        """Make this the runtime of the process."""
        current.process.core = self
        adoption.by = self.values.adopt

    def detach(self) -> None:
        """Leave the process without a runtime, if it is this one."""
        if current.process.core is self:
            current.process.core = None
            adoption.by = without_session

    # ------------------------------------------------------------------ ends

    def fail_everything(self, reason: str) -> None:
        """End every wait with an error: the session is lost. Under the lock."""
        self.context.dead_reason = reason
        error = dump_error(errors.LocalRayletDiedError(reason))
        self.task_submitter.fail_all(error)
        self.actor_submitter.fail_all(reason)
        for entry in self.refs.pending():
            self.refs.fulfil(entry, wire.ERROR, error)
        self.daemon.welcomed.notify()

    def _failed(self, bug: BaseException) -> None:
        """Report an exception of a handler or a turn. Under the lock."""
        if is_a(bug, MemoryError):
            ran_out(self.context, bug)  # type: ignore[arg-type]
            return
        with contextlib.suppress(MemoryError):
            print_bug(bug)

    def _exhausted(self, reason: str) -> None:
        """End waits and connections: tables may be half changed, and there may be no memory for more."""
        with contextlib.suppress(Exception):
            self.fail_everything(reason)
        with contextlib.suppress(Exception):
            lost = dump_error(errors.LocalRayletDiedError(reason))
            for entry in self.refs.pending():
                with contextlib.suppress(Exception):
                    self.refs.fulfil(entry, wire.ERROR, lost)
        self.waiting.end_all()
        if self.context.in_process:
            return
        # No message is handled any more, and the workers of this process end.
        with contextlib.suppress(Exception):
            self.peers.close()
        for connection in (self.control.connection, self.daemon.connection):
            if connection is not None:
                with contextlib.suppress(Exception):
                    connection.close(reason)

    def close(self) -> None:
        """Disconnect; refs and views that are left are harmless afterwards."""
        context = self.context
        with context.lock:
            if not context.dead_reason:
                self.garbage.drain()
            self.fail_everything(context.dead_reason or "this session was shut down")
        context.reactor.close()
        with context.lock:
            self.peers.close()
            self.control.close()
            if self.daemon.connection is not None:
                self.daemon.connection.abandon()
            self.store.close()
            self.lineage.close(self.refs.entries.values())
        self.futures.close()
        self.unretrieved.close()
        try:
            os.unlink(context.address)
        except OSError:
            pass

    def abandon(self) -> None:
        """Drop every connection in a forked child of user code, where the runtime is not usable."""
        self.detach()
        current.process.forked = True
        if self.executor is not None:
            forked_child.end_where_user_code_ends(self.executor, self.executor.invocation)
        self.context.reactor.abandon()
        for connection in (*self.peers.connections, self.daemon.connection, self.control.connection):
            if connection is not None:
                connection.sock.close()


def _load_debugger() -> Any:
    return importlib.import_module("skate._worker.debugging.debugger")


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
    if core is not None and core.context.pid != os.getpid():
        core.abandon()


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
)
