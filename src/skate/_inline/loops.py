"""Async actors: their calls interleave on a loop of their own, on a thread of their own.

Those of a concurrency group have a loop and a thread for themselves."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable
from time import perf_counter
from typing import Any

from skate._inline.context import HostParts
from skate._inline.host import Host
from skate._inline.strands import Doomed, Strand
from skate._inline.turns import Begun, here, release
from skate._inline.work import Work
from skate._wire import control
from skate._wire import worker as wire
from skate._worker.execution.invocation import Result
from skate._worker.objects.refs import ObjectEntry
from skate._worker.process import current


class _Loop:
    """A loop on a strand: of the calls of one concurrency group, or of those of none."""

    def __init__(self, strand: Strand) -> None:
        self.strand = strand
        self.loop = asyncio.new_event_loop()
        #: They must not be collected while they run.
        self.tasks: set[asyncio.Task[None]] = set()
        #: What still runs on the loop is being ended.
        self.closing = False

    def run(self, first: Callable[[], None]) -> None:
        """Run the loop until it is told to stop; cancel what is left. The strand's job."""
        loop = self.loop
        asyncio.set_event_loop(loop)
        loop.call_soon(first)
        try:
            loop.run_forever()
        finally:
            self.closing = True
            for task in asyncio.all_tasks(loop):
                task.cancel()
            pending = asyncio.all_tasks(loop)
            if pending:
                loop.run_until_complete(asyncio.wait(pending, timeout=0.2))
            loop.run_until_complete(loop.shutdown_asyncgens())
            asyncio.set_event_loop(None)
            loop.close()

    def serves(self) -> None:
        """From now on calls begin here, each with its starter standing by. On the loop."""
        self.strand.ending = False
        self.strand.alone = True

    def stop(self) -> None:
        """End ``run``. Any thread."""
        try:
            self.loop.call_soon_threadsafe(self.loop.stop)
        except RuntimeError:
            pass  # it is closed


class _Posted:
    """A call on its way to its loop."""

    def __init__(self, host: LoopHost, loop: _Loop, work: Work) -> None:
        self._host = host
        self._loop = loop
        self._work = work

    def go(self, stand_by: bool) -> list[Begun]:
        """See Begun. It has settled when its coroutine has come to its first ``await``."""
        host, loop, strand, me = self._host, self._loop, self._loop.strand, here.sleeper
        if not stand_by or me is strand:
            host.post(loop, self._work, None)
            return []

        def begin(settled: threading.Lock) -> None:
            # A loop that waits or stands by for another one takes no part: it will see to this later.
            if strand.busy:
                release(settled)
                host.post(loop, self._work, None)
            else:
                host.post(loop, self._work, settled)

        strand.stand_by(begin)
        return []


class LoopHost(Host):
    """See the module's text. Each concurrency group has a loop and a thread, from its first call on."""

    def __init__(self, parts: HostParts, message: control.PlaceActor) -> None:
        super().__init__(parts, message)
        self._main = _Loop(self.strand)
        #: By group; changes under the lock.
        self._loops: dict[str, _Loop] = {}
        #: It ends on purpose.
        self.leaving = False

    def begin(self) -> None:
        """See Host."""
        self.strand.begin(self._serve)

    def _serve(self) -> None:
        try:
            self._main.run(self._construct_here)
        finally:
            if self.graceful:
                self.farewell()
            self.let_go()

    def _construct_here(self) -> None:
        # In the loop, so that constructors may create tasks and use the running loop.
        loop = self._main.loop
        self._main.tasks.add(loop.create_task(self._construct_there()))
        loop.call_soon(self._first_step_over)

    def _first_step_over(self) -> None:
        # A constructor that is a coroutine waits now: others go on meanwhile.
        if not self.constructed:
            self.strand.alone = True
            self.strand.settle()

    async def _construct_there(self) -> None:
        met: list[ObjectEntry] = []
        raised = None
        current.call.set(self._constructor)
        try:
            try:
                self.instance = await self._construct_on_loop(met)
                self._introduce()
            except Doomed:
                return
            except BaseException as error:
                if self.stopped:
                    return
                raised = error
            self._report(raised, met)
        finally:
            self._serves(self._main)
            if self.stopped and not self._main.closing:
                self._main.loop.stop()

    def _serves(self, loop: _Loop) -> None:
        loop.serves()
        with self._context.lock:
            begun = loop.strand.take_legacy()
        loop.strand.settle()
        if begun:
            self._turns.start(begun)

    # ------------------------------------------------------------------ calls

    def _start(self, work: Work) -> None:
        self.begun = (b"", 0)  # several run at a time: nobody can say which was begun last
        group = self.group_of(work.call)
        try:
            loop = self._main if group not in self.spec.concurrency_groups else self._loop_of(group)
        except RuntimeError as error:
            self._player.refuse(work, error)
            return
        work.strand = loop.strand
        self._turns.begun.append(_Posted(self, loop, work))

    def _loop_of(self, group: str) -> _Loop:
        found = self._loops.get(group)
        if found is None:
            found = loop = self._loops[group] = _Loop(self._player.own_strand())
            loop.strand.begin(lambda: loop.run(lambda: self._serves(loop)))
        return found

    def post(self, loop: _Loop, work: Work, settled: threading.Lock | None) -> None:
        """Have a call begin on its loop. Any thread."""
        try:
            loop.loop.call_soon_threadsafe(self._begin_call, loop, work, settled)
        except RuntimeError:
            if settled is not None:
                release(settled)  # the loop was closed meanwhile

    def _begin_call(self, loop: _Loop, work: Work, settled: threading.Lock | None) -> None:
        work.coroutine = task = loop.loop.create_task(self._run_call(work))
        loop.tasks.add(task)
        task.add_done_callback(loop.tasks.discard)
        if settled is not None:
            loop.loop.call_soon(release, settled)  # behind the first step of the coroutine

    async def _run_call(self, work: Work) -> None:
        player = self._player
        met: list[ObjectEntry] = []
        started = work.began = perf_counter()
        current.call.set(work)
        try:
            if work.key in player.cancelled:
                raise asyncio.CancelledError
            result = await self._invoke_call(work, met)
        except BaseException as error:
            if self.stopped:
                return
            failed = player.failed(error, work)
            if failed is None:
                return
            result = failed
        taken = int((perf_counter() - started) * 1_000_000)
        with self._context.lock:
            if not self.stopped:
                self._invocation.reply(work.end, work.call, result, taken, met)
            self._over(work)

    async def _invoke_call(self, work: Work, met: list[ObjectEntry]) -> Result:
        call = work.call
        target = self.method(str(call.fn))
        args, kwargs = self._invocation.decode_arguments(call, met)
        value: Any = target(*args, **kwargs)
        if call.stream is not None:
            await self._player.yielding.run_async(work.end, call, value, _nothing)
            return wire.NONE, b"", None, None, None
        if inspect.isawaitable(value):
            value = await value
        return self._invocation.encode(work.end.peer, call, work.name, value)

    def _cancel_running(self, work: Work) -> None:
        def cancel() -> None:
            if work.coroutine is not None:
                work.coroutine.cancel()

        loop = self._loops.get(self.group_of(work.call), self._main)
        loop.loop.call_soon_threadsafe(cancel)

    # ------------------------------------------------------------------ the end

    def _part(self) -> None:
        """See Host: when the loop has ended."""
        self.leaving = True

    def _stop_calls(self, running: list[Work]) -> None:
        self.graceful = self.graceful or self.leaving
        for loop in (*self._loops.values(), self._main):
            if not self.graceful:
                loop.strand.doom()  # if a coroutine waits in get()
            loop.stop()
            loop.strand.retire()
            self._player.strands.discard(loop.strand)

    def _slots(self, limit: int) -> int:
        return 0  # a coroutine may wait in many ways: nobody can say that it is blocked


def _nothing() -> None:
    pass
