"""Runs async actors with concurrency groups: a loop and a thread for each group, beside the main thread's.

::

    sockets ──► reading thread ──submit──► main thread: loop of calls of no group, constructor, reactor
                (main thread, or           thread "skate-group-io": loop of the group "io"
                 skate-io while it         thread "skate-group-cpu": ...
                 computes)

A coroutine that blocks its loop blocks the calls of its own group, and no others. A group's thread starts at
its first call. All groups share the lanes, which decide what begins.
"""

from __future__ import annotations

import asyncio
import threading

from skate._base import threads
from skate._base.process import end_process_group
from skate._wire import control
from skate._worker.execution.actor_host import ActorHost
from skate._worker.execution.concurrency import AsyncRunner, Work
from skate._worker.execution.lanes import Lanes
from skate._worker.execution.runner import Invoker
from skate._worker.process.context import ProcessContext
from skate._worker.process.signals import Gate

#: If a method ended the actor while a coroutine blocks the main thread, which ends the process, it gets this
#: time to finish (seconds).
_END_TIMEOUT_S = 1.0


class _GroupLoop(AsyncRunner):
    """The loop of one group, on a thread of its own. Replies leave from there, under the process's lock."""

    def __init__(
        self,
        context: ProcessContext,
        gate: Gate,
        invoker: Invoker,
        spec: control.ActorSpec,
        group: str,
        lanes: Lanes[Work],
    ) -> None:
        super().__init__(context, gate, invoker, spec, lanes)
        self._group = group
        try:
            self._thread = threads.start(f"skate-group-{group}", self._run_loop)
        except RuntimeError as error:
            self._loop.close()
            raise MemoryError(f"the concurrency group {group!r} has no thread: {error}") from None

    def _make_loop(self) -> tuple[asyncio.AbstractEventLoop, bool]:
        return asyncio.new_event_loop(), False

    def _begin(self, work: Work) -> None:
        self._incoming.append(work)
        if not self._drain_scheduled:
            self._drain_scheduled = True
            self._loop.call_soon_threadsafe(self._drain)

    def is_here(self) -> bool:
        """See AsyncRunner."""
        return threading.current_thread() is self._thread

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._run_until_stopped(f" group {self._group!r}")


class GroupedRunner(AsyncRunner):
    """Runs calls of no group on the main thread's loop, and hands others to the loops of their groups."""

    def __init__(
        self, context: ProcessContext, gate: Gate, invoker: Invoker, spec: control.ActorSpec
    ) -> None:
        super().__init__(context, gate, invoker, spec)
        self._gate = gate
        #: The loops that were started. Changes under the lock.
        self._loops: dict[str, _GroupLoop] = {}
        self._left = threading.Event()

    def _begin(self, work: Work) -> None:
        if work.group:
            self._loop_of(work.group)._begin(work)
        else:
            super()._begin(work)

    def _interrupt(self, work: Work) -> None:
        if work.group:
            self._loop_of(work.group)._interrupt(work)
        else:
            super()._interrupt(work)

    def _loop_of(self, group: str) -> _GroupLoop:
        found = self._loops.get(group)
        if found is None:
            found = self._loops[group] = _GroupLoop(
                self._context, self._gate, self._invoker, self._spec, group, self._lanes
            )
        return found

    def serve(self, host: ActorHost) -> None:
        """See Runner."""
        try:
            super().serve(host)
        finally:
            self._left.set()

    def about_to_wait(self) -> None:
        """See Runner."""
        super().about_to_wait()
        for loop in list(self._loops.values()):
            loop.about_to_wait()

    def stop(self) -> None:
        """See Runner."""
        loops = self._loops.values()
        for loop in loops:
            loop.stop()
        super().stop()
        if any(loop.is_here() for loop in loops):
            threads.start("skate-exit", self._end_if_blocked)

    def _end_if_blocked(self) -> None:
        """End the process, whose leave the daemon knows of, if the main thread does not."""
        if not self._left.wait(_END_TIMEOUT_S):
            end_process_group()
