"""Ends calls: by replies, errors without a reply, arguments that fail. And decides when they may be sent.

Everything runs under the process's lock. The part that differs between leased workers and actors is in the
call's route: see ``records.Route``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from skate._base import ids
from skate._transport.connection import Connection
from skate._wire import node
from skate._wire import worker as wire
from skate._worker.calls.history import CallHistory
from skate._worker.calls.lineage import Lineage
from skate._worker.calls.records import TaskRecord
from skate._worker.calls.stream_calls import StreamCalls
from skate._worker.calls.tasks import TaskTable
from skate._worker.calls.unretrieved import UnretrievedErrors
from skate._worker.objects.borrowing import Borrowing
from skate._worker.objects.refs import PENDING, ObjectEntry, RefTable, discarding_entry
from skate._worker.process.context import ProcessContext
from skate._worker.process.daemon_link import DaemonLink


class Reconstruction(Protocol):
    """Makes lost objects again by repeating calls: ``recovery.Recovery``."""

    def missing(self, entry: ObjectEntry, data: bytes) -> None:
        """See Recovery."""

    def missing_returns(self, task: TaskRecord) -> list[ObjectEntry]:
        """See Recovery."""

    def failed(self, task: TaskRecord, error: bytes) -> bytes:
        """See Recovery."""

    def reconstruction_finished(self, task: TaskRecord, error: bytes = b"") -> None:
        """See Recovery."""


class Results:
    """Ends calls, and holds them until their arguments have values. Built by Core."""

    #: Set by Core, once it is built: it ends calls itself.
    recovery: Reconstruction

    def __init__(
        self,
        context: ProcessContext,
        daemon: DaemonLink,
        refs: RefTable,
        borrowing: Borrowing,
        tasks: TaskTable,
        streams: StreamCalls,
        lineage: Lineage,
        history: CallHistory,
        unretrieved: UnretrievedErrors,
    ) -> None:
        self._context = context
        self._daemon = daemon
        self._refs = refs
        self._borrowing = borrowing
        self._tasks = tasks
        self._streams = streams
        self._lineage = lineage
        self._history = history
        self._unretrieved = unretrieved

    # ------------------------------------------------------------------ arguments

    def wait_for_arguments(self, task: TaskRecord, lost: ObjectEntry | None = None) -> None:
        """Have a call wait for those arguments that have no value, or for this one."""
        for _, entry in task.dependencies or ():
            if (lost is None or entry is lost) and task.unresolved >= 0:
                self._depend(task, entry)

    def _depend(self, task: TaskRecord, entry: ObjectEntry) -> None:
        if entry.kind == PENDING:
            task.unresolved += 1
            self._refs.when_ready(entry, lambda ready: self._argument_ready(task, ready))
            if entry.owner_address is not None:
                self._borrowing.fetch(entry)

    def _argument_ready(self, task: TaskRecord, entry: ObjectEntry) -> None:
        if task.unresolved <= 0:
            return  # it is over, or does not wait for this one any more
        if entry.kind == wire.ERROR:
            self._fail(task, entry)
            return
        task.unresolved -= 1
        # The others had values; one may have been lost meanwhile.
        if task.unresolved == 0 and self.can_resend(task):
            task.route.ready(task)

    def _failed_already(self, task: TaskRecord) -> bool:
        """Tell whether an argument is an error, and end the task with it if so."""
        if task.unresolved < 0:
            return True
        if task.dependencies is not None:
            for _, entry in task.dependencies:
                if entry.kind == wire.ERROR:
                    self._fail(task, entry)
                    return True
        return False

    def _fail(self, task: TaskRecord, argument: ObjectEntry) -> None:
        """End a call with the error of an argument."""
        task.route.argument_failed(task)
        argument.mark_retrieved()
        self.finish_with_error(task, argument.data)
        self._unretrieved.failed(task, argument.data)

    def can_resend(self, task: TaskRecord) -> bool:
        """Tell whether a call may be sent (again), as its arguments have values.

        If not, have it wait for those that have none; or end it, if one is an error (``unresolved`` below
        zero).
        """
        if task.dependencies is None:
            return True
        if self._failed_already(task):
            return False
        self.wait_for_arguments(task)
        return not task.unresolved

    def run_again(self, task: TaskRecord) -> None:
        """Have a call run (again) once its arguments have values."""
        self._tasks.add(task)
        may_go = self.can_resend(task)
        if task.unresolved >= 0:
            task.route.resubmit(task, may_go)

    # ------------------------------------------------------------------ replies

    def replied(self, connection: Connection, message: wire.Reply) -> None:
        """End a call by its reply, or run it again. On the path of every call."""
        task = self._tasks.unfinished.get(message.seq)
        if task is None or task.connection is not connection:
            return  # it was abandoned meanwhile
        kind = message.kind
        if kind >= wire.RETRIABLE:
            if kind == wire.LOST:
                self._argument_lost(connection, message, task)
                return
            if task.spend_retry():
                self._start_next_attempt(connection, message, task)
                return
            kind = wire.ERROR
        task.connection = None
        del self._tasks.unfinished[message.seq]
        entries = task.returns if not task.is_reconstruction else self.recovery.missing_returns(task)
        if message.borrowed:
            for object_id, epoch in message.borrowed:
                self._refs.add_borrower(object_id, connection.peer.id, epoch)
        contained = message.contained
        if task.stream is not None:
            last = self._streams.end(task, kind, message.data, raised=True)
            if contained and last is not None:  # the error is the value of two refs, which share its contents
                entries = [entries[0], last]
                contained = [*contained, *((1, *inner[1:]) for inner in contained)]
        if contained:
            self._borrowing.take_contained(connection, contained, entries, wire.ReplyAck(message.seq))
        if task.stream is None and entries:
            if kind == wire.ERROR:
                self._set_failed(entries, message)
            else:
                self._set_return(entries[0], kind, message.data)
            if kind != wire.ERROR and message.more is not None:
                for entry, (more_kind, more_data) in zip(entries[1:], message.more, strict=False):
                    self._set_return(entry, more_kind, more_data)
            if kind == wire.SHARED or (message.more is not None and _any_shared(message.more)):
                self._lineage.remember(task, entries)
        if task.pins is not None:
            self._unpin(task)
        error = None
        if kind == wire.ERROR:
            error = message.data
            self._unretrieved.failed(task, error)
        self._history.add(task, connection.peer.id, message.microseconds, error)
        task.route.replied(task, message.microseconds)
        if task.is_reconstruction or task.lost_items:
            if task.is_reconstruction:
                self._history.repeated(task, failed=error is not None)
            # Last: it may be sent again at once.
            self.recovery.reconstruction_finished(task, message.data if kind == wire.ERROR else b"")

    def _start_next_attempt(self, connection: Connection, message: wire.Reply, task: TaskRecord) -> None:
        """Run a call again after a retriable exception, or a lost argument; its reply is dropped."""
        for object_id, epoch in message.borrowed or ():
            self._refs.add_borrower(object_id, connection.peer.id, epoch)
        if message.contained:
            # The refs inside are dropped. Now: the next attempt's reply has the same number.
            connection.send(wire.ReplyAck(message.seq))
        task.connection = None
        task.route.replied(task, message.microseconds)
        self.run_again(task)

    def _argument_lost(self, connection: Connection, message: wire.Reply, task: TaskRecord) -> None:
        """Have a call, which could not begin, wait until its argument is made again. No retry is spent."""
        object_id, data = message.data[: ids.OBJECT_ID_SIZE], message.data[ids.OBJECT_ID_SIZE :]
        for _, entry in task.dependencies or ():
            if entry.id == object_id:
                self.recovery.missing(entry, data)
        self._start_next_attempt(connection, message, task)

    def _set_failed(self, entries: Sequence[ObjectEntry], message: wire.Reply) -> None:
        """Store the error of a call in its returns, except those that it had yielded before."""
        before = message.more or []
        for entry, (kind, data) in zip(entries, before, strict=False):
            self._set_return(entry, kind, data)
        failed = entries[len(before) :]
        for entry in failed:
            self._set_return(entry, wire.ERROR, message.data)
        if len(entries) > 1:
            # Those before the one that failed may be in the store.
            self._daemon.send(node.Free([entry.id for entry in failed if entry.id], False))

    def _set_return(self, entry: ObjectEntry, kind: int, data: bytes) -> None:
        if entry.gone:
            if kind == wire.SHARED and entry.id:
                self._daemon.send(node.Free([entry.id], False))
            return
        self._refs.fulfil(entry, kind, data)

    def _unpin(self, task: TaskRecord) -> None:
        pins, task.pins = task.pins, None
        for entry in pins or ():
            self._refs.unpin(entry)

    # ------------------------------------------------------------------ ends without a reply

    def finish_with_error(self, task: TaskRecord, error: bytes) -> None:
        """End a call without a reply; do nothing if it is over already."""
        if task.unresolved < 0:
            return
        task.unresolved = -1
        self._tasks.remove(task)
        entries = task.returns
        if task.is_reconstruction:
            error = self.recovery.failed(task, error)
            entries = self.recovery.missing_returns(task)
        self._history.add(task, b"", 0, error)
        if task.stream is not None:
            self._streams.end(task, wire.ERROR, error)
        else:
            self._fulfil_all(entries, error)
        self._unpin(task)
        if task.is_reconstruction or task.lost_items:
            if task.is_reconstruction:
                self._history.repeated(task, failed=True)
            self.recovery.reconstruction_finished(task, error)

    def abandon(self, task: TaskRecord, error: bytes) -> None:
        """End the waits for a call that still runs; its reply is still to come."""
        if task.stream is not None:
            self._streams.end(task, wire.ERROR, error)
        else:
            self._fulfil_all(
                task.returns if not task.is_reconstruction else self.recovery.missing_returns(task), error
            )
        if task.lost_items:
            self.recovery.reconstruction_finished(task, error)
        task.returns = [discarding_entry() for _ in task.returns]

    def _fulfil_all(self, entries: Sequence[ObjectEntry], error: bytes) -> None:
        for entry in entries:
            if not entry.gone:
                self._refs.fulfil(entry, wire.ERROR, error)


def _any_shared(more: list[tuple[int, bytes]]) -> bool:
    return any(kind == wire.SHARED for kind, _ in more)
