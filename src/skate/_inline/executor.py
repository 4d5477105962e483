"""Replaces the workers: runs calls on call threads, and sends their replies."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from skate._base import errors
from skate._base.clock import perf_counter
from skate._base.resources import UNIT
from skate._base.waits import lane
from skate._inline.call_threads import CallThread, Killed
from skate._inline.reactor import InlineReactor, LocalConnection, here
from skate._inline.work import Work
from skate._node.leases.instances import Devices
from skate._serialize.exceptions import dump_error, dump_task_error
from skate._transport.connection import Connection, Handler
from skate._wire import worker as wire
from skate._worker.calls.cancellation import Canceller, cancel_error
from skate._worker.calls.results import Results
from skate._worker.calls.tasks import TaskTable
from skate._worker.execution.failures import Failures
from skate._worker.execution.invocation import Invocation, Result
from skate._worker.execution.lanes import Key
from skate._worker.execution.yielding import Outgoing, Yielding
from skate._worker.objects.refs import ObjectEntry
from skate._worker.process import current
from skate._worker.process.context import ProcessContext

#: The starter of a generator pauses no longer once the generator is so many items ahead.
_MAX_ITEMS_AHEAD = 64


class InlineYielding(Yielding):
    """Sends items of generators; a long generator lets its starter go on after a while."""

    def _send(self, outgoing: Outgoing, value: Any) -> None:
        super()._send(outgoing, value)
        call_thread = here.sleeper
        if outgoing.index >= _MAX_ITEMS_AHEAD and isinstance(call_thread, CallThread):
            call_thread.alone = True
            call_thread.settle()


class _Function:
    """A remote function, unpickled at its first call, as in a worker."""

    __slots__ = ("message", "label", "callable")

    def __init__(self, message: wire.DefineFunction) -> None:
        self.message = message
        self.label = current.CodeName(message.name)
        self.label.group = message.group, message.captures
        self.callable: Callable[..., Any] | None = None

    def load(self) -> Callable[..., Any]:
        if self.callable is None:
            self.callable = self.label.of(pickle.loads(self.message.blob))
        return self.callable


class LaneRows(Protocol):
    """An actor that can show where its calls run."""

    def lane_rows(self) -> list[dict[str, Any]]:
        """Return the lanes of its calls: see ``_base.waits``. Under the lock."""


class InlineExecutor:
    """Runs the calls of an in-process session. Its tables change under the lock."""

    def __init__(
        self,
        context: ProcessContext,
        reactor: InlineReactor,
        tasks: TaskTable,
        results: Results,
        canceller: Canceller,
        invocation: Invocation,
        make_yielding: Callable[[Invocation], Yielding],
        gpus: Sequence[str],
    ) -> None:
        self._context = context
        self._reactor = reactor
        self._unfinished_calls = tasks
        self._results = results
        self._canceller = canceller
        #: Calls that run and were cancelled.
        self.cancelled: set[Key] = set()
        self.invocation = invocation
        self.invocation.cancelled = self.cancelled
        self._failures = Failures(invocation, dump_task_error, f"this process ({context.pid})")
        self.yielding = make_yielding(invocation)
        #: Running tasks. (An actor has the table of its own calls.)
        self.tasks: dict[Key, Work] = {}
        self._functions: dict[int | str, _Function] = {}
        self._idle: list[CallThread] = []
        self.call_threads: set[CallThread] = set()
        self._devices = Devices(gpus)

    def table(self) -> dict[type, Handler]:
        """Return the handlers of messages about tasks."""
        return {
            wire.DefineFunction: self._define,
            wire.ForgetFunction: self._forget,
            wire.Call: self._task,
            wire.CancelCall: self._cancel_task,
            **self.yielding.results_table(),
        }

    # ------------------------------------------------------------------ call threads

    def take_call_thread(self) -> CallThread:
        """Return an idle thread. Under the lock."""
        if self._idle:
            return self._idle.pop()
        call_thread = CallThread(self._reactor, self._idle_again)
        self.call_threads.add(call_thread)
        return call_thread

    def make_actor_thread(self) -> CallThread:
        """Return a thread for one actor alone. Under the lock."""
        call_thread = CallThread(self._reactor, _keep)
        self.call_threads.add(call_thread)
        return call_thread

    def _idle_again(self, call_thread: CallThread) -> None:
        call_thread.killed = False
        self._idle.append(call_thread)

    # ------------------------------------------------------------------ messages (under the lock)

    def _define(self, connection: Connection, message: wire.DefineFunction) -> None:
        self._functions[message.fn] = _Function(message)
        self._context.captures |= message.captures

    def _forget(self, connection: Connection, message: wire.ForgetFunction) -> None:
        self._functions.pop(message.fn, None)

    def _task(self, connection: Connection, call: wire.Call) -> None:
        assert isinstance(connection, LocalConnection)
        function = self._functions[call.fn]
        work = Work(connection, call, call.name or function.message.name, None, function.label)
        self.hold(work, function.message.resources)
        self.tasks[work.key] = work
        work.on_end = lambda: self._task_over(work)
        self.begin(work, lambda: self.run(work, function.load))

    def begin(self, work: Work, job: Callable[[], None]) -> None:
        """Run a call on an idle thread. Under the lock."""
        try:
            call_thread = self.take_call_thread()
        except RuntimeError as error:
            self.refuse(work, error)
            return
        work.call_thread = call_thread
        call_thread.begin(job)

    def refuse(self, work: Work, error: RuntimeError) -> None:
        """Answer a call for which there is no thread. Under the lock."""
        failed = dump_error(errors.RaySystemError(f"{work.name} was not run: {error}"))
        self._answer(work, (wire.ERROR, failed, None, None, None), 0, [])

    def _task_over(self, work: Work) -> None:
        self.tasks.pop(work.key, None)
        self.cancelled.discard(work.key)
        self.release(work)

    def _cancel_task(self, connection: Connection, message: wire.CancelCall) -> None:
        work = self.tasks.get((connection.peer.id, message.seq))
        if work is None:
            return
        self.cancelled.add(work.key)
        self.recurse(work, message)
        assert work.call_thread is not None
        work.call_thread.interrupt()
        if message.force:
            # A real worker would be killed at once. Its thread here ends when it can.
            task = self._unfinished_calls.unfinished.get(message.seq)
            if task is not None:
                self._results.abandon(task, cancel_error(self._context, task))

    def kill(self, key: Key) -> None:
        """End a task at its next wait, and drop its result."""
        work = self.tasks.get(key)
        if work is not None:
            work.caller_ended = True
            assert work.call_thread is not None
            work.call_thread.kill()

    def recurse(self, work: Work, message: wire.CancelCall) -> None:
        """Cancel the calls that a cancelled call has made."""
        if message.recursive:
            self._canceller.cancel_children(*work.key, message.force)

    # ------------------------------------------------------------------ resources of calls

    def hold(self, work: Work, resources: Mapping[str, int]) -> None:
        """Count the resources of a task that begins; no task waits for resources here."""
        work.resources = resources
        work.gpus = self.take_gpus(resources)

    def release(self, work: Work) -> None:
        """Release the resources of a task that ended."""
        self.release_gpus(work.gpus, work.resources)

    def take_gpus(self, resources: Mapping[str, int]) -> tuple[str, ...]:
        """Take and return ids of as many GPUs as are asked for; share GPUs if too few are free."""
        units = resources.get("GPU", 0)
        if not units or not self._devices.ids:
            return ()
        count = max(1, units // UNIT)
        free = sorted(range(len(self._devices.ids)), key=lambda index: (-self._devices.free[index], index))
        chosen = self._devices.choose(units) or free[:count]
        for index in chosen:
            self._devices.free[index] -= min(units, UNIT)
        return tuple(self._devices.names(chosen))

    def release_gpus(self, gpus: Iterable[str], resources: Mapping[str, int]) -> None:
        """Release GPUs that ``take_gpus`` returned."""
        for one in gpus:
            self._devices.free[self._devices.ids.index(one)] += min(resources.get("GPU", 0), UNIT)

    # ------------------------------------------------------------------ running (on a call thread)

    def run(self, work: Work, load: Callable[[], Callable[..., Any]]) -> None:
        """Run one call and send its reply."""
        received: list[ObjectEntry] = []
        started = work.began = perf_counter()
        token = current.call.set(work)
        try:
            result: Result | None = self._invoke(work, load, received)
        except Killed:
            return self._end_killed(work)
        except BaseException as error:
            result = self.failed(error, work)
        finally:
            current.call.reset(token)
        if result is None:
            return None
        taken = int((perf_counter() - started) * 1_000_000)
        assert work.call_thread is not None
        work.call_thread.ending = True
        with self._context.lock:
            self._answer(work, result, taken, received)
        return None

    def _end_killed(self, work: Work) -> None:
        with self._context.lock:
            if work.on_end is not None:
                work.on_end()

    def _answer(self, work: Work, result: Result, taken: int, received: list[ObjectEntry]) -> None:
        if not work.connection.closed and not work.caller_ended:
            self.invocation.reply(work.connection, work.call, result, taken, received)
        if work.on_end is not None:
            work.on_end()

    def _invoke(
        self, work: Work, load: Callable[[], Callable[..., Any]], received: list[ObjectEntry]
    ) -> Result:
        """Run user code. Its arguments and results live in this frame only."""
        target, call = load(), work.call
        args, kwargs = self.invocation.decode_arguments(call, received)
        if call.stream is not None:
            self.yielding.run(work.connection, call, target(*args, **kwargs))
            return wire.NONE, b"", None, None, None
        return self.invocation.encode(work.connection.peer, call, work.name, target(*args, **kwargs))

    def failed(self, error: BaseException, work: Work) -> Result | None:
        """Return the reply for an exception of user code; None if the actor ends, whose end is the reply."""
        return self._failures.reply_to(work.owner, work.call, error, work.name, work.actor)

    # ------------------------------------------------------------------ questions

    def lanes(self, actors: Iterable[LaneRows]) -> list[dict[str, Any]]:
        """Return the lanes of all calls: see ``_base.waits``. Under the lock."""
        now, me = perf_counter(), self._context.worker_id
        found = [lane(me, 1, [(*work.key, now - work.began)], []) for work in self.tasks.values()]
        for actor in actors:
            found += actor.lane_rows()
        return found


def _keep(call_thread: CallThread) -> None:
    """Keep an actor's thread out of the idle ones."""
