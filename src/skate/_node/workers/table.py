"""The worker processes of a node, from fork to exit report. Decisions only.

::

    STARTING --hello--> READY --connection closed--\
        |                 |                         >-- both seen --> DEAD (exit report)
        '----exited-------'----exited--------------/

The exit report is written when the wait status is known and the connection is read to its end: the last
messages of the worker (a sealed object, a reason to leave) count.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Any

from skate._base.process import describe_status, hint_for_status


class WorkerState(enum.Enum):
    """The states of a worker process; the module's text has the diagram."""

    STARTING = "starting"
    READY = "ready"
    DEAD = "dead"


class WorkerProcess:
    """One process that was asked for."""

    __slots__ = ("id", "job", "slot", "pid", "state", "connection", "address", "actor", "status",
                 "exited", "reason", "left", "intended", "name", "pool", "restartable",
                 "out_of_memory", "evidence", "times", "failed_to_construct", "hook_failed")  # fmt: skip

    def __init__(self, worker_id: bytes, job: bytes, slot: int, pool: bytes) -> None:
        self.id = worker_id
        self.job = job
        #: Its worker pool key: job and environment.
        self.pool = pool
        #: Of the progress table.
        self.slot = slot
        self.pid = 0
        self.state = WorkerState.STARTING
        #: Open connection, or None before the hello and after the end.
        self.connection: Any = None
        self.address = ""
        #: (actor id, incarnation) that it was asked to become.
        self.actor: tuple[bytes, int] | None = None
        #: That actor is restarted if its process ends.
        self.restartable = False
        self.status: int | None = None
        self.exited = False
        #: Why the daemon ended it, if it did.
        self.reason = ""
        #: Why it said that it leaves, if it did.
        self.left = ""
        self.intended = False
        #: It was ended because memory ran short.
        self.out_of_memory = False
        #: Its setup hook raised: the demands that waited for it were refused with that.
        self.hook_failed = False
        #: Everything else that is known of its end: a traceback, or who ended it.
        self.evidence = ""
        #: The name of the task or actor that it runs, for logs.
        self.name = ""
        #: When it was asked for, forked, ready, and dead (seconds since 1970; 0: not yet), for the state API.
        self.times = [0.0, 0.0, 0.0, 0.0]
        #: It was an actor whose constructor raised.
        self.failed_to_construct = False

    def exit_type(self) -> str:
        """Return what kind of end it had, in Ray's words."""
        if self.out_of_memory:
            return "NODE_OUT_OF_MEMORY"
        if self.failed_to_construct:
            return "USER_ERROR"
        if not self.intended:
            return "SYSTEM_ERROR"
        return "INTENDED_SYSTEM_EXIT" if self.actor is None else "INTENDED_USER_EXIT"

    def describe_exit(self, log_path: str) -> str:
        """Return the exit report: the cause, the evidence, where to look."""
        who = f"worker process {self.pid}"
        if self.reason:
            return f"{who} was ended by the runtime: {self.reason}"
        if self.left:
            return f"{who} left: {self.left}"
        if self.status is None:
            return (
                f"{who} ended; its exit status is unknown because the process that would have reaped it "
                f"died before. Its log: {log_path}"
            )
        if self.evidence:
            return f"{who} {describe_status(self.status)}: {self.evidence}. Its log: {log_path}"
        hint = hint_for_status(self.status)
        return f"{who} {describe_status(self.status)}{f': {hint}' if hint else ''}. Its log: {log_path}"


class WorkerTable:
    """All worker processes that are not DEAD."""

    def __init__(self) -> None:
        self._workers: dict[bytes, WorkerProcess] = {}

    def add(self, worker_id: bytes, job: bytes, slot: int, pool: bytes = b"") -> WorkerProcess:
        """Add a process that was asked for; ``pool``: its worker pool key, if that is not the job."""
        worker = self._workers[worker_id] = WorkerProcess(worker_id, job, slot, pool or job)
        return worker

    def get(self, worker_id: bytes) -> WorkerProcess | None:
        """Return the worker, unless it is dead."""
        return self._workers.get(worker_id)

    def connected(self, worker_id: bytes, connection: Any, address: str) -> WorkerProcess | None:
        """Note that a worker said hello. None: this daemon did not start it, or it said hello before."""
        worker = self._workers.get(worker_id)
        if worker is None or worker.state is not WorkerState.STARTING:
            return None
        worker.state = WorkerState.READY
        worker.connection = connection
        worker.address = address
        return worker

    def disconnected(self, worker_id: bytes) -> WorkerProcess | None:
        """Note that a worker's connection is read to its end. Return the worker if that makes it DEAD."""
        worker = self._workers.get(worker_id)
        if worker is None:
            return None
        worker.connection = None
        return self._bury(worker)

    def exited(self, worker_id: bytes, status: int | None) -> WorkerProcess | None:
        """Note that the process of a worker ended (status None: it is unknown how). Return the worker if that
        makes it DEAD."""
        worker = self._workers.get(worker_id)
        if worker is None:
            return None
        worker.exited = True
        worker.status = status
        return self._bury(worker)

    def _bury(self, worker: WorkerProcess) -> WorkerProcess | None:
        if not worker.exited or worker.connection is not None:
            return None
        worker.state = WorkerState.DEAD
        del self._workers[worker.id]
        return worker

    def become_actor(self, worker_id: bytes, actor: tuple[bytes, int], name: str, restartable: bool) -> None:
        """Note that a worker was asked to become an incarnation of an actor."""
        worker = self._workers[worker_id]
        worker.actor, worker.name, worker.restartable = actor, name, restartable

    def refused_actor(self, worker_id: bytes) -> None:
        """Note that a worker refused to become an actor, and goes on as it was."""
        worker = self._workers[worker_id]
        worker.actor, worker.name, worker.restartable = None, "", False

    def failed_to_construct(self, worker: WorkerProcess) -> None:
        """Note that the constructor of a worker's actor raised."""
        worker.failed_to_construct = True

    def of_job(self, job: bytes) -> list[WorkerProcess]:
        """Return the job's workers."""
        return [worker for worker in self._workers.values() if worker.job == job]

    def __iter__(self) -> Iterator[WorkerProcess]:
        return iter(list(self._workers.values()))

    def __len__(self) -> int:
        return len(self._workers)
