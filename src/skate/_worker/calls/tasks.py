"""The table of this process's unfinished calls. Decisions only.

A call enters when it is made, and leaves when its last return has a value or an error. In between it waits
for arguments, then with its route for a worker or its actor, then it is at a process: ``connection`` leads
there. A reply counts only if it comes on that connection::

    add --> [waits] --sent--> [at a process] --reply, error--> remove
               ^                     |
               '----taken_back-------'
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from skate._worker.calls.records import TaskRecord

if TYPE_CHECKING:
    from skate._transport.connection import Connection


class TaskTable:
    """All unfinished calls of one process, by their numbers, oldest first. Under the lock."""

    def __init__(self) -> None:
        self.unfinished: dict[int, TaskRecord] = {}

    def add(self, task: TaskRecord) -> None:
        """Add a call that was made, or that runs again."""
        self.unfinished[task.seq] = task

    def remove(self, task: TaskRecord) -> None:
        """Remove a finished call."""
        task.connection = None
        self.unfinished.pop(task.seq, None)

    def at(self, connection: Connection, seq: int) -> TaskRecord | None:
        """Return the call of this number if it was sent on this connection, and not taken back since."""
        task = self.unfinished.get(seq)
        return task if task is not None and task.connection is connection else None
