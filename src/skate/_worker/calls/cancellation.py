"""Cancels calls at their owner. Decisions and messages; the worker's part is in ``interrupts``.

::

    waiting here (for arguments, a worker, its actor) ------------------------> CANCELLED
    sent --CancelCall--> not begun there: answered at once -------------------> CANCELLED
                         a task runs: KeyboardInterrupt in it
                         a coroutine runs: CancelledError in it
                         another method runs: it may ask is_canceled()
         --reply-------> the outcome: cancelled, or (it was faster) its result
         --REPLY_TIMEOUT_S without a reply -----> CANCELLED for its waiters; its worker stays busy
         --force-------> its worker is killed, if this very call runs on it --> CANCELLED

A cancelled call is never run again. A worker that does not run the call is left alone; other calls that were
sent to a killed worker run elsewhere.
"""

from __future__ import annotations

from skate._base import errors, ids
from skate._serialize.exceptions import dump_error
from skate._transport.connection import Connection, Handler
from skate._wire import node
from skate._wire import worker as wire
from skate._worker.calls.records import TaskRecord
from skate._worker.calls.results import Results
from skate._worker.calls.tasks import TaskTable
from skate._worker.objects.refs import PENDING, ObjectEntry, RefTable
from skate._worker.process import current
from skate._worker.process.cancelled import cancelled_error
from skate._worker.process.context import ProcessContext
from skate._worker.process.daemon_link import DaemonLink
from skate._worker.process.peers import Peers

#: Waits for a cancelled task end after this time, even if the task does not (seconds).
REPLY_TIMEOUT_S = 0.5
#: A worker that does not end by itself is ended by its daemon after this time (seconds).
_KILL_DELAY_S = 0.2


class Canceller:
    """Cancels calls of this process, and asks their owners to cancel others. Under the process's lock."""

    def __init__(
        self,
        context: ProcessContext,
        daemon: DaemonLink,
        peers: Peers,
        refs: RefTable,
        tasks: TaskTable,
        results: Results,
    ) -> None:
        self._context = context
        self._daemon = daemon
        self._peers = peers
        self._refs = refs
        self._tasks = tasks
        self._results = results

    def handlers(self) -> dict[type, Handler]:
        """Return the handlers of messages from other processes."""
        return {wire.CancelTask: self._cancel_requested}

    def cancel(self, entry: ObjectEntry, force: bool, recursive: bool) -> None:
        """Cancel the call that makes this object; do nothing if it is there already."""
        if entry.kind != PENDING and entry.task is None:
            return
        if entry.owner_address is None:
            if entry.task is not None:
                self.cancel_task(entry.task, force, recursive)
            return

        def connected(connection: Connection) -> None:
            connection.send(wire.CancelTask(entry.id, force, recursive))
            connection.flush()

        self._peers.reach(entry.owner_address, connected, lambda shortage: None)

    def _cancel_requested(self, connection: Connection, message: wire.CancelTask) -> None:
        entry = self._refs.entries.get(message.object_id)
        if entry is not None and entry.owner_address is None:
            self.cancel(entry, message.force, message.recursive)

    def cancel_task(self, task: TaskRecord, force: bool, recursive: bool) -> None:
        """Cancel a call of this process."""
        if task.unresolved < 0 or (task.cancelled and not force):
            return
        connection = task.connection
        if connection is None:
            if task.cancelled:
                return  # it is over
            task.route.withdraw(task)
            self._results.finish_with_error(task, cancel_error(self._context, task))
            return
        first = not task.cancelled
        task.cancelled = True
        force = force and task.actor is None
        connection.send(wire.CancelCall(task.seq, force, recursive))
        connection.flush()
        if first:
            self._context.reactor.call_later(REPLY_TIMEOUT_S, lambda: self._end_waits(task))
        if force:
            task.killed = True
            self._context.reactor.call_later(_KILL_DELAY_S, lambda: self._kill(task))

    def _end_waits(self, task: TaskRecord) -> None:
        """End the waits for a task that still runs, with an error."""
        if task.connection is None:
            return
        entries = task.returns
        self._results.abandon(task, cancel_error(self._context, task, begun=True))
        for entry in entries:
            self._refs.expect(entry, task)  # it may still be cancelled with force

    def _kill(self, task: TaskRecord) -> None:
        """Have the daemon kill a worker that did not end: its threads are stuck in native code."""
        lease = task.lease
        if lease is not None and task.connection is not None:
            self._daemon.send(node.KillTask(lease.id, task.seq))
            self._context.reactor.call_later(_KILL_DELAY_S, lambda: self._kill(task))

    def cancel_children(self, owner: bytes, seq: int, force: bool) -> None:
        """Cancel the calls that a cancelled call of this process has made."""
        for task in list(self._tasks.unfinished.values()):
            parent = task.parent
            if parent is not None and parent.seq == seq and parent.owner == owner:
                self.cancel_task(task, force and task.actor is None, True)


def cancel_error(context: ProcessContext, task: TaskRecord, *, begun: bool = False) -> bytes:
    """Return the error of a cancelled call; ``begun``: it runs, so the error is a RayTaskError, too."""
    task_id = ids.task_id(context.worker_id, task.seq).hex()
    by = f": cancel() was called in {context.kind} process {context.pid}"
    caller = current.call.get().name
    if caller:
        by += f", in {caller}"
    if begun and not task.killed:
        return cancelled_error(None, task.describe(), task_id, by)
    kind = errors.TaskKilledError if task.killed else errors.TaskCancelledError
    return dump_error(kind(task_id, f"{task.describe()} was cancelled{by}"))
