"""Runs async actors with concurrency groups: a loop and a thread for each group, beside the main thread's.

::

    sockets ──► reading thread ──submit──► main thread: loop of calls of no group, constructor, reactor
                (main thread, or           thread "skate-group-io": loop of the group "io"
                 skate-io while it         thread "skate-group-cpu": ...
                 computes)

A coroutine that blocks its loop blocks the calls of its own group, and no others. A group's thread starts at
its first call; no call of a group begins before the constructor has ended.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from skate._base import threads
from skate._base.process import end_process_group
from skate._transport.connection import Connection
from skate._wire import control
from skate._wire import worker as wire
from skate._worker.execution.actor_host import ActorHost
from skate._worker.execution.concurrency import AsyncRunner, group_of, limits_of
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
        limit: int,
    ) -> None:
        super().__init__(context, gate, invoker, spec, {group: limit})
        self._group = group
        try:
            self._thread = threads.start(f"skate-group-{group}", self._run_loop)
        except RuntimeError as error:
            self._loop.close()
            raise MemoryError(f"the concurrency group {group!r} has no thread: {error}") from None

    def submit(self, connection: Connection, call: wire.Call) -> None:
        """See Runner."""
        self._running[connection.peer.id, call.seq] = None
        self._incoming.append((connection, call))
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
        self._limits = limits_of(spec)
        self._limits.pop("")
        self._constructed = False
        self._left = threading.Event()

    def submit(self, connection: Connection, call: wire.Call) -> None:
        """See Runner."""
        group = group_of(self._spec, call)
        if group not in self._limits:
            super().submit(connection, call)
        elif self._constructed:
            self._loop_of(group).submit(connection, call)
        else:
            self._running[connection.peer.id, call.seq] = None
            self._waiting[group].append((connection, call))

    def _loop_of(self, group: str) -> _GroupLoop:
        found = self._loops.get(group)
        if found is None:
            found = _GroupLoop(
                self._context, self._gate, self._invoker, self._spec, group, self._limits[group]
            )
            self._loops[group] = found
        return found

    def serve(self, host: ActorHost) -> None:
        """See Runner."""
        try:
            super().serve(host)
        finally:
            self._left.set()

    async def _construct(self, host: ActorHost) -> None:
        await super()._construct(host)
        self._after_constructor()

    def _after_constructor(self) -> None:
        """Hand the groups the calls that came during the constructor. On the main thread."""
        with self._context.locked:
            self._constructed = True
            for group in self._limits:
                queue = self._waiting[group]
                while queue:
                    connection, call = queue.popleft()
                    self._running.pop((connection.peer.id, call.seq), None)
                    self._loop_of(group).submit(connection, call)

    def cancel(self, connection: Connection, seq: int) -> bool:
        """See Runner."""
        if super().cancel(connection, seq):
            return True
        return any(loop.cancel(connection, seq) for loop in self._loops.values())

    def lanes(self) -> list[dict[str, Any]]:
        """See Runner."""
        found = super().lanes()
        for loop in list(self._loops.values()):
            found += loop.lanes()
        return found

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
