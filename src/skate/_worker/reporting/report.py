"""Reports the state of a process for the state API.

Tables are copied under the lock, everything else happens on a thread of its own, so that a report does not
hold up the program. Rows are plain data, which the daemon passes on as they are.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import threading
import traceback
from collections import Counter
from typing import TYPE_CHECKING, Any

from skate._base import ids, threads
from skate._base.clock import monotonic, time
from skate._base.process import PACKAGE
from skate._base.user_errors import summary_of, type_name
from skate._environment.spec import decode
from skate._store.client import StoreClient
from skate._transport.connection import Connection
from skate._wire import node
from skate._wire import worker as wire
from skate._wire.codec import pack
from skate._worker.calls.history import CallHistory
from skate._worker.calls.records import PoolFacts, TaskRecord
from skate._worker.calls.tasks import TaskTable
from skate._worker.execution.local import Local
from skate._worker.objects.garbage import Garbage
from skate._worker.objects.refs import ACTOR, PENDING, ObjectEntry, RefTable
from skate._worker.process.call_site import written
from skate._worker.process.context import ProcessContext
from skate._worker.process.current import CallInfo
from skate._worker.process.daemon_link import DaemonLink
from skate._worker.reporting import metrics
from skate._worker.reporting.waits import WaitReport

if TYPE_CHECKING:
    from types import CodeType

#: A report has at most this many objects, the oldest first.
_MAX_OBJECTS = 20_000
#: The daemon gets metrics at most once in this time (seconds).
_METRICS_PERIOD_S = 0.25

_LIBRARY = os.path.dirname(traceback.__file__) + os.sep
_DEBUGGER = (_LIBRARY + "bdb.py", _LIBRARY + "pdb.py")


class Reporter:
    """Reports the state of this process to the daemon. Built by Core."""

    def __init__(
        self,
        context: ProcessContext,
        daemon: DaemonLink,
        refs: RefTable,
        store: StoreClient,
        garbage: Garbage,
        tasks: TaskTable,
        history: CallHistory,
        local: Local,
        wait_report: WaitReport,
    ) -> None:
        self._context = context
        self._daemon = daemon
        self._refs = refs
        self._store = store
        self._garbage = garbage
        self._unfinished_calls = tasks.unfinished
        self._history = history
        self._local = local
        self._wait_report = wait_report
        #: A timer is about to send metrics to the daemon.
        self._metrics_due = False

    def metrics_changed(self) -> None:
        """Send the metrics to the daemon soon, as the program recorded something. Not under the lock."""
        if self._metrics_due:
            return
        with self._context.locked:
            if not self._metrics_due:
                self._metrics_due = True
                self._context.reactor.call_later(_METRICS_PERIOD_S, self.send_metrics)

    def send_metrics(self) -> None:
        """Send the metrics to the daemon, if they have changed. Under the lock."""
        if self._metrics_due and self._daemon.is_open:
            self._metrics_due = False
            self._daemon.send(node.Metrics(pack(metrics.registry.rows())))
            self._daemon.flush()

    def send_history(self) -> None:
        """Have the daemon keep the finished calls of this process, which leaves. Under the lock."""
        self._history.report()
        for failed, history in ((False, self._history.finished), (True, self._history.failures)):
            if history:
                rows = pack(self._finished(list(history)))
                self._daemon.send(node.LastRows(rows, len(history), failed))

    def state_requested(self, connection: Connection, message: node.StateAsk) -> None:
        """Answer a request of the state API, on a thread. Under the lock."""
        try:
            threads.start("skate-report", self._answer, connection, message)
        except RuntimeError as error:
            connection.send(node.StateRows(message.request, pack(_failed(error))))
            connection.flush()

    def _answer(self, connection: Connection, message: node.StateAsk) -> None:
        try:
            rows = self.rows(message.what)
        except Exception as error:  # without an answer, the daemon would wait until its timeout
            rows = _failed(error)
        with self._context.locked:
            connection.send(node.StateRows(message.request, pack(rows)))
            connection.flush()

    def rows(self, what: str) -> list[dict[str, Any]]:
        """Return the rows of one kind. Not under the lock."""
        if what == "tasks":
            return self._tasks()
        if what == "counts":
            return self._counts()
        if what.startswith("objects"):
            return self._objects(what.removeprefix("objects").strip())
        if what == "metrics":
            worker_id = self._context.worker_id.hex()
            return [{**row, "worker_id": worker_id} for row in metrics.registry.rows()]
        if what == "waits":
            return [self._wait_report.snapshot()]
        if what == "stacks":
            return [{"stack": text} for text in self._stacks()]
        return []

    # ------------------------------------------------------------------ tasks

    def _counts(self) -> list[dict[str, Any]]:
        """Return counts of calls; and rows of those that a worker has, as only the worker knows which run."""
        with self._context.locked:
            rows = self._history.tallies.rows()
        waiting: Counter[tuple[str, str, str, str]] = Counter()
        for row in self._unfinished():
            if row["worker_id"]:
                rows.append(row)
            else:
                waiting[row["name"], row["function"], row["type"], row["state"]] += 1
        for (name, function, kind, state), count in waiting.items():
            rows.append({"name": name, "function": function, "type": kind, state: count})
        return rows

    def _tasks(self) -> list[dict[str, Any]]:
        with self._context.locked:
            history = sorted((*self._history.finished, *self._history.failures), key=_ended)
            known = sum(one["FINISHED"] + one["FAILED"] for one in self._history.tallies.rows())
        rows = self._unfinished() + self._finished(history)
        if known > len(history):
            rows.append({"dropped": known - len(history)})
        return rows

    def _unfinished(self) -> list[dict[str, Any]]:
        """Return the rows of unfinished calls."""
        with self._context.locked:
            facts = [
                (task.seq, task.describe(), task.actor.id if task.actor is not None else b"",
                 *_state(task), task.site, task.made, task.attempt, task.parent, task.pool,
                 task.function.name if task.function is not None else task.describe())
                for task in self._unfinished_calls.values()
                if not (task.hidden or (task.function is not None and task.function.hidden))
            ]  # fmt: skip
        wall = time() - monotonic()
        return [
            self._task(seq, name, actor, worker, site, made + wall, attempt, parent, pool, function)
            | {"state": state}
            for seq, name, actor, state, worker, site, made, attempt, parent, pool, function in facts
        ]

    def _finished(self, history: list[tuple[Any, ...]]) -> list[dict[str, Any]]:
        """Return the rows of finished calls."""
        wall = time() - monotonic()
        rows = []
        for seq, tally, actor, worker, end, microseconds, error, site, made, attempt, parent, pool in history:
            row = self._task(
                seq, tally.name, actor, worker, site, made + wall, attempt, parent, pool, tally.function
            )
            row["end"] = end + wall
            row["start"] = end + wall - microseconds / 1e6
            row["state"] = "FINISHED" if error is None else "FAILED"
            if error is not None:
                row["error_type"], row["error_message"] = _explain(error)
            rows.append(row)
        return rows

    def _task(
        self,
        seq: int,
        name: str,
        actor: bytes,
        worker: bytes,
        site: tuple[CodeType, int] | None,
        made: float,
        attempt: int,
        parent: CallInfo | None,
        pool: PoolFacts | None,
        function: str,
    ) -> dict[str, Any]:
        context = self._context
        environment = (pool.environment if pool is not None else b"") or context.environment
        return {
            "task_id": ids.task_id(context.worker_id, seq).hex(),
            "name": name,
            "type": "ACTOR_TASK" if actor else "NORMAL_TASK",
            "actor_id": actor.hex(),
            "worker_id": worker.hex(),
            "job_id": context.job_id.hex(),
            "owner_pid": self._context.pid,
            "call_site": written(site),
            "made": made,
            "attempt": attempt,
            "parent": self._parent(parent),
            "function": function,
            "resources": pool.resources if pool is not None else {},
            "requirement": pool.requirement.hex() if pool is not None else "",
            "environment": _shown(environment),
        }

    def _parent(self, parent: CallInfo | None) -> str:
        """Return the id of the task that made a call; empty: the driver's own program."""
        host = self._local.hosted() if parent is not None and not parent.owner and parent.depth else None
        if host is None:
            return parent.task_id.hex() if parent is not None else ""
        return ids.TaskID.for_actor_creation_task(ids.ActorID(host.actor_id)).hex()

    # ------------------------------------------------------------------ objects

    def _objects(self, wanted: str) -> list[dict[str, Any]]:
        """Return the objects of this process and their references; ``wanted``: only of that id (hex)."""
        with self._context.locked:
            self._garbage.drain()
            entries = list(self._refs.entries.values())
            if wanted:
                entries = [entry for entry in entries if entry.id.hex() == wanted]
            found = [
                (entry.id, entry.owner_address is None, entry.kind, len(entry.data), entry.local, entry.pins,
                 [one.hex() for one in entry.borrowers or ()], entry.site, _reference(entry))
                for entry in entries[:_MAX_OBJECTS]
            ]  # fmt: skip
            views = {object_id for object_id, local in self._store.objects.items() if local.views}
        host = self._local.hosted()
        rows: list[dict[str, Any]] = [
            {
                "object_id": object_id.hex(),
                "pid": self._context.pid,
                "process": self._context.kind if host is None else host.spec.class_name,
                "owned": owned,
                "status": {PENDING: "PENDING", wire.ERROR: "FAILED"}.get(kind, "FINISHED"),
                "inline_size": size if kind not in (PENDING, wire.SHARED) else 0,
                "local": local,
                "pins": pins,
                "borrowers": borrowers,
                "views": object_id in views,
                "reference_type": reference,
                "call_site": written(site),
                "received": site if isinstance(site, str) else "",
            }
            for object_id, owned, kind, size, local, pins, borrowers, site, reference in found
        ]  # fmt: skip
        return [*rows, {"dropped": len(entries) - len(found)}] if len(entries) > len(found) else rows

    # ------------------------------------------------------------------ stacks

    def _stacks(self) -> list[str]:
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        found = []
        frames = sys._current_frames()
        for ident in list(frames):
            name = names.get(ident, "?")
            stack = traceback.extract_stack(frames.pop(ident))  # keep none: this frame is among them
            if name in ("skate-report", "skate-io"):
                continue
            lines = traceback.format_list(_users(stack))
            where = "".join(lines) or "  (in the runtime itself: it waits, or has nothing to do)\n"
            found.append(f"thread {name}:\n{where}")
        if "asyncio" in sys.modules:
            found += self._coroutines()
        return found

    def _coroutines(self) -> list[str]:
        import asyncio

        loop = self._local.loop()
        if loop is None:
            return []
        found = []
        for task in asyncio.all_tasks(loop):
            frames = [frame for frame in task.get_stack() if not frame.f_code.co_filename.startswith(PACKAGE)]
            coroutine: Any = task.get_coro()
            while not frames and coroutine is not None:  # a coroutine of ours awaits the user's
                frame = getattr(coroutine, "cr_frame", None)
                if frame is not None and not frame.f_code.co_filename.startswith(PACKAGE):
                    frames = [frame]
                coroutine = getattr(coroutine, "cr_await", None)
            lines = [
                f'  File "{frame.f_code.co_filename}", line {frame.f_lineno}, in {frame.f_code.co_name}\n'
                for frame in frames
            ]
            if lines:
                found.append(f"coroutine {task.get_name()}:\n{''.join(lines)}")
        return found


def _state(task: TaskRecord) -> tuple[str, bytes]:
    """Return the state of an unfinished call, by Ray's name, and the process that has it."""
    if task.connection is not None:
        return "SUBMITTED_TO_WORKER", task.connection.peer.id
    return "PENDING_ARGS_AVAIL" if task.unresolved else "PENDING_NODE_ASSIGNMENT", b""


def _ended(row: tuple[Any, ...]) -> float:
    """Return when a remembered call ended."""
    end: float = row[4]
    return end


@functools.lru_cache(64)
def _shown(environment: bytes) -> str:
    """Return an encoded environment as its user wrote it: JSON; empty: there is none."""
    return json.dumps(decode(environment).shown, sort_keys=True, default=str) if environment else ""


def _users(frames: traceback.StackSummary) -> list[traceback.FrameSummary]:
    """Return the frames of user code, and of libraries that it calls: none of ours, nor of our callees."""
    found = []
    inside = True  # the interpreter's own start counts as ours
    for one in frames:
        if one.filename.startswith(_DEBUGGER):
            break  # it stopped at a breakpoint
        ours = one.filename.startswith(PACKAGE)
        library = one.filename.startswith((_LIBRARY, "<")) and "site-packages" not in one.filename
        if not library:
            inside = ours
        if not ours and not (library and inside):
            found.append(one)
    return found


def _failed(error: Exception) -> list[dict[str, Any]]:
    return [{"failed": summary_of(error)}]


def _reference(entry: ObjectEntry) -> str:
    if entry.label == ACTOR:
        return "ACTOR_HANDLE"
    if entry.local:
        return "LOCAL_REFERENCE"
    if entry.pins:
        return "USED_BY_PENDING_TASK"
    return "BORROWED" if entry.borrowers else "UNKNOWN_STATUS"


def _explain(error: bytes) -> tuple[str, str]:
    """Return type and text of an exception that was pickled."""
    if not error:
        return "", ""
    from skate._serialize.exceptions import load_error

    try:
        raised = load_error(error)
    except Exception as failed:
        return "", f"(cannot be unpickled here: {failed})"
    cause = getattr(raised, "cause", None)  # of some errors it is a text
    return type_name(cause if isinstance(cause, BaseException) else raised), str(raised)
