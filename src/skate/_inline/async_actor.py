"""Runs async actors: each has a loop on a thread of its own, where its calls interleave.

Each concurrency group has a loop and a thread of its own.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable
from typing import Any

from skate._base.clock import perf_counter
from skate._base.hooks import unset
from skate._inline.actor import InlineActor
from skate._inline.call_threads import CallThread, Killed
from skate._inline.context import ActorParts
from skate._inline.reactor import Deferred, here, release
from skate._inline.work import Work
from skate._wire import control
from skate._wire import worker as wire
from skate._worker.execution.invocation import Result
from skate._worker.objects.refs import ObjectEntry
from skate._worker.process import current


class _Loop:
    """A loop on a call thread, for the calls of one concurrency group or for all others."""

    def __init__(self, call_thread: CallThread) -> None:
        self.call_thread = call_thread
        self.loop = asyncio.new_event_loop()
        #: References to the running tasks, as asyncio keeps only weak ones.
        self.tasks: set[asyncio.Task[None]] = set()
        #: The tasks that still run on the loop are being cancelled.
        self.closing = False

    def run(self, first: Callable[[], None]) -> None:
        """Run the loop until ``stop``; then cancel the remaining tasks. The job of the call thread."""
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

    def accept_calls(self) -> None:
        """Accept calls from now on; each starter pauses for its own call only. On the loop."""
        self.call_thread.ending = False
        self.call_thread.alone = True

    def stop(self) -> None:
        """End ``run``. Any thread."""
        try:
            self.loop.call_soon_threadsafe(self.loop.stop)
        except RuntimeError:
            pass  # it is closed


class _Posted:
    """A call on its way to its loop."""

    def __init__(self, actor: AsyncActor, loop: _Loop, work: Work) -> None:
        self._actor = actor
        self._loop = loop
        self._work = work

    def run_deferred(self, pause: bool) -> list[Deferred]:
        """Post the call. See Deferred: it has settled when its coroutine comes to its first ``await``."""
        actor, loop, call_thread, me = self._actor, self._loop, self._loop.call_thread, here.sleeper
        if not pause or me is call_thread:
            actor.post(loop, self._work, None)
            return []

        def begin(settled: threading.Lock) -> None:
            # A loop that waits or pauses for another one begins no call now, but later.
            if call_thread.busy:
                release(settled)
                actor.post(loop, self._work, None)
            else:
                actor.post(loop, self._work, settled)

        call_thread.pause(begin)
        return []


class AsyncActor(InlineActor):
    """An async actor. Each concurrency group has a loop and a thread, from its first call on."""

    def __init__(self, parts: ActorParts, message: control.PlaceActor) -> None:
        super().__init__(parts, message)
        self._main = _Loop(self.call_thread)
        #: By group; changes under the lock.
        self._loops: dict[str, _Loop] = {}
        #: It ends on purpose.
        self.is_leaving = False

    def begin(self) -> None:
        """Start the constructor on the actor's loop."""
        self.call_thread.begin(self._serve)

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
        # A constructor that is a coroutine waits now: let its starter go on.
        if not self.is_constructed:
            self.call_thread.alone = True
            self.call_thread.settle()

    async def _construct_there(self) -> None:
        received: list[ObjectEntry] = []
        raised = None
        current.call.set(self._constructor)
        try:
            try:
                self.instance = await self._construct_on_loop(received)
                self._introduce()
            except Killed:
                return
            except BaseException as error:
                if self.stopped:
                    return
                raised = error
            self._report(raised, received)
        finally:
            self._accept_calls(self._main)
            if self.stopped and not self._main.closing:
                self._main.loop.stop()

    def _accept_calls(self, loop: _Loop) -> None:
        loop.accept_calls()
        with self._context.lock:
            deferred = loop.call_thread.take_inherited()
        loop.call_thread.settle()
        if deferred:
            self._reactor.start(deferred)

    # ------------------------------------------------------------------ calls

    def _start(self, work: Work) -> None:
        self.begun = (b"", 0)  # several calls run at a time: none of them is known to be the last
        try:
            loop = self._loop_of(work.group) if work.group in self.spec.concurrency_groups else self._main
        except RuntimeError as error:
            self._executor.refuse(work, error)
            return
        work.call_thread = loop.call_thread
        self._reactor.deferred.append(_Posted(self, loop, work))

    def _loop_of(self, group: str) -> _Loop:
        found = self._loops.get(group)
        if found is None:
            found = loop = self._loops[group] = _Loop(self._executor.make_actor_thread())
            loop.call_thread.begin(lambda: loop.run(lambda: self._accept_calls(loop)))
        return found

    def post(self, loop: _Loop, work: Work, settled: threading.Lock | None) -> None:
        """Begin a call on its loop. Any thread."""
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
        executor = self._executor
        received: list[ObjectEntry] = []
        started = work.began = perf_counter()
        current.call.set(work)
        try:
            if work.key in executor.cancelled:
                raise asyncio.CancelledError
            result: Result | None = await self._invoke_call(work, received)
        except BaseException as error:
            result = executor.failed(error, work) if not self.stopped else None
        if result is None:
            return
        taken = int((perf_counter() - started) * 1_000_000)
        with self._context.lock:
            if not self.stopped:
                self._invocation.reply(work.connection, work.call, result, taken, received)
            self._over(work)

    async def _invoke_call(self, work: Work, received: list[ObjectEntry]) -> Result:
        call = work.call
        target = self.method(str(call.fn))
        args, kwargs = self._invocation.decode_arguments(call, received)
        value: Any = target(*args, **kwargs)
        if call.stream is not None:
            await self._executor.yielding.run_async(work.connection, call, value, unset)
            return wire.NONE, b"", None, None, None
        if inspect.isawaitable(value):
            value = await value
        return self._invocation.encode(work.connection.peer, call, work.name, value)

    def _cancel_running(self, work: Work) -> None:
        def cancel() -> None:
            if work.coroutine is not None:
                work.coroutine.cancel()

        loop = self._loops.get(work.group, self._main)
        loop.loop.call_soon_threadsafe(cancel)

    # ------------------------------------------------------------------ the end

    def _clean_up(self) -> None:
        """Clean up when the loop has ended."""
        self.is_leaving = True

    def _stop_calls(self, running: list[Work]) -> None:
        self.graceful = self.graceful or self.is_leaving
        for loop in (*self._loops.values(), self._main):
            if not self.graceful:
                loop.call_thread.kill()  # if a coroutine waits in get()
            loop.stop()
            loop.call_thread.retire()
            self._executor.call_threads.discard(loop.call_thread)
