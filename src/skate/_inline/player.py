"""Plays the workers: runs calls on strands, and says what became of them."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from time import perf_counter
from typing import Any, Protocol

from skate._base import errors, ids
from skate._base.resources import UNIT
from skate._base.user_errors import is_a
from skate._base.waits import lane
from skate._inline.lanes import Key
from skate._inline.strands import Doomed, Strand
from skate._inline.turns import End, Turns, here
from skate._inline.work import Work
from skate._node.leases.instances import Devices
from skate._serialize.exceptions import dump_error, dump_task_error
from skate._transport.connection import Connection, Handler
from skate._wire import worker as wire
from skate._worker.calls.cancellation import Canceller, cancel_error
from skate._worker.calls.results import Results
from skate._worker.calls.tasks import TaskTable
from skate._worker.execution.exits import Exit
from skate._worker.execution.failures import reply_of, taken_apart
from skate._worker.execution.invocation import Invocation, Result
from skate._worker.execution.yielding import Outgoing, Yielding
from skate._worker.objects.refs import ObjectEntry
from skate._worker.process import current
from skate._worker.process.cancelled import cancelled_error
from skate._worker.process.context import ProcessContext

#: A generator that is so many items ahead holds up its caller no longer.
_AHEAD = 64


class InlineYielding(Yielding):
    """Generators: one without an end goes on by itself after a while."""

    def _send(self, outgoing: Outgoing, value: Any) -> None:
        super()._send(outgoing, value)
        strand = here.sleeper
        if outgoing.index >= _AHEAD and isinstance(strand, Strand):
            strand.alone = True
            strand.settle()


class _Function:
    """A remote function; unpickled at its first call, as a worker does."""

    __slots__ = ("message", "label", "callable")

    def __init__(self, message: wire.DefineFunction) -> None:
        self.message = message
        self.label = current.CodeName(message.name)
        self.callable: Callable[..., Any] | None = None

    def load(self) -> Callable[..., Any]:
        if self.callable is None:
            self.callable = self.label.of(pickle.loads(self.message.blob))
        return self.callable


class LaneRows(Protocol):
    """An actor that can show where its calls run."""

    def lane_rows(self) -> list[dict[str, Any]]:
        """Return where its calls run: see ``_base.waits``. Under the lock."""


class Player:
    """Plays the workers: see the module's text. Tables change under the lock."""

    def __init__(
        self,
        context: ProcessContext,
        turns: Turns,
        tasks: TaskTable,
        results: Results,
        canceller: Canceller,
        invocation: Invocation,
        make_yielding: Callable[[Invocation], Yielding],
        gpus: Sequence[str],
    ) -> None:
        self._context = context
        self._turns = turns
        self._unfinished_calls = tasks
        self._results = results
        self._canceller = canceller
        #: Calls that run and were cancelled.
        self.cancelled: set[Key] = set()
        self.invocation = invocation
        self.invocation.cancelled = self.cancelled
        self.yielding = make_yielding(invocation)
        #: Tasks that run. (Calls of actors are in their hosts.)
        self.tasks: dict[Key, Work] = {}
        self._functions: dict[int | str, _Function] = {}
        self._idle: list[Strand] = []
        self.strands: set[Strand] = set()
        self._devices = Devices(gpus)

    def table(self) -> dict[type, Handler]:
        """Return which message about tasks goes where."""
        return {
            wire.DefineFunction: self._define,
            wire.ForgetFunction: self._forget,
            wire.Call: self._task,
            wire.CancelCall: self._cancel_task,
            **self.yielding.results_table(),
        }

    # ------------------------------------------------------------------ strands

    def take_strand(self) -> Strand:
        """Return a thread that has nothing to do. Under the lock."""
        if self._idle:
            return self._idle.pop()
        strand = Strand(self._turns, self._idle_again)
        self.strands.add(strand)
        return strand

    def own_strand(self) -> Strand:
        """Return a thread for one actor alone. Under the lock."""
        strand = Strand(self._turns, _keep)
        self.strands.add(strand)
        return strand

    def _idle_again(self, strand: Strand) -> None:
        strand.doomed = False
        self._idle.append(strand)

    # ------------------------------------------------------------------ what arrives (under the lock)

    def _define(self, connection: Connection, message: wire.DefineFunction) -> None:
        self._functions[message.fn] = _Function(message)

    def _forget(self, connection: Connection, message: wire.ForgetFunction) -> None:
        self._functions.pop(message.fn, None)

    def _task(self, connection: Connection, call: wire.Call) -> None:
        assert isinstance(connection, End)
        function = self._functions[call.fn]
        work = Work(connection, call, call.name or function.message.name, None, function.label)
        self.hold(work, function.message.resources)
        self.tasks[work.key] = work
        work.over = lambda: self._task_over(work)
        self.begin(work, lambda: self.run(work, function.load))

    def begin(self, work: Work, job: Callable[[], None]) -> None:
        """Have a call run on a thread that has nothing to do. Under the lock."""
        try:
            strand = self.take_strand()
        except RuntimeError as error:
            self.refuse(work, error)
            return
        work.strand = strand
        strand.begin(job)

    def refuse(self, work: Work, error: RuntimeError) -> None:
        """Answer a call for which there is no thread. Under the lock."""
        failed = dump_error(errors.RaySystemError(f"{work.name} was not run: {error}"))
        self._answer(work, (wire.ERROR, failed, None, None, None), 0, [])

    def _task_over(self, work: Work) -> None:
        self.tasks.pop(work.key, None)
        self.cancelled.discard(work.key)
        self.let_go(work)

    def _cancel_task(self, connection: Connection, message: wire.CancelCall) -> None:
        work = self.tasks.get((connection.peer.id, message.seq))
        if work is None:
            return
        self.cancelled.add(work.key)
        self.recurse(work, message)
        assert work.strand is not None
        work.strand.interrupt()
        if message.force:
            # Its process would be gone at once. Its thread here ends when it can.
            task = self._unfinished_calls.unfinished.get(message.seq)
            if task is not None:
                self._results.abandon(task, cancel_error(self._context, task))

    def doom(self, key: Key) -> None:
        """End a task at its next wait; nobody wants its result."""
        work = self.tasks.get(key)
        if work is not None:
            work.unwanted = True
            assert work.strand is not None
            work.strand.doom()

    def recurse(self, work: Work, message: wire.CancelCall) -> None:
        """Cancel what a cancelled call has called itself."""
        if message.recursive:
            self._canceller.cancel_children(*work.key, message.force)

    # ------------------------------------------------------------------ what calls hold

    def hold(self, work: Work, resources: Mapping[str, int]) -> None:
        """Count what a task holds from now on; nothing waits for it here."""
        work.resources = resources
        work.gpus = self.take_gpus(resources)

    def let_go(self, work: Work) -> None:
        """Count it no more."""
        self.give_gpus_back(work.gpus, work.resources)

    def take_gpus(self, resources: Mapping[str, int]) -> tuple[str, ...]:
        """Return ids of GPUs for whoever asks for so many; shared with others where they do not suffice."""
        units = resources.get("GPU", 0)
        if not units or not self._devices.ids:
            return ()
        count = max(1, units // UNIT)
        free = sorted(range(len(self._devices.ids)), key=lambda index: (-self._devices.free[index], index))
        chosen = self._devices.choose(units) or free[:count]
        for index in chosen:
            self._devices.free[index] -= min(units, UNIT)
        return tuple(self._devices.names(chosen))

    def give_gpus_back(self, gpus: Iterable[str], resources: Mapping[str, int]) -> None:
        """Return what ``take_gpus`` gave."""
        for one in gpus:
            self._devices.free[self._devices.ids.index(one)] += min(resources.get("GPU", 0), UNIT)

    # ------------------------------------------------------------------ running (on a strand)

    def run(self, work: Work, load: Callable[[], Callable[..., Any]]) -> None:
        """Run one call and say what became of it."""
        met: list[ObjectEntry] = []
        started = work.began = perf_counter()
        token = current.call.set(work)
        try:
            result = self._invoke(work, load, met)
        except Doomed:
            return self._doomed(work)
        except BaseException as error:
            failed = self.failed(error, work)
            if failed is None:
                return None
            result = failed
        finally:
            current.call.reset(token)
        taken = int((perf_counter() - started) * 1_000_000)
        assert work.strand is not None
        work.strand.ending = True
        with self._context.lock:
            self._answer(work, result, taken, met)
        return None

    def _doomed(self, work: Work) -> None:
        with self._context.lock:
            if work.over is not None:
                work.over()

    def _answer(self, work: Work, result: Result, taken: int, met: list[ObjectEntry]) -> None:
        if not work.end.closed and not work.unwanted:
            self.invocation.reply(work.end, work.call, result, taken, met)
        if work.over is not None:
            work.over()

    def _invoke(self, work: Work, load: Callable[[], Callable[..., Any]], met: list[ObjectEntry]) -> Result:
        """Run user code. Its arguments and results live in this frame only."""
        target, call = load(), work.call
        args, kwargs = self.invocation.decode_arguments(call, met)
        if call.stream is not None:
            self.yielding.run(work.end, call, target(*args, **kwargs))
            return wire.NONE, b"", None, None, None
        return self.invocation.encode(work.end.peer, call, work.name, target(*args, **kwargs))

    def failed(self, error: BaseException, work: Work) -> Result | None:
        """User code raised: return the reply that says so; None: its actor ends, and that is the reply."""
        name, host = work.name, work.host
        error, before = taken_apart(error)
        actor = (host.repr, host.actor_id.hex()) if host is not None else None
        if work.key in self.cancelled:
            when = f" while it ran in this process ({self._context.pid})"
            cancelled = cancelled_error(error, name, ids.task_id(*work.key).hex(), when, actor)
            if before is not None:
                self.invocation.forget(work.end.peer.id, work.call, before)
            return wire.ERROR, cancelled, None, None, None
        if host is not None:
            if is_a(error, SystemExit):
                host.left(error, name)
                return None
        elif is_a(error, SystemExit):
            return Exit(error).of_task(name)[1]
        owner = work.end.peer.id
        return reply_of(self.invocation, dump_task_error, owner, work.call, error, name, actor, before)

    # ------------------------------------------------------------------ questions

    def lanes(self, hosts: Iterable[LaneRows]) -> list[dict[str, Any]]:
        """Return where calls run: see ``_base.waits``. Under the lock."""
        now, me = perf_counter(), self._context.worker_id
        found = [lane(me, 1, [(*work.key, now - work.began)], []) for work in self.tasks.values()]
        for host in hosts:
            found += host.lane_rows()
        return found


def _keep(strand: Strand) -> None:
    """An actor's strand is nobody else's."""
