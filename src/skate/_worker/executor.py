"""Runs calls in a worker: on the main thread, one at a time, in the order in which they came.

The main thread reads its sockets itself while it is idle, so that a call goes from the socket to
user code to the socket on one thread. While user code runs long, the background thread reads.
"""

from __future__ import annotations

import os
import pickle
import signal
import struct
import threading
from collections import deque
from collections.abc import Callable, Sequence
from mmap import mmap
from typing import TYPE_CHECKING, Any

from skate._base import errors, ids
from skate._base.clock import monotonic, perf_counter
from skate._serialize import culprit
from skate._serialize.exceptions import dump_error, dump_task_error
from skate._serialize.values import deserialize, serialize
from skate._transport.connection import EAGER_BYTES, Connection, Handler
from skate._transport.reactor import Waiter
from skate._wire import control, node
from skate._wire import worker as wire
from skate._wire.codec import unpack
from skate._worker import output
from skate._worker.current import context
from skate._worker.object_ref import ObjectRef
from skate._worker.objects import arrivals
from skate._worker.refs import REGISTERED, ObjectEntry

if TYPE_CHECKING:
    from skate._worker.core import Core
    from skate._worker.peers import Peer

_WORD = struct.Struct("<8sQ")
#: Replies of short calls are kept together at most this long (seconds).
_HOLD = 0.001


_Result = tuple[
    int,  # kind
    bytes,  # data of the first return
    "list[tuple[int, bytes]] | None",  # further returns
    "list[tuple[int, bytes, str]] | None",  # refs inside: (return index, id, owner's address)
    "list[ObjectEntry] | None",  # their entries, to be kept until the owner acknowledges
]


class ActorExit(SystemExit):
    """Raised by ``exit_actor``: the actor's process ends on purpose."""


class Function:
    """A remote function that an owner sent; unpickled at its first call."""

    __slots__ = ("name", "blob", "threads", "callable")

    def __init__(self, name: str, blob: bytes, threads: int) -> None:
        self.name = name
        self.blob = blob
        self.threads = threads
        self.callable: Callable[..., Any] | None = None

    def load(self) -> Callable[..., Any]:
        """Return the function."""
        if self.callable is None:
            limit_threads(self.threads)
            self.callable = pickle.loads(self.blob)
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
        self._running = False
        self._stopping = False
        self._exit_code = 0
        self._last_flush = 0.0
        self._main = threading.current_thread()
        #: The actor that this process is.
        self.actor: Any = None
        self.actor_spec: control.ActorSpec | None = None
        self.actor_id = b""
        self.incarnation = 0
        core.peers.handlers.update(
            {
                wire.DefineFunction: self._define,
                wire.Call: self._called,
                wire.ReplyAck: self._reply_ack,
            }
        )
        core.reactor.on_background = self._give_back
        core.on_node_lost = lambda reason: end_process_group()

    def node_handlers(self) -> dict[type, Handler]:
        """Return which message of the daemon goes where."""
        return {node.StartActor: self._called, node.Exit: self._asked_to_exit}

    # ------------------------------------------------------------------ what arrives (under the lock)

    def _define(self, connection: Connection, message: wire.DefineFunction) -> None:
        connection.peer.functions[message.fn] = Function(message.name, message.blob, message.threads)

    def _called(self, connection: Connection, message: Any) -> None:
        self._queue.append((connection, message))
        if self._waiter is not None:
            self._waiter.notify()
        elif self._core.reactor.background_leads:
            self._give_back()

    def _give_back(self) -> None:
        """Return calls to their owners that wait behind one that takes long. Not those of actors."""
        if not self._running or self.actor_spec is not None or not self._queue:
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

    def _reply_ack(self, connection: Connection, message: wire.ReplyAck) -> None:
        for entry in connection.peer.acks.pop(message.seq, ()):
            self._core.refs.unpin(entry)

    def caller_left(self, connection: Connection) -> None:
        """A caller is gone: what it still had queued here is not run."""
        self._queue = deque(item for item in self._queue if item[0] is not connection)

    def _asked_to_exit(self, connection: Connection, message: node.Exit) -> None:
        core = self._core
        core.drain()
        if self._running or self._queue or core.refs.entries or core.store.objects:
            core.node.send(node.ExitRefused())
            return
        self._leave("it was idle")

    def _leave(self, reason: str, code: int = 0) -> None:
        self._core.node.send(node.Leaving(reason))
        self._core.node.flush()
        self._stopping = True
        self._exit_code = code
        if self._waiter is not None:
            self._waiter.notify()

    # ------------------------------------------------------------------ the main thread

    def run(self) -> int:
        """Serve until told to end; return the exit code."""
        queue = self._queue
        while not self._stopping:
            queue = self._queue
            try:
                connection, message = queue.popleft()
            except IndexError:
                self._idle()
                continue
            if type(message) is wire.Call:
                self._run_call(connection, message)
            else:
                self._start_actor(message)
        with self._core.lock:
            self._core.drain()
            self._core.reactor.flush()
        return self._exit_code

    def _idle(self) -> None:
        core = self._core
        with core.lock:
            if core.reactor.dirty:
                core.reactor.flush()
            if self._queue or self._stopping:
                return
            waiter = self._waiter = Waiter()
        core.reactor.wait(waiter)
        self._waiter = None

    @property
    def lends(self) -> bool:
        """Whether the calling thread runs a task whose CPUs can be lent while it waits."""
        return self._running and self.actor_spec is None and threading.current_thread() is self._main

    def wait_lending(self, waiter: Waiter, deadline: float | None) -> bool:
        """Wait; after a moment give back what is queued here and lend the CPUs."""
        core = self._core
        soon = monotonic() + core.config.lend_after_ms / 1000
        if deadline is not None and deadline <= soon:
            return core.reactor.wait(waiter, deadline)
        if core.reactor.wait(waiter, soon):
            return True
        with core.lock:
            self._give_back()
            core.node.send(node.Blocked(True))
            core.reactor.flush()
        try:
            return core.reactor.wait(waiter, deadline)
        finally:
            with core.lock:
                core.node.send(node.Blocked(False))
                core.node.flush()

    # ------------------------------------------------------------------ calls

    def _run_call(self, connection: Connection, call: wire.Call) -> None:
        core, peer = self._core, connection.peer
        _WORD.pack_into(self._board, self._word, peer.id, call.seq)
        context.task_id = ids.task_id(peer.id, call.seq)
        context.depth = call.flags >> wire.DEPTH_SHIFT
        self._running = True
        met: list[ObjectEntry] = []
        kept: list[ObjectEntry] | None = None
        started = perf_counter()
        try:
            kind, data, more, contained, kept = self._invoke(peer, call, met)
        except BaseException as error:
            failed = self._failed(error, context.task_name or str(call.fn))
            if failed is None:
                return
            kind, data, more, contained = wire.ERROR, failed, None, None
        taken = int((perf_counter() - started) * 1_000_000)
        self._running = False
        with core.lock:
            reply = wire.Reply(call.seq, kind, data, taken, more, None, contained)
            if kept is not None:
                for entry in kept:
                    entry.pins += 1
                peer.acks[call.seq] = kept
            if core.dead_refs or core.store.dead_views:
                core.drain()
            if met and not self._settle(connection, reply, met):
                return
            connection.send(reply)
            self._flush(connection)

    def _invoke(self, peer: Peer, call: wire.Call, met: list[ObjectEntry]) -> _Result:
        """Run user code. Its arguments and results live in this frame only, so that they are gone
        when the reply says which refs are still held."""
        if self.actor_spec is None:
            function = peer.functions[call.fn]  # type: ignore[index]
            context.task_name = output.names.current = call.name or function.name
            target = function.load()
        else:
            context.task_name = f"{self.actor_spec.class_name}.{call.fn}"
            target = self._method(str(call.fn))
        args, kwargs = self._decode_arguments(call, met)
        result = target(*args, **kwargs)
        count = call.num_returns
        if count == 1:
            kind, data, refs = self._encode(peer.id, call.seq, 0, result)
            if not refs:
                return kind, data, None, None, None
            contained, kept = self._contain(0, refs)
            return kind, data, None, contained, kept
        if count == 0:
            return wire.NONE, b"", None, None, None
        return self._encode_many(peer.id, call.seq, count, result)

    def _flush(self, connection: Connection) -> None:
        """Send replies now, unless the next call is known to be short."""
        queue = self._queue
        if queue and len(connection.out) < EAGER_BYTES:
            following = queue[0][1]
            if type(following) is wire.Call and following.flags & wire.SHORT:
                now = monotonic()
                if now - self._last_flush < _HOLD:
                    return
                self._last_flush = now
        connection.flush()

    def _method(self, name: str) -> Callable[..., Any]:
        if name == "__ray_ready__":
            return lambda: True
        if name == "__ray_call__":
            return lambda function, *args, **kwargs: function(self.actor, *args, **kwargs)
        if name == "__ray_terminate__":
            return _terminate
        return getattr(self.actor, name)  # type: ignore[no-any-return]

    def _decode_arguments(
        self, call: wire.Call, met: list[ObjectEntry]
    ) -> tuple[Sequence[Any], dict[str, Any]]:
        """Return args and kwargs; ``met`` gets the entries of the refs that came with them."""
        if call.kind == wire.NONE:
            return (), {}
        outer, arrivals.entries = arrivals.entries, met
        try:
            data: bytes | memoryview = call.args
            kind = call.kind
            if kind == wire.SHARED:
                data, kind = self._core.objects.view(call.args), wire.BUFFERS
            args, kwargs = deserialize(kind, data)
            if call.dependencies is not None:
                args = list(args)
                for where, kind, data, object_id in call.dependencies:
                    if kind == wire.SHARED:
                        data, kind = self._core.objects.view(object_id), wire.BUFFERS
                    value = deserialize(kind, data)
                    if isinstance(where, int):
                        args[where] = value
                    else:
                        kwargs[where] = value
            return args, kwargs
        finally:
            arrivals.entries = outer

    def _encode(
        self, owner: bytes, seq: int, index: int, result: Any
    ) -> tuple[int, bytes, Sequence[ObjectRef[Any]]]:
        if result is None:
            return wire.NONE, b"", ()
        try:
            serialized = serialize(result)
        except RecursionError:
            raise
        except Exception as error:
            name = "the result" if index == 0 else f"return {index}"
            raise TypeError(f"cannot return it: {culprit.explain(result, name, error)}") from None
        if serialized.size <= self._core.config.max_inline_bytes:
            return serialized.kind, serialized.to_bytes(), serialized.refs
        object_id = ids.object_id(owner, seq, index)
        kind, data = self._core.objects.store_value(object_id, serialized, type(result), mine=False)
        return kind, data, serialized.refs

    def _contain(
        self, index: int, refs: Sequence[ObjectRef[Any]]
    ) -> tuple[list[tuple[int, bytes, str]], list[ObjectEntry]]:
        """Refs inside a result: named in the reply, kept here until the owner acknowledges."""
        entries = list({id(ref._entry): ref._entry for ref in refs}.values())
        address = self._core.address
        return [(index, entry.id, entry.owner_address or address) for entry in entries], entries

    def _encode_many(self, owner: bytes, seq: int, count: int, result: Any) -> _Result:
        try:
            values = list(result)
        except TypeError:
            values = [result]
            count_is = "one that cannot be iterated"
        else:
            count_is = str(len(values))
        if len(values) != count:
            raise ValueError(f"{context.task_name} has num_returns={count} and returned {count_is} value(s)")
        encoded: list[tuple[int, bytes]] = []
        contained: list[tuple[int, bytes, str]] = []
        kept: list[ObjectEntry] = []
        for index, value in enumerate(values):
            kind, data, refs = self._encode(owner, seq, index, value)
            encoded.append((kind, data))
            if refs:
                named, entries = self._contain(index, refs)
                contained += named
                kept += entries
        (kind, data), more = encoded[0], encoded[1:]
        return kind, data, more, contained or None, kept or None

    def _failed(self, error: BaseException, name: str) -> bytes | None:
        """User code raised. Return the bytes of the error, or None if the process is to end."""
        actor_repr = None
        if self.actor_spec is not None:
            if isinstance(error, SystemExit):
                cause = "exit_actor() was called" if isinstance(error, ActorExit) else "sys.exit() was called"
                self._running = False
                with self._core.lock:
                    self._core.reactor.flush()
                    self._leave(f"{cause} in {name}")
                return None
            actor_repr = self.actor_spec.class_name
        elif isinstance(error, SystemExit):
            crash = errors.WorkerCrashedError(
                f"task {name} called sys.exit({error.code!r}); raise an exception or return instead"
            )
            return dump_error(crash)
        data = dump_task_error(error, name, actor_repr, self.actor_id.hex() or None)
        error.__traceback__ = None  # its frames hold the arguments
        return data

    # ------------------------------------------------------------------ borrowing at the end of a call

    def _settle(self, connection: Connection, reply: wire.Reply, met: list[ObjectEntry]) -> bool:
        """See to the refs that came with the arguments and are still held. Under the lock.

        Those of the caller are named in the reply, which registers us with it. For others the reply
        waits until their owners have acknowledged: the caller protects them until it has the reply.
        Return False if the reply will be sent later.
        """
        core, caller = self._core, connection.peer.id
        borrowed: list[tuple[bytes, int]] = []
        third: list[ObjectEntry] = []
        for entry in {id(entry): entry for entry in met}.values():
            if entry.gone or entry.owner_address is None or entry.borrow_state == REGISTERED:
                continue
            if ids.owner_of(entry.id) == caller:
                borrowed.append(core.refs.piggyback(entry))
            else:
                third.append(entry)
        if borrowed:
            reply = wire.Reply(
                reply.seq, reply.kind, reply.data, reply.microseconds, reply.more, borrowed, reply.contained
            )
        if not third:
            if borrowed:
                connection.send(reply)
                connection.flush()
            return not borrowed
        missing = len(third)

        def registered() -> None:
            nonlocal missing
            missing -= 1
            if not missing:
                connection.send(reply)

        for entry in third:
            core.refs.register(entry, registered)
        core.drain()
        core.reactor.flush()
        return False

    # ------------------------------------------------------------------ becoming an actor

    def _start_actor(self, message: node.StartActor) -> None:
        spec = unpack(message.spec, type=control.ActorSpec)
        self.actor_spec = spec
        self.actor_id = message.actor_id
        self.incarnation = message.incarnation
        context.depth = 1
        context.task_name = output.names.current = spec.class_name
        limit_threads(-(-spec.running.get("CPU", 10_000) // 10_000))
        error = b""
        core = self._core
        met: list[ObjectEntry] = []
        try:
            self.actor = self._construct(spec, met)
        except BaseException as raised:
            error = dump_task_error(
                raised, f"{spec.class_name}.__init__", spec.class_name, message.actor_id.hex()
            )
            raised.__traceback__ = None
        with core.lock:
            core.drain()
            for entry in met:
                # The creator keeps the arguments as long as the actor may need them again.
                if not entry.gone:
                    core.refs.register(entry)
            core.drain()
            core.node.send(node.ActorReady(message.actor_id, message.incarnation, error))
            core.reactor.flush()

    def _construct(self, spec: control.ActorSpec, met: list[ObjectEntry]) -> Any:
        cls = pickle.loads(spec.class_blob)
        args, kwargs = self._constructor_arguments(spec, met)
        return cls(*args, **kwargs)

    def _constructor_arguments(
        self, spec: control.ActorSpec, met: list[ObjectEntry]
    ) -> tuple[list[Any], dict[str, Any]]:
        core = self._core
        outer, arrivals.entries = arrivals.entries, met
        try:
            data: bytes | memoryview = spec.args
            kind = spec.args_kind
            if kind == wire.SHARED:
                data, kind = core.objects.view(spec.args), wire.BUFFERS
            args, kwargs = deserialize(kind, data) if kind != wire.NONE else ((), {})
            args = list(args)
            dependencies = [
                (where, core.objects.adopt(object_id, owner)) for where, object_id, owner in spec.dependencies
            ]
        finally:
            arrivals.entries = outer
        for where, ref in dependencies:
            value = core.objects.get_one(ref, None)
            if isinstance(where, int):
                args[where] = value
            else:
                kwargs[where] = value
        return args, kwargs


def _terminate() -> None:
    raise ActorExit("terminated")


def limit_threads(count: int) -> None:
    """Let numeric libraries that are not imported yet use as many threads as the task has CPUs."""
    if "OMP_NUM_THREADS" not in os.environ or os.environ.get("_SKATE_OMP"):
        os.environ["OMP_NUM_THREADS"] = str(max(1, count))
        os.environ["_SKATE_OMP"] = "1"


def end_process_group() -> None:
    """End this worker and every process that it started, at once."""
    os.killpg(os.getpgrp(), signal.SIGKILL)
