"""Remembers the calls by which lost objects can be made again. Decisions only.

A call that may be repeated and whose result went to a node's store is kept as that result's *maker*,
and with it, as its *lineage*, the objects it was given: not their values, which are freed when no ref
is left, but their makers. So chains of any depth can be made again, from the last object whose
value is still there::

    put --> a = f(put) --> b = g(a) --> c = h(b)      a, b dropped: their values are freed
                                        '- lost: plan = [h, g, f], and a and b are made on the way

Some objects cannot be made again, which is known at once, with the reason: values of ``put``, results of
calls without retries left (``max_retries``), and results whose lineage was forgotten, the oldest first,
because it grew beyond its limit.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from skate._base.kinds import SHARED
from skate._worker.calls.records import TaskRecord
from skate._worker.objects.refs import ObjectEntry

#: The size of a remembered call, beside its arguments (roughly).
_RECORD_BYTES = 1000


class Plan(NamedTuple):
    """How a lost object is made again."""

    #: Calls to run again, each once.
    tasks: list[TaskRecord]
    #: Freed objects that these need: those with a maker are made by one of the calls.
    revived: list[ObjectEntry]


class Lineage:
    """The remembered calls of one process, oldest first. Called under the core's lock."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        # The first of a plain dict is found behind all that were taken out before it.
        self._sizes: OrderedDict[TaskRecord, int] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._sizes)

    # ------------------------------------------------------------------ remembering

    def remember(self, task: TaskRecord, made: Sequence[ObjectEntry]) -> None:
        """Note that a call made objects, of which some lie in the store."""
        if task.retries_left:
            self.keep(task, made)
        else:
            for entry in made:
                if entry.maker is None:
                    entry.maker = task.describe()

    def keep(self, task: TaskRecord, made: Iterable[ObjectEntry]) -> None:
        """Remember a repeatable call that made these objects. Its arguments are still pinned."""
        for entry in made:
            if not entry.gone and entry.maker is None:
                entry.maker = task
                task.makes += 1
        if task.lineage is not None or not task.makes:
            return
        task.lineage = list(task.pins or ())
        size = _RECORD_BYTES + len(task.args)
        for entry in task.lineage:
            entry.lineage += 1
            if entry.kind != SHARED:
                size += len(entry.data)
        self._sizes[task] = size
        self.bytes += size
        while self.bytes > self._limit and len(self._sizes) > 1:
            oldest = next(iter(self._sizes))
            self._forget(oldest)

    def freed(self, entry: ObjectEntry) -> None:
        """Forget the calls that are remembered only for an object that is freed."""
        todo = [entry]
        while todo:
            entry = todo.pop()
            task = entry.maker
            if not isinstance(task, TaskRecord) or entry.lineage or not entry.gone:
                continue
            entry.maker = None
            task.makes -= 1
            if not task.makes and not task.is_reconstruction:
                todo += self._release(task)

    def reconstruction_finished(self, task: TaskRecord) -> None:
        """Note that a repeated call is finished, and forget it if it is not needed any more."""
        task.is_reconstruction = False
        if not task.makes:
            self._forget(task)

    def close(self, entries: Iterable[ObjectEntry]) -> None:
        """Forget everything at the end of the session.

        Calls and what they made refer to each other, which the garbage collector does not see.

        Args:
            entries: the entries that are left.
        """
        for entry in entries:
            entry.maker = None
        for task in self._sizes:
            task.lineage = None
            for entry in task.returns:
                entry.maker = None
        self._sizes.clear()
        self.bytes = 0

    def _forget(self, task: TaskRecord) -> None:
        for entry in self._release(task):
            self.freed(entry)

    def _release(self, task: TaskRecord) -> list[ObjectEntry]:
        """Forget a call; return the freed objects that nothing else needs."""
        size = self._sizes.pop(task, None)
        if size is None:
            return []
        self.bytes -= size
        entries, task.lineage = task.lineage, None
        loose: list[ObjectEntry] = []
        for entry in entries or ():
            entry.lineage -= 1
            if not entry.lineage and entry.gone:
                loose.append(entry)
        return loose

    # ------------------------------------------------------------------ reconstruction

    def plan(self, lost: ObjectEntry) -> Plan | str:
        """Return how to make a lost object again, or why that is not possible. Nothing changes yet."""
        tasks: dict[TaskRecord, None] = {}
        revived: dict[int, ObjectEntry] = {}
        todo = [lost]
        while todo:
            entry = todo.pop()
            task = entry.maker
            if not isinstance(task, TaskRecord):
                return _no_maker(entry, lost)
            if task in tasks or task.is_reconstruction:
                continue
            obstacle = _obstacle(task)
            if obstacle:
                return obstacle
            tasks[task] = None
            for needed in task.lineage or ():
                if not needed.gone or id(needed) in revived:
                    continue
                if needed.owner_address is not None:
                    return (
                        f"{task.describe()} would have to run again, but its argument {needed.id.hex()} "
                        "belonged to another process, which freed it"
                    )
                revived[id(needed)] = needed
                if needed.has_no_value:
                    todo.append(needed)
        return Plan(list(tasks), list(revived.values()))


def _no_maker(entry: ObjectEntry, lost: ObjectEntry) -> str:
    if isinstance(entry.maker, str):
        return f"{entry.maker} made it, which is not repeated: it has no retries (max_retries)"
    if entry is lost:
        return "it was made by put(), and only results of tasks are made again"
    return (
        f"that takes {entry.id.hex()} again, an argument that was freed and that no task made: a value of "
        "put(), or one passed to .remote() itself (a large one counts as put). Keep the ref of such values "
        "as long as results made from them"
    )


def _obstacle(task: TaskRecord) -> str:
    name = task.describe()
    if task.cancelled:
        return f"{name} made it, which was cancelled since"
    if not task.retries_left:
        return f"{name} made it, which has been repeated as often as its retries allow (max_retries)"
    if task.lineage is None:
        return (
            f"{name} made it, whose arguments were forgotten: the lineage of this process grew beyond its "
            "limit (max_lineage_bytes)"
        )
    return ""
