"""Runs several calls of an actor at a time: on threads, or interleaved on one asyncio loop.

Calls begin in the order in which they came, and end in any order. Each concurrency group has its own
limit; calls of no group share ``max_concurrency``.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections import deque
from queue import SimpleQueue
from typing import Any

from skate._base.clock import perf_counter
from skate._base.user_errors import is_a, report
from skate._base.waits import lane
from skate._serialize.exceptions import dump_task_error
from skate._transport.connection import Connection
from skate._transport.reactor import in_main_thread
from skate._wire import control
from skate._wire import worker as wire
from skate._worker.execution import output
from skate._worker.execution.actor_host import ActorHost
from skate._worker.execution.invocation import Result
from skate._worker.execution.runner import Invoker, Key
from skate._worker.objects.refs import ObjectEntry
from skate._worker.process import current
from skate._worker.process.context import ProcessContext
from skate._worker.process.current import SYSTEM_GROUP
from skate._worker.process.signals import Gate

_Work = tuple[Connection, wire.Call]


def limits_of(spec: control.ActorSpec) -> dict[str, int]:
    """Return how many calls each group runs at a time; "" is for the calls of no group."""
    return {"": spec.max_concurrency, SYSTEM_GROUP: 1, **spec.concurrency_groups}


def group_of(spec: control.ActorSpec, call: wire.Call) -> str:
    """Return the group of a call: its own, or its method's, or the default."""
    return call.group or str(spec.methods.get(str(call.fn), {}).get("concurrency_group", ""))


def _refuse(invoker: Invoker, spec: control.ActorSpec, connection: Connection, call: wire.Call) -> None:
    """Reply with an error to a call of an unknown group, which the caller chose. Under the lock."""
    name = invoker.name_of(connection.peer, call)
    known = ", ".join(spec.concurrency_groups) or "none"
    error = ValueError(
        f"{name} was called in the concurrency group {group_of(spec, call)!r}, which the actor's option "
        f"concurrency_groups does not define (it has: {known})"
    )
    data, _ = dump_task_error(error, name, spec.class_name)
    connection.send(wire.Reply(call.seq, wire.ERROR, data))
    connection.flush()


class _Threads:
    """The threads of one group, started as they are needed."""

    def __init__(self, runner: ThreadedRunner, name: str, limit: int) -> None:
        self._runner = runner
        self._name = name
        self._limit = limit
        self._work: SimpleQueue[_Work] = SimpleQueue()
        self._started = 0
        self._free = 0
        #: Not begun yet.
        self.queued: dict[Key, wire.Call] = {}

    def submit(self, work: _Work) -> None:
        """Queue a call; start a thread for it if all are busy and more are allowed."""
        self.queued[work[0].peer.id, work[1].seq] = work[1]
        self._work.put(work)
        if self._free < self._work.qsize() and self._started < self._limit:
            self._started += 1
            name = f"skate-actor-{self._name or 'default'}-{self._started}"
            try:
                threading.Thread(target=self._run, name=name, daemon=True).start()
            except RuntimeError as error:  # there is no room for its stack, or there may be no more
                self._started -= 1
                if not self._started:
                    raise MemoryError(f"an actor has no thread to run its calls: {error}") from None

    def _run(self) -> None:
        while True:
            self._free += 1
            work = self._work.get()
            self._free -= 1
            if self.queued.pop((work[0].peer.id, work[1].seq), None) is not None:
                self._runner.run(*work)


class ThreadedRunner:
    """Runs the calls of a threaded actor; the main thread reads the sockets."""

    def __init__(self, context: ProcessContext, invoker: Invoker, spec: control.ActorSpec) -> None:
        self._context = context
        self._invoker = invoker
        self._spec = spec
        self._groups = {name: _Threads(self, name, limit) for name, limit in limits_of(spec).items()}
        #: The constructor has ended.
        self._ready = False
        #: Call to its group and its start.
        self._running: dict[Key, tuple[str, float]] = {}

    def submit(self, connection: Connection, call: wire.Call) -> None:
        """See Runner."""
        threads = self._groups.get(group_of(self._spec, call))
        if threads is None:
            _refuse(self._invoker, self._spec, connection, call)
        else:
            threads.submit((connection, call))

    def lanes(self) -> list[dict[str, Any]]:
        """See Runner."""
        now, me = perf_counter(), self._context.worker_id
        if not self._ready:
            return [lane(me, 1, [(b"", 0, 0.0)], [])]
        running = list(self._running.items())
        return [
            lane(
                me,
                limit,
                [(*key, now - began) for key, (group, began) in running if group == name],
                list(self._groups[name].queued),
            )
            for name, limit in limits_of(self._spec).items()
        ]

    def cancel(self, connection: Connection, seq: int) -> bool:
        """See Runner. A method that runs is not interrupted: it may ask."""
        key = (connection.peer.id, seq)
        for threads in self._groups.values():
            call = threads.queued.pop(key, None)
            if call is not None:
                self._invoker.cancellations.answer(connection, call)
                return False
        if key in self._running:
            self._invoker.cancellations.cancelled.add(key)
            return True
        return False

    def serve(self, host: ActorHost) -> None:
        """See Runner."""
        host.start()
        self._ready = True
        self._invoker.wait_until_stopped()

    def about_to_wait(self) -> None:
        """See Runner: other threads go on."""

    def loop(self) -> None:
        """See Runner: there is none."""

    def stop(self) -> None:
        """See Runner. The main thread was woken already; the others are daemons."""

    def run(self, connection: Connection, call: wire.Call) -> None:
        """Run one call, on a thread of its group."""
        invoker = self._invoker
        received: list[ObjectEntry] = []
        key = (connection.peer.id, call.seq)
        started = perf_counter()
        self._running[key] = (group_of(self._spec, call), started)
        try:
            result = self._invoke(connection, call, received)
        except BaseException as error:
            result = invoker.failed(error, connection, call)
            if invoker.is_stopping:
                return
        taken = int((perf_counter() - started) * 1_000_000)
        output.flush(False)
        with self._context.locked:
            self._running.pop(key, None)
            invoker.cancellations.call_ended(*key)
            if invoker.invocation.reply(connection, call, result, taken, received):
                connection.flush()

    def _invoke(self, connection: Connection, call: wire.Call, received: list[ObjectEntry]) -> Result:
        invoker, peer = self._invoker, connection.peer
        name, target = invoker.target(peer, call)
        args, kwargs = invoker.invocation.decode_arguments(call, received)
        if call.stream is not None:
            invoker.yielding.run(connection, call, target(*args, **kwargs))
            return wire.NONE, b"", None, None, None
        return invoker.invocation.encode(peer, call, name, target(*args, **kwargs))


class AsyncRunner:
    """Runs the calls of an async actor on a loop on the main thread.

    The loop watches the reactor's own descriptor: the thread that runs coroutines reads the sockets
    too, and a call is not handed between threads. While user code blocks the loop, the background
    thread leads, as in every process.
    """

    def __init__(
        self,
        context: ProcessContext,
        gate: Gate,
        invoker: Invoker,
        spec: control.ActorSpec,
        limits: dict[str, int] | None = None,
    ) -> None:
        self._context = context
        self._invoker = invoker
        self._spec = spec
        self._free = dict(limits or limits_of(spec))
        self._waiting: dict[str, deque[_Work]] = {name: deque() for name in self._free}
        self._incoming: deque[_Work] = deque()
        self._drain_scheduled = False
        self._flush_scheduled = False
        #: The loop is reading the sockets, and drains the incoming calls afterwards.
        self._reading = False
        self._loop: asyncio.AbstractEventLoop = asyncio.new_event_loop()
        #: Calls that have no reply yet; None: the call's task has not had its first turn.
        self._running: dict[Key, asyncio.Task[None] | None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._warned = False
        gate.add_boundaries([AsyncRunner._invoke.__code__])

    def submit(self, connection: Connection, call: wire.Call) -> None:
        """See Runner."""
        self._running[connection.peer.id, call.seq] = None
        self._incoming.append((connection, call))
        if not self._drain_scheduled:
            on_loop = self.is_here()
            if on_loop and self._reading:
                return
            self._drain_scheduled = True
            if on_loop:
                self._loop.call_soon(self._drain)
            else:
                self._loop.call_soon_threadsafe(self._drain)

    def lanes(self) -> list[dict[str, Any]]:
        """See Runner. No call counts as blocked, as a coroutine may wait in many ways."""
        queued = {(connection.peer.id, call.seq): None for connection, call in self._queued()}
        running = [(*key, 0.0) for key in list(self._running) if key not in queued]
        return [lane(self._context.worker_id, 0, running, queued)]

    def cancel(self, connection: Connection, seq: int) -> bool:
        """See Runner. The loop decides about the call."""
        key = (connection.peer.id, seq)
        if key not in self._running:
            return False
        self._invoker.cancellations.cancelled.add(key)
        self._loop.call_soon_threadsafe(self._cancel, key)
        return True

    def _cancel(self, key: Key) -> None:
        task = self._running.get(key)
        if task is not None:
            task.cancel()
            return
        for queue in (self._incoming, *self._waiting.values()):
            for work in queue:
                if self._is(work, key):
                    queue.remove(work)
                    with self._context.locked:
                        del self._running[key]
                        self._invoker.cancellations.cancelled.discard(key)
                        self._invoker.cancellations.answer(*work)
                    return

    def _queued(self) -> list[_Work]:
        queued = list(self._incoming)
        for queue in self._waiting.values():
            queued += queue  # in one step: the loop may run on another thread
        return queued

    @staticmethod
    def _is(work: _Work, key: Key) -> bool:
        return work[1].seq == key[1] and work[0].peer.id == key[0]

    def serve(self, host: ActorHost) -> None:
        """See Runner."""
        loop, reactor = self._loop, self._context.reactor
        asyncio.set_event_loop(loop)
        loop.add_reader(reactor.fileno(), self._read)
        reactor.watched = reactor.polling = reactor.blocked_in_poll = True
        # In the loop, so that constructors may create tasks and use the running loop.
        self._tasks.add(loop.create_task(self._construct(host)))
        try:
            self._run_until_stopped("")
        finally:
            loop.remove_reader(reactor.fileno())

    def _run_until_stopped(self, where: str) -> None:
        """Run the loop, also after a task that user code made has raised. Calls handle their own errors."""
        while True:
            try:
                self._loop.run_forever()
                return
            except BaseException as error:
                if is_a(error, SystemExit):
                    self._invoker.leave_by(error, f"a task of {self._spec.class_name}{where}")
                else:
                    report(error)  # no user code is there to raise it in; the other calls go on

    async def _construct(self, host: ActorHost) -> None:
        """Run the constructor and report."""
        await host.start_on_loop()

    def is_here(self) -> bool:
        """Tell whether the calling thread is the loop's."""
        return in_main_thread() and self._loop.is_running()

    def about_to_wait(self) -> None:
        """See Runner."""
        if self.is_here() and not self._warned:
            self._warned = True
            self._context.warn(
                f"the async actor {self._spec.class_name} waits in get() or wait() on its event loop, in "
                f"{current.call.get().name}: none of its other calls goes on meanwhile. Write `await ref` "
                "or `await asyncio.gather(*refs)` instead."
            )

    def loop(self) -> asyncio.AbstractEventLoop:
        """See Runner."""
        return self._loop

    def stop(self) -> None:
        """See Runner."""
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _read(self) -> None:
        """Read the sockets and begin the calls that came in, in one round of the loop."""
        self._reading = True
        try:
            self._context.reactor.turn_if_free()
        finally:
            self._reading = False
            if self._incoming:
                self._drain()
        if self._context.reactor.interrupted:
            self._invoker.run_handlers()

    def _drain(self) -> None:
        self._drain_scheduled = False
        while self._incoming:
            work = self._incoming.popleft()
            group = group_of(self._spec, work[1])
            if group not in self._free:
                self._begin_elsewhere(group, work)
            elif self._free[group] > 0:
                self._begin(group, work)
            else:
                self._waiting[group].append(work)
        # After the first steps of the calls that have begun: those that end at once are replied to together.
        self._flush_soon()

    def _begin_elsewhere(self, group: str, work: _Work) -> None:
        """Refuse a call of a group of which this loop runs no calls. (See ``GroupedRunner``.)"""
        with self._context.locked:
            del self._running[work[0].peer.id, work[1].seq]
            _refuse(self._invoker, self._spec, *work)

    def _begin(self, group: str, work: _Work) -> None:
        self._free[group] -= 1
        task = self._loop.create_task(self._run(group, *work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, group: str, connection: Connection, call: wire.Call) -> None:
        invoker = self._invoker
        received: list[ObjectEntry] = []
        key = (connection.peer.id, call.seq)
        self._running[key] = asyncio.current_task()
        started = perf_counter()
        try:
            if key in invoker.cancellations.cancelled:
                raise asyncio.CancelledError
            result = await self._invoke(connection, call, received)
        except BaseException as error:
            result = invoker.failed(error, connection, call)
            if invoker.is_stopping:
                return
        taken = int((perf_counter() - started) * 1_000_000)
        output.flush(False)
        with self._context.locked:
            del self._running[key]
            invoker.cancellations.cancelled.discard(key)
            invoker.invocation.reply(connection, call, result, taken, received)
        self._flush_soon()
        self._free[group] += 1
        if self._waiting[group]:
            self._begin(group, self._waiting[group].popleft())

    async def _invoke(self, connection: Connection, call: wire.Call, received: list[ObjectEntry]) -> Result:
        invoker, peer = self._invoker, connection.peer
        name, target = invoker.target(peer, call)
        args, kwargs = invoker.invocation.decode_arguments(call, received)
        value: Any = target(*args, **kwargs)
        if call.stream is not None:
            await invoker.yielding.run_async(connection, call, value, self._flush_soon)
            return wire.NONE, b"", None, None, None
        if inspect.isawaitable(value):
            value = await value
        return invoker.invocation.encode(peer, call, name, value)

    def _flush_soon(self) -> None:
        """Send all replies and items of this round of the loop at its end."""
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_scheduled = False
        reactor = self._context.reactor
        with reactor.lock:
            reactor.flush()
