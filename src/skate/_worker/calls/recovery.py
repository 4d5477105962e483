"""Makes lost objects again: carries out the plans of ``lineage``. Everything runs under the process's lock.

A loss is found when an object is read. A process that does not find it at its location tells the owner::

    get() here -------------------------.
    get() in a borrower: ObjectLost ----+--> missing(): the entry waits for a value again, and the calls of
    a task's argument: Reply(LOST) -----'    the plan run again; later readers wait too

A second report about the same loss changes nothing: it names the location that was found empty, and the
entry has another by then, or none. Reconstructed objects are read by request only, so it does no harm
if a repeated call seals an object that was there already (``Seal.again``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from skate._base import errors
from skate._base.ids import index_of
from skate._serialize.exceptions import dump_error, is_task_error, load_error
from skate._transport.connection import Connection
from skate._wire import node
from skate._wire import worker as wire
from skate._worker.calls.lineage import Lineage
from skate._worker.calls.records import TaskRecord
from skate._worker.calls.results import Results
from skate._worker.objects.borrowing import Borrowing
from skate._worker.objects.refs import MISSING, PENDING, ObjectEntry, RefTable, discarding_entry
from skate._worker.process.call_site import written
from skate._worker.process.context import ProcessContext
from skate._worker.process.daemon_link import DaemonLink


class Recovery:
    """Repeats calls whose objects were lost. Built by Core.

    Args:
        waiting_with: each returns the calls that are about to be sent with an object as argument, and waits
            with them no more.
    """

    def __init__(
        self,
        context: ProcessContext,
        daemon: DaemonLink,
        refs: RefTable,
        borrowing: Borrowing,
        lineage: Lineage,
        results: Results,
        waiting_with: Iterable[Callable[[ObjectEntry], list[TaskRecord]]],
    ) -> None:
        self._context = context
        self._daemon = daemon
        self._refs = refs
        self._borrowing = borrowing
        self._lineage = lineage
        self._results = results
        self._waiting_with = tuple(waiting_with)
        #: The last final error: calls that fail because of it get the same.
        self._final = b""

    # ------------------------------------------------------------------ losses

    def missing(self, entry: ObjectEntry, data: bytes) -> None:
        """Reconstruct an object that is not at the location ``data``, or give it an error."""
        if entry.kind != wire.SHARED or entry.data != data or entry.gone:
            return  # the loss is known already
        if entry.owner_address is not None:
            self._refs.await_again(entry)
            self._hold_back(entry)
            self._borrowing.report_lost(entry, data)
            return
        plan = self._lineage.plan(entry)
        if isinstance(plan, str):
            self._refs.await_again(entry)
            self._hold_back(entry)
            self._refs.fulfil(entry, wire.ERROR, dump_error(self._lost(entry, plan)))
            return
        self._refs.lost(entry)
        self._hold_back(entry)
        running = entry.maker
        if isinstance(running, TaskRecord):
            self._want(running, entry)
        for needed in plan.revived:
            self._refs.revive(needed)
            if isinstance(needed.maker, TaskRecord):
                self._want(needed.maker, needed)
        for task in plan.tasks:
            if task.stream is not None and not task.stream.ended:
                continue  # its first run is not finished: see ``reconstruction_finished``
            task.is_reconstruction = True
            task.spend_retry()
        for task in plan.tasks:
            if task.is_reconstruction:
                self._run_again(task)

    def _hold_back(self, entry: ObjectEntry) -> None:
        """Have calls that were about to be sent with the object wait for it again."""
        for waiting_with in self._waiting_with:
            for call in waiting_with(entry):
                self._results.wait_for_arguments(call, entry)

    def _want(self, task: TaskRecord, entry: ObjectEntry) -> None:
        self._refs.expect(entry, task)
        if task.stream is not None:
            if task.lost_items is None:
                task.lost_items = {}
            task.lost_items[index_of(entry.id, task.stream.base)] = entry

    def _lost(self, entry: ObjectEntry, why: str) -> errors.ObjectLostError:
        where = written(entry.site)
        story = f"{MISSING}{where and ', made at ' + where}; it cannot be made again: {why}"
        if isinstance(entry.maker, TaskRecord):
            reason = "OBJECT_UNRECONSTRUCTABLE_MAX_ATTEMPTS_EXCEEDED"
            if entry.maker.lineage is None:
                reason = "OBJECT_UNRECONSTRUCTABLE_LINEAGE_EVICTED"
            return errors.ObjectReconstructionFailedError(
                entry.id.hex(), reason, story, self._context.address, where
            )  # fmt: skip
        return errors.ObjectLostError(entry.id.hex(), self._context.address, story)

    def _run_again(self, task: TaskRecord) -> None:
        task.flags |= wire.AGAIN
        task.unresolved = 0
        task.pins = list(task.lineage or ())
        for entry in task.pins:
            self._refs.pin(entry)
        self._results.run_again(task)

    # ------------------------------------------------------------------ the end of a repeated call

    def missing_returns(self, task: TaskRecord) -> list[ObjectEntry]:
        """Return the returns of a repeated call, with discarding entries in place of those that have values.

        A value that a discarding entry gets is freed, unless the value in use lies in the store under its id.
        """
        return [
            entry if entry.gone or entry.kind == PENDING
            else discarding_entry(b"" if entry.kind == wire.SHARED else entry.id)
            for entry in task.returns
        ]  # fmt: skip

    def item_arrived(self, connection: Connection, message: wire.StreamItem, task: TaskRecord) -> None:
        """Take an item of a repeated generator: a lost one is fulfilled, any other is dropped."""
        stream = task.stream
        assert stream is not None
        entry = (task.lost_items or {}).pop(message.index, None)
        if message.contained:
            acknowledgement = wire.ReplyAck(message.seq, message.index)
            taker = entry if entry is not None else discarding_entry()
            self._borrowing.take_contained(connection, message.contained, [taker], acknowledgement)
        if entry is not None and not entry.gone:
            self._refs.fulfil(entry, message.kind, message.data)
        elif message.kind == wire.SHARED:
            item = stream.item_id(message.index)
            there = self._refs.entries.get(item)
            if there is None or there.kind != wire.SHARED:  # gone, or it was an error the first time
                self._daemon.send(node.Free([item], False))
        if not task.lost_items:
            connection.send(wire.StreamStop(message.seq))

    def failed(self, task: TaskRecord, error: bytes) -> bytes:
        """Return the error for the objects that a repeated call should have made, but failed."""
        if error is self._final:
            return error
        if is_task_error(error):
            self._final = error
            return error
        cause = load_error(error)
        if isinstance(cause, errors.ObjectReconstructionFailedError):
            self._final = error
            return error
        entry = next((one for one in task.returns if one.kind == PENDING), task.returns[0])
        story = f"{MISSING}; making it again failed: {cause}"
        reason = "OBJECT_UNRECONSTRUCTABLE_TASK_CANCELLED" if task.cancelled else "OBJECT_UNRECONSTRUCTABLE"
        lost = errors.ObjectReconstructionFailedError(
            entry.id.hex(), reason, story, self._context.address, written(task.site)
        )
        self._final = dump_error(lost)
        return self._final

    def reconstruction_finished(self, task: TaskRecord, error: bytes = b"") -> None:
        """End a repeated call, or the first run of a generator whose items were lost meanwhile."""
        self._lineage.reconstruction_finished(task)
        task.flags &= ~wire.AGAIN
        items, task.lost_items = task.lost_items, None
        for entry in (items or {}).values():
            if entry.gone or entry.kind != PENDING:
                continue
            if error:
                self._refs.fulfil(entry, wire.ERROR, error)
            else:  # it was lost after the generator had passed it
                self._refs.mark_in_store(entry)
                self.missing(entry, b"")
