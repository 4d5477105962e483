"""Reports the waits of this process: rows for ``_base.waits``."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterable
from typing import Any

from skate._base import ids
from skate._base.clock import monotonic
from skate._base.process import PACKAGE
from skate._base.waits import constructor
from skate._environment.spec import decode
from skate._worker.calls.records import TaskRecord
from skate._worker.calls.tasks import TaskTable
from skate._worker.execution.local import Local
from skate._worker.objects.refs import PENDING
from skate._worker.process.call_site import written
from skate._worker.process.context import ProcessContext
from skate._worker.process.waiting import CountWaiter, Waiting

#: The module in which threads wait for objects.
_WAITS = os.path.join(PACKAGE, "_worker", "objects", "values.py")
#: A report has at most this many calls (see ``_chosen``): the table is locked while they are read.
MAX_CALLS = 5_000


@functools.lru_cache(64)
def _key(environment: bytes) -> str:
    """Return the key of an encoded environment in the daemon's rows."""
    return decode(environment).key().hex() if environment else ""


class WaitReport:
    """Shows the unfinished calls, the waits, the lanes and the parts in compiled graphs of this process.

    Args:
        context: of this process.
        tasks: its unfinished calls.
        waiting: the waits of its threads.
        local: the calls that run here.
        graphs: compiled graphs that this process has a part in; each has a ``snapshot`` method.
    """

    def __init__(
        self,
        context: ProcessContext,
        tasks: TaskTable,
        waiting: Waiting,
        local: Local,
        graphs: Iterable[Any],
    ) -> None:
        self._context = context
        self._tasks = tasks
        self._waiting = waiting
        self._local = local
        self._graphs = graphs

    def snapshot(self) -> dict[str, Any]:
        """Return the report as one row. Not under the lock."""
        frames = sys._current_frames()
        context = self._context
        me = context.worker_id.hex()
        with context.locked:
            pending = {
                task.seq: (task, task.connection.peer.id if task.connection is not None else b"")
                for task in self._tasks.unfinished.values()
            }
            calls = [self._call(task, worker) for task, worker in _chosen(pending, self._waiting.waits)]
            waits = [_wait(waiter, frames, me) for waiter in self._waiting.waits]
            lanes = self._local.lanes()
            parts = [part for graph in list(self._graphs) if (part := graph.snapshot())]
        frames.clear()  # this very frame is among them: a cycle that would keep user code's variables
        return {
            "process": me, "pid": context.pid, "calls": calls, "left_out": max(0, len(pending) - MAX_CALLS),
            "waits": waits, "lanes": lanes, "graphs": [part | {"pid": context.pid} for part in parts],
        }  # fmt: skip

    def _call(self, task: TaskRecord, worker: bytes) -> dict[str, Any]:
        """Return the row of an unfinished call."""
        pool, actor = task.pool, task.actor
        return {
            "task_id": ids.task_id(self._context.worker_id, task.seq).hex(),
            "name": task.describe(),
            "worker": worker.hex(),
            "actor": actor.id.hex() if actor is not None else "",
            "actor_state": actor.state if actor is not None else "",
            "needs": [entry.id.hex() for _, entry in task.dependencies or () if entry.kind == PENDING],
            "resources": dict(pool.resources) if pool is not None and not worker else {},
            "requirement": pool.requirement.hex() if pool is not None else "",
            "environment": _key(pool.environment or self._context.environment) if pool is not None else "",
            "seconds": monotonic() - task.made,
            "site": written(task.site),
        }


def _chosen(
    pending: dict[int, tuple[TaskRecord, bytes]], waits: Iterable[CountWaiter]
) -> list[tuple[TaskRecord, bytes]]:
    """Return the calls to report: if there are too many, those for which threads wait, directly or not, then
    the oldest and the newest of the others."""
    if len(pending) <= MAX_CALLS:
        return list(pending.values())
    chosen: dict[int, None] = {}
    todo = [entry.task for waiter in waits for entry in waiter.entries if entry.task is not None]
    for task in todo:  # it grows
        if len(chosen) == MAX_CALLS:
            break
        if task.seq in pending and task.seq not in chosen:
            chosen[task.seq] = None
            todo += [entry.task for _, entry in task.dependencies or () if entry.task is not None]
    others = [seq for seq in pending if seq not in chosen]
    room = MAX_CALLS - len(chosen)
    chosen.update(dict.fromkeys(others[: room // 2]))
    chosen.update(dict.fromkeys(others[len(others) - (room - room // 2) :]))
    return [pending[seq] for seq in chosen]


def _wait(waiter: CountWaiter, frames: dict[int, Any], me: str) -> dict[str, Any]:
    call = waiter.call
    pending = [entry.id.hex() for entry in waiter.entries if entry.kind == PENDING]
    return {
        "number": waiter.number,
        "caller": call.task_id.hex() if call.owner else constructor(me) if call.depth else "",
        "objects": pending[:1000],
        "certain": waiter.deadline is None and bool(pending),
        "where": _where(frames.get(waiter.thread)),
        "seconds": monotonic() - waiter.began,
    }


def _where(frame: Any) -> str:
    # The waiting thread may just be reading this very request, so skip its frames up to the wait.
    while frame is not None and frame.f_code.co_filename != _WAITS:
        frame = frame.f_back
    while frame is not None and frame.f_code.co_filename.startswith(PACKAGE):
        frame = frame.f_back
    if frame is None:
        return "an unknown place"
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
