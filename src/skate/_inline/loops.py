"""Async actors: their calls interleave on a loop of their own, on a thread of their own."""

from __future__ import annotations

import asyncio
import inspect
import threading
from time import perf_counter
from typing import TYPE_CHECKING, Any

from skate._inline.host import Host
from skate._inline.strands import Doomed
from skate._inline.turns import Begun, here, release
from skate._inline.work import Work
from skate._wire import worker as wire
from skate._worker import current
from skate._worker.invocation import Result

if TYPE_CHECKING:
    from skate._inline.core import InlineCore
    from skate._wire import control
    from skate._worker.refs import ObjectEntry


class _Posted:
    """A call on its way to the loop."""

    def __init__(self, host: LoopHost, work: Work) -> None:
        self._host = host
        self._work = work

    def go(self, stand_by: bool) -> list[Begun]:
        """See Begun. It has settled when its coroutine has come to its first ``await``."""
        host, strand, me = self._host, self._host.strand, here.sleeper
        if not stand_by or me is strand:
            host.post(self._work, None)
            return []

        def begin(settled: threading.Lock) -> None:
            # A loop that waits or stands by for another one takes no part: it will see to this later.
            if strand.busy:
                release(settled)
                host.post(self._work, None)
            else:
                host.post(self._work, settled)

        strand.stand_by(begin)
        return []


class LoopHost(Host):
    """See the module's text."""

    def __init__(self, core: InlineCore, message: control.PlaceActor) -> None:
        super().__init__(core, message)
        self._invocation = core.player.invocation
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        #: It ends on purpose.
        self.leaving = False
        #: What still runs on the loop is being ended.
        self._closing = False

    def begin(self) -> None:
        """See Host."""
        self.strand.begin(self._serve)

    def _serve(self) -> None:
        loop = self._loop
        asyncio.set_event_loop(loop)
        loop.call_soon(self._construct_here)
        try:
            loop.run_forever()
        finally:
            self._closing = True
            for task in asyncio.all_tasks(loop):
                task.cancel()
            pending = asyncio.all_tasks(loop)
            if pending:
                loop.run_until_complete(asyncio.wait(pending, timeout=0.2))
            loop.run_until_complete(loop.shutdown_asyncgens())
            asyncio.set_event_loop(None)
            loop.close()
            if self.graceful:
                self.farewell()
            self.let_go()

    def _construct_here(self) -> None:
        # In the loop, so that constructors may create tasks and use the running loop.
        self._tasks.add(self._loop.create_task(self._construct_there()))
        self._loop.call_soon(self._first_step_over)

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
            strand = self.strand
            strand.ending = False
            strand.alone = True
            with self.core.lock:
                begun = strand.take_legacy()
            strand.settle()
            if begun:
                self.core.turns.start(begun)
            if self.stopped and not self._closing:
                self._loop.stop()

    # ------------------------------------------------------------------ calls

    def _start(self, work: Work) -> None:
        self.begun = (b"", 0)  # several run at a time: nobody can say which was begun last
        work.strand = self.strand
        self.core.turns.begun.append(_Posted(self, work))

    def post(self, work: Work, settled: threading.Lock | None) -> None:
        """Have a call begin on the loop. Any thread."""
        try:
            self._loop.call_soon_threadsafe(self._begin_call, work, settled)
        except RuntimeError:
            if settled is not None:
                release(settled)  # the loop was closed meanwhile

    def _begin_call(self, work: Work, settled: threading.Lock | None) -> None:
        work.coroutine = task = self._loop.create_task(self._run_call(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if settled is not None:
            self._loop.call_soon(release, settled)  # behind the first step of the coroutine

    async def _run_call(self, work: Work) -> None:
        core, player = self.core, self.core.player
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
        with core.lock:
            if not self.stopped:
                self._invocation.reply(work.end, work.call, result, taken, met)
            self._over(work)

    async def _invoke_call(self, work: Work, met: list[ObjectEntry]) -> Result:
        call = work.call
        target = self.method(str(call.fn))
        args, kwargs = self._invocation.decode_arguments(call, met)
        value: Any = target(*args, **kwargs)
        if call.stream is not None:
            await self.core.player.yielding.run_async(work.end, call, value, _nothing)
            return wire.NONE, b"", None, None, None
        if inspect.isawaitable(value):
            value = await value
        return self._invocation.encode(work.end.peer, call, work.name, value)

    def _cancel_running(self, work: Work) -> None:
        def cancel() -> None:
            if work.coroutine is not None:
                work.coroutine.cancel()

        self._loop.call_soon_threadsafe(cancel)

    # ------------------------------------------------------------------ the end

    def _part(self) -> None:
        """See Host: when the loop has ended."""
        self.leaving = True

    def _stop_calls(self, running: list[Work]) -> None:
        self.graceful = self.graceful or self.leaving
        if not self.graceful:
            self.strand.doom()  # if a coroutine waits in get()
        try:
            self._loop.call_soon_threadsafe(self._loop.stop)
        except RuntimeError:
            pass  # it is closed
        self.strand.retire()
        self.core.player.strands.discard(self.strand)

    def _slots(self, limit: int) -> int:
        return 0  # a coroutine may wait in many ways: nobody can say that it is blocked


def _nothing() -> None:
    pass
