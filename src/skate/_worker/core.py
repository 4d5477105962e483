"""The runtime of a driver or worker: builds the parts, owns the reactor and the connections. No rules.

What user threads call (submit, get, put, ...) takes the reactor's lock for as long as tables change;
pickling, waiting and user code happen outside of it.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from skate._base import errors, ids
from skate._base.config import Config
from skate._serialize import culprit
from skate._serialize.exceptions import dump_error
from skate._serialize.values import _PLAIN, dump_code, serialize
from skate._store.client import StoreClient
from skate._transport.connection import HIGH_WATER, Connection, Handler, dial
from skate._transport.reactor import Reactor, Waiter
from skate._wire import control, node
from skate._wire import worker as wire
from skate._wire.codec import PROTOCOL
from skate._worker import current
from skate._worker.actors import ActorClient
from skate._worker.current import context
from skate._worker.object_ref import ObjectRef, make_ref
from skate._worker.objects import Objects
from skate._worker.peers import Peers
from skate._worker.pool import LeasePool
from skate._worker.records import FunctionRecord, TaskRecord
from skate._worker.refs import PENDING, Dropped, Freed, ObjectEntry, RefTable
from skate._worker.submit_actor import ActorSubmitter
from skate._worker.submit_normal import NormalSubmitter

if TYPE_CHECKING:
    from skate._worker.executor import Executor


class Arguments:
    """The arguments of a call as they travel."""

    __slots__ = ("kind", "data", "dependencies", "refs", "blob")

    def __init__(self) -> None:
        self.kind = wire.NONE
        self.data = b""
        #: Arguments that are refs themselves: the task waits for them and gets their values.
        self.dependencies: list[tuple[int | str, ObjectRef[Any]]] | None = None
        #: Refs inside other arguments: they stay refs.
        self.refs: Sequence[ObjectRef[Any]] = ()
        #: The object that holds the arguments, if they are too large for a message.
        self.blob: ObjectRef[Any] | None = None


_NO_ARGUMENTS = Arguments()


class Core:
    """See the module's text. One a process; ``current.process.core``."""

    def __init__(self, kind: str, worker_id: bytes, session_dir: str, config: Config) -> None:
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
        self.reactor = Reactor(kind)
        self.lock = self.reactor.lock
        self.reactor.on_turn = self.drain
        self.reactor.check_interrupt = self._check_interrupt
        self.refs = RefTable()
        #: Entries whose ObjectRefs ended; appended by ``ObjectRef.__del__``, drained each turn.
        self.dead_refs: deque[ObjectEntry] = deque()
        self.store = StoreClient(config.extent_cache_bytes)
        self.store.on_dead_view = self._dead_view
        self.counter = 0
        self.node: Connection = None  # type: ignore[assignment]  # set by connect_node
        self.control: Connection | None = None
        self.peers = Peers(self)
        self.objects = Objects(self)
        self.normal = NormalSubmitter(self)
        self.actors = ActorSubmitter(self)
        #: In workers.
        self.executor: Executor | None = None
        #: What to do with lines that workers print (drivers).
        self.on_log: Callable[[node.LogLines], None] | None = None
        #: Called (once, under the lock) when the daemon's connection ends.
        self.on_node_lost: Callable[[str], None] = self.fail_everything
        self.dead_reason = ""
        self._requests: dict[int, tuple[Connection, list[Any], Waiter]] = {}
        self._last_request = 0
        self._interrupted = False
        self._pid = os.getpid()
        self._last_function = 0
        self.peers.handlers.update(
            {wire.Reply: self._reply, wire.Returned: self.normal.returned}
        )
        self.welcome: node.Welcome | None = None
        self.on_welcome: Waiter | None = None

    # ------------------------------------------------------------------ connections

    def connect_node(self, sock: socket.socket, job_config: bytes) -> None:
        """Say hello to the daemon. Called under the lock."""
        handlers: dict[type, Handler] = {
            node.Welcome: self._welcome,
            node.LeaseGranted: self.normal.granted,
            node.DemandRefused: self.normal.refused,
            node.LeaseReclaim: self.normal.reclaim,
            node.WorkerDied: self.normal.worker_died,
            node.Extent: self._extent,
            node.Pinned: self._pinned,
            node.StoreReport: self._answered,
            node.TrimExtents: lambda c, m: self.objects.give_extents_back(),
            node.LogLines: self._log_lines,
        }
        if self.executor is not None:
            handlers.update(self.executor.node_handlers())
        self.node = Connection(self.reactor, sock, handlers, self._node_closed, receives_fds=True)
        self.node.peer = "the node daemon"
        self.node.send(
            node.Hello(self.kind, self.worker_id, os.getpid(), self.address, PROTOCOL, job_config)
        )
        self.node.flush()

    def connect_control(
        self, sock: socket.socket, job_id: bytes, entrypoint: str, answered: Waiter
    ) -> list[Any]:
        """Register with the control store; the answer will be in the list. Called under the lock."""
        handlers: dict[type, Handler] = {
            control.Answer: self._answered,
            control.ActorUpdate: self.actors.updated,
        }
        self.control = Connection(self.reactor, sock, handlers, self._control_closed)
        self.control.peer = "the control store"
        request = self._new_request(self.control, answered)
        self.control.send(
            control.RegisterJob(request, self.worker_id, job_id, self.namespace, entrypoint, PROTOCOL)
        )
        self.control.flush()
        return self._requests[request][1]

    def control_send(self, message: Any) -> None:
        """Send to the control store, connecting at first need (workers). Called under the lock."""
        self._ensure_control()
        if self.control is not None:
            self.control.send(message)
            self.control.flush()

    def _ensure_control(self) -> None:
        if self.control is None and self.executor is not None:
            try:
                sock = dial(os.path.join(self.session_dir, "control.sock"))
            except OSError:
                return
            self.connect_control(sock, self.job_id, "", Waiter())

    def _welcome(self, connection: Connection, message: node.Welcome) -> None:
        self.welcome = message
        self.node_id = message.node_id
        if self.on_welcome is not None:
            self.on_welcome.notify()

    def _node_closed(self, connection: Connection) -> None:
        self._fail_requests(connection)
        self.on_node_lost(connection.close_reason)

    def fail_everything(self, reason: str) -> None:
        """The session is lost: end every wait with an error. Called under the lock."""
        self.dead_reason = reason
        error = dump_error(errors.LocalRayletDiedError(reason))
        self.normal.fail_all(error)
        self.actors.fail_all(reason)
        for entry in list(self.refs.entries.values()):
            if entry.kind == PENDING:
                self.fulfil(entry, wire.ERROR, error)
        if self.on_welcome is not None:
            self.on_welcome.notify()

    def _control_closed(self, connection: Connection) -> None:
        self.control = None
        self._fail_requests(connection)
        self.actors.cut_off(
            "the control store of the session is gone, so nobody can tell where the actor is now"
        )

    def _log_lines(self, connection: Connection, message: node.LogLines) -> None:
        if self.on_log is not None:
            self.on_log(message)

    # ------------------------------------------------------------------ requests

    def _new_request(self, connection: Connection, waiter: Waiter) -> int:
        self._last_request += 1
        self._requests[self._last_request] = (connection, [], waiter)
        return self._last_request

    def request(self, connection: Connection | None, make: Callable[[int], Any]) -> Any:
        """Ask the daemon or the control store and wait for the answer. Not under the lock.

        Raises:
            RaySystemError: the one asked is gone.
        """
        waiter = Waiter()
        with self.lock:
            if connection is None or connection.closed:
                raise errors.RaySystemError(self.dead_reason or "the control store of the session is gone")
            request = self._new_request(connection, waiter)
            box = self._requests[request][1]
            connection.send(make(request))
            connection.flush()
        try:
            self.reactor.wait(waiter)
        finally:
            with self.lock:
                self._requests.pop(request, None)
        if not box:
            raise errors.RaySystemError(
                self.dead_reason or f"{connection.peer} is gone: {connection.close_reason}"
            )
        return box[0]

    def ask_control(self, make: Callable[[int], Any]) -> bytes:
        """Ask the control store; return the answer's body or raise the error that it names."""
        with self.lock:
            self._ensure_control()
        answer: control.Answer = self.request(self.control, make)
        if answer.error_type:
            kind = getattr(errors, answer.error_type, None) or {"ValueError": ValueError}.get(
                answer.error_type, RuntimeError
            )
            raise kind(answer.error)
        return answer.data

    def _answered(self, connection: Connection, message: Any) -> None:
        found = self._requests.get(message.request)
        if found is not None:
            found[1].append(message)
            found[2].notify()

    def _extent(self, connection: Connection, message: node.Extent) -> None:
        if message.has_fd:
            self.store.attach(message.segment, message.segment_size, connection.take_fd())
        self._answered(connection, message)

    def _pinned(self, connection: Connection, message: node.Pinned) -> None:
        if message.has_fd:
            self.store.attach(message.segment, message.segment_size, connection.take_fd())
        self._answered(connection, message)

    def _fail_requests(self, connection: Connection) -> None:
        for asked, _, waiter in self._requests.values():
            if asked is connection:
                waiter.notify()

    # ------------------------------------------------------------------ waiting and interrupts

    def wait(self, waiter: Waiter, deadline: float | None) -> bool:
        """Wait; a worker's task that waits long lends its CPUs meanwhile."""
        executor = self.executor
        if executor is not None and executor.lends:
            return executor.wait_lending(waiter, deadline)
        return self.reactor.wait(waiter, deadline)

    def check_usable(self) -> None:
        """Raise if the session is lost."""
        if self.dead_reason:
            raise errors.LocalRayletDiedError(self.dead_reason)

    def interrupt(self, signum: int, frame: Any) -> None:
        """SIGINT in the main thread: raise in user code at once, in ours at the next safe point.

        Ours is whatever runs below a frame of this package: a table may be half changed there.
        """
        while frame is not None:
            if frame.f_code.co_filename.startswith(_PACKAGE):
                self._interrupted = True
                self.reactor.nudge()
                # Should ours end before it reaches a safe point, the signal comes again.
                threading.Timer(0.02, self._again).start()
                return
            frame = frame.f_back
        self._interrupted = False
        raise KeyboardInterrupt

    def _again(self) -> None:
        if self._interrupted:
            signal.raise_signal(signal.SIGINT)

    def _check_interrupt(self) -> None:
        if self._interrupted and threading.current_thread() is threading.main_thread():
            self._interrupted = False
            raise KeyboardInterrupt

    def warn(self, text: str) -> None:
        """Tell the user something that is not an error (yet)."""
        print(f"skate: {text}", file=sys.stderr, flush=True)

    # ------------------------------------------------------------------ reference counts

    def _dead_view(self) -> None:
        if self.reactor.polling:
            self.reactor.request_turn()

    def drain(self) -> None:
        """Count what ended since the last turn, and carry out what that means. Under the lock."""
        refs = self.refs
        free: list[bytes] = []
        keep: list[bytes] = []
        while True:
            dead = self.dead_refs
            while dead:
                refs.drop_local(dead.popleft())
            if self.store.dead_views:
                for object_id, local in self.store.drain_dead():
                    ended = self.objects.view_ended(object_id, local)
                    if ended is not None:
                        (keep if ended[1] else free).append(ended[0])
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
                        self.peers.release(command.entry)
                else:
                    self.peers.register(command.entry)
        if free:
            self.node.send(node.Free(free, False))
        if keep:
            self.node.send(node.Free(keep, True))

    def _handle_freed(self, entry: ObjectEntry) -> None:
        """If the entry stood for the handles of an actor, that actor is to end."""
        if entry.label == "actor":
            self.control_send(control.ReleaseActor(entry.data))

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

    # ------------------------------------------------------------------ submitting

    def make_function(self, function: Any, name: str, threads: int) -> FunctionRecord:
        """Pickle a remote function, once a session."""
        try:
            blob, refs = dump_code(function)
        except Exception as error:
            raise TypeError(f"cannot send {name}: {culprit.explain(function, name, error)}") from None
        with self.lock:
            self._last_function += 1
            pins = [ref._entry for ref in refs]
            for entry in pins:
                entry.pins += 1
            return FunctionRecord(self._last_function, name, blob, threads, pins)

    def encode_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any], name: str) -> Arguments:
        """Turn arguments into bytes, refs among them into dependencies.

        Raises:
            TypeError: one cannot be pickled; the message names the path to it.
        """
        if not args and not kwargs:
            return _NO_ARGUMENTS
        arguments = Arguments()
        plain = True
        for index, value in enumerate(args):
            kind = type(value)
            if kind not in _PLAIN:
                plain = False
                if kind is ObjectRef:
                    if arguments.dependencies is None:
                        arguments.dependencies = []
                        args = tuple(args)
                    arguments.dependencies.append((index, value))
        for key, value in kwargs.items():
            kind = type(value)
            if kind not in _PLAIN:
                plain = False
                if kind is ObjectRef:
                    if arguments.dependencies is None:
                        arguments.dependencies = []
                    arguments.dependencies.append((key, value))
        if arguments.dependencies is not None:
            args = tuple([None if type(value) is ObjectRef else value for value in args])
            kwargs = {key: None if type(value) is ObjectRef else value for key, value in kwargs.items()}
        if plain:
            data = pickle.dumps((args, kwargs), 5)
            if len(data) <= self.config.max_inline_bytes:
                arguments.kind, arguments.data = wire.PICKLE, data
                return arguments
        try:
            serialized = serialize((args, kwargs))
        except RecursionError:
            raise
        except Exception as error:
            for index, value in enumerate(args):
                self._explain(value, f"args[{index}]", name, error)
            for key, value in kwargs.items():
                self._explain(value, f"kwargs[{key!r}]", name, error)
            raise
        arguments.refs = serialized.refs
        if serialized.size <= self.config.max_inline_bytes:
            arguments.kind, arguments.data = serialized.kind, serialized.to_bytes()
            return arguments
        with self.lock:
            entry = self.refs.own(ids.object_id(self.worker_id, self.next_counter()))
            entry.local = 1
            entry.exported = True
        arguments.blob = make_ref(entry, self)
        kind_, data = self.objects.store_value(entry.id, serialized, tuple, mine=True)
        with self.lock:
            self.refs.fulfil(entry, kind_, data)
        arguments.kind, arguments.data = wire.SHARED, entry.id
        return arguments

    def _explain(self, value: Any, path: str, name: str, error: Exception) -> None:
        try:
            serialize(value)
        except Exception as own:
            raise TypeError(f"cannot call {name}: {culprit.explain(value, path, own)}") from None

    def _new_task(
        self,
        function: FunctionRecord | None,
        method: str,
        arguments: Arguments,
        num_returns: int,
        retries: int,
    ) -> TaskRecord:
        """Make the records of a call. Under the lock."""
        seq = self.counter = self.counter + 1
        own = self.refs.own
        worker_id = self.worker_id
        if num_returns == 1:
            entries = [own(ids.object_id(worker_id, seq))]
        else:
            entries = [own(ids.object_id(worker_id, seq, index)) for index in range(num_returns)]
        task = TaskRecord(
            seq, function, method, arguments.kind, arguments.data, entries, retries,
            context.depth + 1 << wire.DEPTH_SHIFT,
        )  # fmt: skip
        for entry in entries:
            entry.local = 1
            entry.task = task
        if arguments is not _NO_ARGUMENTS:
            pins: list[ObjectEntry] = [ref._entry for ref in arguments.refs]
            if arguments.blob is not None:
                pins.append(arguments.blob._entry)
            if arguments.dependencies is not None:
                task.dependencies = [(where, ref._entry) for where, ref in arguments.dependencies]
                pins += [entry for _, entry in task.dependencies]
                for _, entry in task.dependencies:
                    self._depend(task, entry)
            if pins:
                for entry in pins:
                    entry.pins += 1
                task.pins = pins
        return task

    def _depend(self, task: TaskRecord, entry: ObjectEntry) -> None:
        if entry.kind == PENDING:
            task.unresolved += 1
            if entry.dependents is None:
                entry.dependents = []
            entry.dependents.append(lambda ready: self._argument_ready(task, ready))
            if entry.owner_address is not None:
                self.peers.fetch(entry)

    def _argument_ready(self, task: TaskRecord, entry: ObjectEntry) -> None:
        if task.unresolved < 0:
            return
        if entry.kind == wire.ERROR:
            task.unresolved = -1
            if task.actor is not None:
                self.actors.failed_argument(task)
            self.finish_with_error(task, entry.data)
            return
        task.unresolved -= 1
        if task.unresolved == 0:
            if task.actor is not None:
                self.actors.ready(task)
            elif task.pool is not None:
                self.normal.submit(task, task.pool)

    def _failed_already(self, task: TaskRecord) -> bool:
        """Whether an argument is an error, so that the task is one without being run."""
        if task.dependencies is not None:
            for _, entry in task.dependencies:
                if entry.kind == wire.ERROR:
                    task.unresolved = -1
                    self.finish_with_error(task, entry.data)
                    return True
        return False

    def submit_task(
        self,
        function: FunctionRecord,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        pool: LeasePool,
        num_returns: int,
        max_retries: int,
        name: str | None,
    ) -> Any:
        """Run a remote function; return its ref, the list of its refs, or None for no returns."""
        arguments = self.encode_arguments(args, kwargs, function.name)
        with self.lock:
            if self.dead_reason:
                self.check_usable()
            task = self._new_task(function, "", arguments, num_returns, max_retries)
            task.name = name
            entries = task.returns
            task.pool = pool
            if not self._failed_already(task) and task.unresolved == 0:
                self.normal.submit(task, pool)
            refs = [make_ref(entry, self) for entry in entries]
        return self._submitted(refs, num_returns)

    def _submitted(self, refs: list[ObjectRef[Any]], num_returns: int) -> Any:
        if self.reactor.dirty and self.reactor.polling:
            self.reactor.request_turn()
        if num_returns == 1:
            return refs[0]
        return refs if refs else None

    def submit_call(
        self,
        client: ActorClient,
        handle: ObjectRef[Any] | None,
        method: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        num_returns: int,
        max_retries: int,
        name: str | None,
    ) -> Any:
        """Call an actor's method; return like ``submit_task``."""
        arguments = self.encode_arguments(args, kwargs, f"{client.class_name}.{method}")
        with self.lock:
            if self.dead_reason:
                self.check_usable()
            task = self._new_task(None, method, arguments, num_returns, max_retries)
            task.name = name
            entries = task.returns
            if handle is not None:
                # A call under way keeps the actor alive even if every handle is gone.
                handle._entry.pins += 1
                if task.pins is None:
                    task.pins = [handle._entry]
                else:
                    task.pins.append(handle._entry)
            task.actor = client
            if not self._failed_already(task):
                self.actors.submit(task, client)
            refs = [make_ref(entry, self) for entry in entries]
        if client.connection is not None and len(client.connection.out) > HIGH_WATER:
            self._wait_for_room(client.connection)
        return self._submitted(refs, num_returns)

    def _wait_for_room(self, connection: Connection) -> None:
        """Back-pressure: the peer reads more slowly than this thread submits."""
        waiter = Waiter()

        def look() -> None:
            if connection.closed or connection.queued_bytes < HIGH_WATER // 2:
                waiter.notify()
            else:
                self.reactor.call_later(0.005, look)

        with self.lock:
            connection.flush()
            look()
        self.reactor.wait(waiter)

    # ------------------------------------------------------------------ finishing

    def _reply(self, connection: Connection, message: wire.Reply) -> None:
        task = connection.peer.calls.pop(message.seq, None)
        if task is None:
            return  # given up meanwhile
        entries = task.returns
        if message.borrowed:
            for object_id, epoch in message.borrowed:
                self.refs.add_borrower(object_id, connection.peer.id, epoch)
        if message.contained:
            self._take_contained(connection, task, message)
        if entries:
            kind = message.kind
            self._set_return(entries[0], kind, message.data)
            if kind == wire.ERROR:
                for entry in entries[1:]:
                    self._set_return(entry, kind, message.data)
            elif message.more is not None:
                for entry, (more_kind, more_data) in zip(entries[1:], message.more, strict=False):
                    self._set_return(entry, more_kind, more_data)
        if task.pins is not None:
            self._unpin(task)
        if task.actor is None:
            self.normal.replied(task, message.microseconds)
        else:
            self.actors.replied(task)

    def _set_return(self, entry: ObjectEntry, kind: int, data: bytes) -> None:
        if entry.gone:
            if kind == wire.SHARED:
                self.node.send(node.Free([entry.id], False))
            return
        if entry.waiters is None and entry.dependents is None:
            entry.kind = kind
            entry.data = data
            entry.task = None
        else:
            self.fulfil(entry, kind, data)

    def _unpin(self, task: TaskRecord) -> None:
        pins, task.pins = task.pins, None
        for entry in pins or ():
            self.refs.unpin(entry)

    def _take_contained(self, connection: Connection, task: TaskRecord, message: wire.Reply) -> None:
        """Results have refs inside: register with their owners, then release the worker's hold."""
        missing = len(message.contained or ())
        seq = message.seq

        def registered() -> None:
            nonlocal missing
            missing -= 1
            if not missing:
                connection.send(wire.ReplyAck(seq))

        for index, object_id, owner_address in message.contained or ():
            if owner_address == self.address:
                inner = self.refs.entries.get(object_id)
                if inner is not None:
                    self.refs.contain(task.returns[index], [inner])
                registered()
                continue
            inner = self.refs.borrow(object_id, owner_address)
            inner.pins += 1  # until it is registered, whatever becomes of the result
            self.refs.contain(task.returns[index], [inner])

            def done(entry: ObjectEntry = inner) -> None:
                self.refs.unpin(entry)
                registered()

            self.refs.register(inner, done)

    def finish_with_error(self, task: TaskRecord, error: bytes) -> None:
        """A call is over without a reply. Under the lock."""
        task.unresolved = -1
        for entry in task.returns:
            if not entry.gone:
                self.fulfil(entry, wire.ERROR, error)
        self._unpin(task)

    # ------------------------------------------------------------------ end

    def close(self) -> None:
        """Disconnect; refs and views that are left are harmless afterwards."""
        with self.lock:
            self.fail_everything(self.dead_reason or "this session was shut down")
        self.reactor.close()
        with self.lock:
            self.peers.close()
            for connection in (self.control, self.node):
                if connection is not None:
                    connection.abandon()
            self.store.close()
        self.objects.close()
        try:
            os.unlink(self.address)
        except OSError:
            pass

    def abandon(self) -> None:
        """In a forked child of user code: drop every connection; nothing of this is usable here."""
        current.process.core = None
        current.process.forked = True
        self.reactor.abandon()
        for connection in (*self.peers.connections, self.node, self.control):
            if connection is not None:
                connection.sock.close()


_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


def _after_fork_in_child() -> None:
    core = current.process.core
    if core is not None and core._pid != os.getpid():
        core.abandon()


os.register_at_fork(after_in_child=_after_fork_in_child)
