"""Remembers and counts finished calls of this process, for the state API."""

from __future__ import annotations

from collections import deque
from typing import Any

from skate._base.clock import monotonic
from skate._wire import node
from skate._wire.codec import pack
from skate._worker.calls.records import TaskRecord
from skate._worker.calls.tallies import Tallies, Tally
from skate._worker.process.context import ProcessContext
from skate._worker.process.daemon_link import DaemonLink

#: A process remembers this many finished calls, and as many failed ones apart, so that successful ones do not
#: displace them.
MAX_CALLS = 5000
#: The daemon hears of changed counts this long after the first change (seconds).
_COUNTS_DELAY_S = 1.0
#: Exceptions larger than this are not remembered (bytes).
_MAX_ERROR_BYTES = 4096


class CallHistory:
    """Remembers finished calls, and counts all of them. Under the lock."""

    def __init__(self, context: ProcessContext, daemon: DaemonLink) -> None:
        self._context = context
        self._daemon = daemon
        #: Of each finished call: seq, tally, actor, worker, end (monotonic), microseconds, error, site,
        #: when it was made, attempt, the call that made it, the pool that ran it.
        self.finished: deque[tuple[Any, ...]] = deque(maxlen=MAX_CALLS)
        self.failures: deque[tuple[Any, ...]] = deque(maxlen=MAX_CALLS)
        self.tallies = Tallies()
        self._is_report_due = False

    def add(self, task: TaskRecord, worker: bytes, microseconds: int, error: bytes | None) -> None:
        """Remember and count a finished call. On the path of every call."""
        actor = task.actor
        if actor is None:
            function = task.function
            assert function is not None
            if function.hidden:
                return
            tally = function.tallies.get("")
            actor_id = b""
        else:
            if task.hidden:
                return
            tally = actor.tallies.get(task.method)
            actor_id = actor.id
        if tally is None or task.name is not None:
            tally = self._tally_of(task)
        if error is None:
            tally.finished += 1
            history = self.finished
        else:
            tally.failed += 1
            history = self.failures
            if len(error) > _MAX_ERROR_BYTES:
                error = b""
        history.append(
            (task.seq, tally, actor_id, worker, monotonic(), microseconds, error, task.site, task.made,
             task.attempt, task.parent, task.pool)
        )  # fmt: skip

    def _tally_of(self, task: TaskRecord) -> Tally:
        """Return the tally of a call: the first since the last report, or with a name of its own."""
        if not self._is_report_due and not self._context.in_process:  # there is no daemon in-process
            self._is_report_due = True
            self._context.reactor.call_later(_COUNTS_DELAY_S, self.report)
        actor, function = task.actor, task.function
        if actor is None:
            assert function is not None
            name, key, kind, shortcuts = function.name, "", "NORMAL_TASK", function.tallies
        else:
            key, kind, shortcuts = task.method, "ACTOR_TASK", actor.tallies
            name = f"{actor.class_name}.{key}"
        if task.name is None:
            return self.tallies.of(name, name, kind, shortcuts, key)
        return self.tallies.of(task.name, name, kind, None, key)

    def repeated(self, task: TaskRecord, *, failed: bool) -> None:
        """Take back one count of a call that was counted before, and ran again for a lost object."""
        if task.hidden or (task.function is not None and task.function.hidden):
            return
        tally = self._tally_of(task)
        tally.finished -= not failed
        tally.failed -= failed

    def report(self) -> None:
        """Send the daemon the counts that changed. The daemon keeps them when this process is gone."""
        self._is_report_due = False
        if self._daemon.is_open:
            rows = self.tallies.snapshot()
            if rows:
                self._daemon.send(node.Counts(pack(rows)))
                self._daemon.flush()
