"""Cancelling calls, at their owner. Decisions and messages; the worker's part is in ``interrupts``.

::

    waiting here (for arguments, a worker, its actor) ------------------------> CANCELLED
    sent --CancelCall--> not begun there: answered at once -------------------> CANCELLED
                         a task runs: KeyboardInterrupt in it
                         a coroutine runs: CancelledError in it
                         another method runs: it may ask is_canceled()
         --reply-------> what it says: cancelled, or (it was faster) its result
         --GRACE without a reply------> CANCELLED for whoever waits; its worker stays busy
         --force-------> its worker is killed, if this very call runs on it --> CANCELLED

A cancelled call is never run again. Nothing is done to a worker because of a call that it does not
run: what else was sent there goes on, or is sent elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from skate._base import errors, ids
from skate._serialize.exceptions import dump_error
from skate._transport.connection import Connection
from skate._wire import node
from skate._wire import worker as wire
from skate._worker.calls.records import TaskRecord
from skate._worker.execution.failures import cancelled_error
from skate._worker.objects.refs import PENDING, ObjectEntry
from skate._worker.process import current

if TYPE_CHECKING:
    from skate._worker.core import Core

#: Who waits for a cancelled task hears of it after this long, even if the task does not end (seconds).
GRACE = 0.5
#: A worker that does not end by itself is ended by its daemon after this long (seconds).
_STUBBORN = 0.2


class Canceller:
    """The process's part about calls that nobody wants any more. Everything runs under the core's lock."""

    def __init__(self, core: Core) -> None:
        self._core = core
        core.peers.handlers[wire.CancelTask] = self._asked

    def cancel(self, entry: ObjectEntry, force: bool, recursive: bool) -> None:
        """Cancel what makes this object; nothing if it is there already."""
        if entry.kind != PENDING and entry.task is None:
            return
        if entry.owner_address is None:
            if entry.task is not None:
                self.cancel_task(entry.task, force, recursive)
            return

        def connected(connection: Connection) -> None:
            connection.send(wire.CancelTask(entry.id, force, recursive))
            connection.flush()

        self._core.peers.reach(entry.owner_address, connected, lambda shortage: None)

    def _asked(self, connection: Connection, message: wire.CancelTask) -> None:
        entry = self._core.refs.entries.get(message.object_id)
        if entry is not None and entry.owner_address is None:
            self.cancel(entry, message.force, message.recursive)

    def cancel_task(self, task: TaskRecord, force: bool, recursive: bool) -> None:
        """Cancel a call of this process."""
        if task.unresolved < 0 or (task.cancelled and not force):
            return
        connection = self._core.calls.where(task)
        if connection is None:
            if task.cancelled:
                return  # it is over
            self.withdraw(task)
            self._core.calls.finish_with_error(task, self.error(task))
            return
        first = not task.cancelled
        task.cancelled = True
        force = force and task.actor is None
        connection.send(wire.CancelCall(task.seq, force, recursive))
        connection.flush()
        if first:
            self._core.reactor.call_later(GRACE, lambda: self._settle(task))
        if force:
            task.killed = True
            self._core.reactor.call_later(_STUBBORN, lambda: self._kill(task))

    def withdraw(self, task: TaskRecord) -> None:
        """Forget a call that was not sent."""
        if task.actor is not None:
            self._core.actors.failed_argument(task)
        elif task.pool is not None and not task.unresolved:
            task.pool.withdraw(task)

    def _settle(self, task: TaskRecord) -> None:
        """It still runs: have nobody wait for it any longer."""
        if self._core.calls.where(task) is None:
            return
        entries = task.returns
        self._core.calls.abandon(task, self.error(task, begun=True))
        for entry in entries:
            entry.task = task  # it may still be cancelled with force

    def _kill(self, task: TaskRecord) -> None:
        """The worker did not end by itself: its threads are stuck in code that does not yield."""
        lease = task.lease
        if lease is not None and self._core.calls.where(task) is not None:
            self._core.node.send(node.KillTask(lease.id, task.seq))
            self._core.reactor.call_later(_STUBBORN, lambda: self._kill(task))

    def cancel_children(self, owner: bytes, seq: int, force: bool) -> None:
        """A call that runs here was cancelled: cancel what it has called itself."""
        core = self._core
        calls = {id(task): task for task, _ in (*core.normal.in_flight(), *core.actors.in_flight())}
        for entry in core.refs.entries.values():
            if entry.task is not None:
                calls[id(entry.task)] = entry.task
        for task in calls.values():
            parent = task.parent
            if parent is not None and parent.seq == seq and parent.owner == owner:
                self.cancel_task(task, force and task.actor is None, True)

    def error(self, task: TaskRecord, *, begun: bool = False) -> bytes:
        """Return what ``get`` raises for it. ``begun``: it runs, so that it is a RayTaskError as well."""
        task_id = ids.task_id(self._core.worker_id, task.seq).hex()
        by = f": cancel() was called in {self._core.kind} process {self._core.pid}"
        caller = current.call.get().name
        if caller:
            by += f", in {caller}"
        if begun and not task.killed:
            return cancelled_error(None, task.describe(), task_id, by)
        kind = errors.TaskKilledError if task.killed else errors.TaskCancelledError
        return dump_error(kind(task_id, f"{task.describe()} was cancelled{by}"))
