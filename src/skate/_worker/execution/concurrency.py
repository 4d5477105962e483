"""Runs several calls of an actor at a time: on threads, or interleaved on one asyncio loop.

Calls begin in the order in which they came, and end in any order. Each concurrency group has its own
limit; calls of no group share ``max_concurrency``.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from skate._base.clock import perf_counter
from skate._base.user_errors import is_a, report
from skate._serialize.exceptions import dump_task_error
from skate._transport.connection import Connection
from skate._transport.reactor import in_main_thread
from skate._wire import control
from skate._wire import worker as wire
from skate._worker.execution import output
from skate._worker.execution.actor_host import ActorHost
from skate._worker.execution.invocation import Result
from skate._worker.execution.lanes import Key, Lanes, group_of, limits_of, unknown_group
from skate._worker.execution.runner import Invoker
from skate._worker.execution.watching_loop import make_loop
from skate._worker.objects.refs import ObjectEntry
from skate._worker.process import current
from skate._worker.process.context import ProcessContext
from skate._worker.process.signals import Gate


class Work:
    """A call from its arrival until its reply: see ``lanes.Laned``."""

    __slots__ = ("connection", "call", "key", "group", "began", "task")

    def __init__(self, connection: Connection, call: wire.Call, group: str) -> None:
        self.connection = connection
        self.call = call
        self.key: Key = (connection.peer.id, call.seq)
        self.group = group
        self.began = 0.0
        #: On a loop, from its first step on. This reference keeps the task, as asyncio has only weak ones.
        self.task: asyncio.Task[None] | None = None


class LaneRunner:
    """The common half of the runners: which calls begin, how they end. Its lanes change under the lock."""

    def __init__(
        self,
        context: ProcessContext,
        invoker: Invoker,
        spec: control.ActorSpec,
        lanes: Lanes[Work] | None = None,
    ) -> None:
        self._context = context
        self._invoker = invoker
        self._spec = spec
        self._lanes: Lanes[Work] = lanes or Lanes(limits_of(spec))

    def submit(self, connection: Connection, call: wire.Call) -> None:
        """See Runner."""
        work = Work(connection, call, group_of(self._spec, call))
        try:
            begins = self._lanes.arrive(work)
        except KeyError:
            self._refuse(work)
            return
        if begins:
            self._begin(work)

    def _refuse(self, work: Work) -> None:
        """Reply with an error to a call of an unknown group, which the caller chose."""
        connection, call = work.connection, work.call
        name = self._invoker.name_of(connection.peer, call)
        error = unknown_group(self._spec, name, work.group)
        data, _ = dump_task_error(error, name, self._spec.class_name)
        connection.send(wire.Reply(call.seq, wire.ERROR, data))
        connection.flush()

    def _begin(self, work: Work) -> None:
        """Have a call run. Under the lock."""
        raise NotImplementedError

    def _open(self) -> None:
        """Begin the calls that came during the constructor, which has ended."""
        with self._context.locked:
            for work in self._lanes.opened():
                self._begin(work)

    def cancel(self, connection: Connection, seq: int) -> bool:
        """See Runner."""
        key = (connection.peer.id, seq)
        work = self._lanes.withdraw(key)
        if work is not None:
            self._invoker.interrupts.answer(connection, work.call)
            return False
        work = self._lanes.running(key)
        if work is None:
            return False
        self._invoker.interrupts.cancelled.add(key)
        self._interrupt(work)
        return True

    def _interrupt(self, work: Work) -> None:
        """Do nothing: a method on a thread is not interrupted, but may ask. Under the lock."""

    def lanes(self) -> list[dict[str, Any]]:
        """See Runner."""
        spec = self._spec
        return self._lanes.report(
            self._context.worker_id, (b"", 0, 0.0), perf_counter(), is_async=spec.is_async
        )

    def _ended(self, work: Work, result: Result, received: list[ObjectEntry]) -> Work | None:
        """Send the reply of a call that ended; return the call that is to begin in its place."""
        taken = int((perf_counter() - work.began) * 1_000_000)
        output.flush(False)
        invoker = self._invoker
        with self._context.locked:
            invoker.interrupts.call_ended(work.key)
            if invoker.invocation.reply(work.connection, work.call, result, taken, received):
                self._flush(work.connection)
            return self._lanes.ended(work)

    def _flush(self, connection: Connection) -> None:
        """Send a reply that is queued. Under the lock."""
        connection.flush()


class _Threads:
    """The threads of one group, started as they are needed."""

    def __init__(self, runner: ThreadedRunner, name: str) -> None:
        self._runner = runner
        self._name = name
        #: Calls that have begun, as the lanes see it, and wait for a thread for a moment.
        self._work: SimpleQueue[Work] = SimpleQueue()
        self._started = 0

    def begin(self, work: Work, running: int) -> None:
        """Run a call; ``running`` calls of this group run, with this one. Under the lock."""
        self._work.put(work)
        if running > self._started:
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
            following = self._runner.run(self._work.get())
            if following is not None:
                self._work.put(following)


class ThreadedRunner(LaneRunner):
    """Runs the calls of a threaded actor; the main thread reads the sockets."""

    def __init__(self, context: ProcessContext, invoker: Invoker, spec: control.ActorSpec) -> None:
        super().__init__(context, invoker, spec)
        self._threads = {name: _Threads(self, name) for name in limits_of(spec)}

    def _begin(self, work: Work) -> None:
        self._threads[work.group].begin(work, self._lanes.count(work.group))

    def serve(self, host: ActorHost) -> None:
        """See Runner."""
        host.start()
        self._open()
        self._invoker.wait_until_stopped()

    def about_to_wait(self) -> None:
        """See Runner: other threads go on."""

    def loop(self) -> None:
        """See Runner: there is none."""

    def stop(self) -> None:
        """See Runner. The main thread was woken already; the others are daemons."""

    def run(self, work: Work) -> Work | None:
        """Run one call, on a thread of its group; return the call that is to begin in its place."""
        received: list[ObjectEntry] = []
        work.began = perf_counter()
        try:
            if work.key in self._invoker.interrupts.cancelled:
                raise KeyboardInterrupt  # before its thread came to it
            result: Result | None = self._invoke(work.connection, work.call, received)
        except BaseException as error:
            result = self._invoker.failed(error, work.connection, work.call)
        return None if result is None else self._ended(work, result, received)

    def _invoke(self, connection: Connection, call: wire.Call, received: list[ObjectEntry]) -> Result:
        invoker, peer = self._invoker, connection.peer
        name, target = invoker.target(peer, call)
        args, kwargs = invoker.invocation.decode_arguments(call, received)
        if call.stream is not None:
            invoker.yielding.run(connection, call, target(*args, **kwargs))
            return wire.NONE, b"", None, None, None
        return invoker.invocation.encode(peer, call, name, target(*args, **kwargs))


class AsyncRunner(LaneRunner):
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
        lanes: Lanes[Work] | None = None,
    ) -> None:
        super().__init__(context, invoker, spec, lanes)
        #: Calls that have begun, as the lanes see it, on their way to the loop.
        self._incoming: deque[Work] = deque()
        self._drain_scheduled = False
        self._flush_scheduled = False
        #: The loop is reading the sockets, and drains the incoming calls afterwards.
        self._reading = False
        self._loop, self._flushes_before_sleep = self._make_loop()
        self._constructing: asyncio.Task[None] | None = None
        self._warned = False
        gate.add_boundaries([AsyncRunner._invoke.__code__])

    def _make_loop(self) -> tuple[asyncio.AbstractEventLoop, bool]:
        """Return the loop, and whether it sends what is queued before it sleeps."""
        return make_loop(self._context.reactor)

    def _begin(self, work: Work) -> None:
        self._incoming.append(work)
        if not self._drain_scheduled:
            on_loop = self.is_here()
            if on_loop and self._reading:
                return
            self._drain_scheduled = True
            if on_loop:
                self._loop.call_soon(self._drain)
            else:
                self._loop.call_soon_threadsafe(self._drain)

    def _interrupt(self, work: Work) -> None:
        self._loop.call_soon_threadsafe(_cancel, work)

    def serve(self, host: ActorHost) -> None:
        """See Runner."""
        loop, reactor = self._loop, self._context.reactor
        asyncio.set_event_loop(loop)
        loop.add_reader(reactor.fileno(), self._read)
        reactor.watched = reactor.polling = reactor.blocked_in_poll = True
        # In the loop, so that constructors may create tasks and use the running loop.
        self._constructing = loop.create_task(self._construct(host))
        try:
            self._run_until_stopped("")
        finally:
            reactor.awake_thread = 0
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
        self._open()

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
        reactor = self._context.reactor
        news: list[Callable[[], object]] = []
        self._reading, reactor.after_turn = True, news
        try:
            reactor.turn_if_free()
        finally:
            self._reading, reactor.after_turn = False, None
            for call in news:
                call()
            if self._incoming:
                self._drain()
        if reactor.interrupted:
            self._invoker.run_handlers()

    def _drain(self) -> None:
        self._drain_scheduled = False
        while self._incoming:
            self._loop.create_task(self._run(self._incoming.popleft()))
        # After the first steps of the calls that have begun: those that end at once are replied to together.
        self._flush_soon()

    async def _run(self, work: Work) -> None:
        received: list[ObjectEntry] = []
        work.task = asyncio.current_task()
        work.began = perf_counter()
        try:
            if work.key in self._invoker.interrupts.cancelled:
                raise asyncio.CancelledError
            result: Result | None = await self._invoke(work.connection, work.call, received)
        except BaseException as error:
            result = self._invoker.failed(error, work.connection, work.call)
        if result is None:
            return
        following = self._ended(work, result, received)
        self._flush_soon()
        if following is not None:
            self._loop.create_task(self._run(following))

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

    def _flush(self, connection: Connection) -> None:
        """Do nothing: see ``_flush_soon``."""

    def _flush_soon(self) -> None:
        """Have all replies and items of this round of the loop sent at its end."""
        if not self._flushes_before_sleep and not self._flush_scheduled:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush_all)

    def _flush_all(self) -> None:
        self._flush_scheduled = False
        reactor = self._context.reactor
        with reactor.lock:
            reactor.flush()


def _cancel(work: Work) -> None:
    """Cancel the coroutine of a call. On its loop: if it has not begun, it will find that it is cancelled."""
    if work.task is not None:
        work.task.cancel()
