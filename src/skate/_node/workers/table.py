"""The worker processes of a node, from fork to death certificate. Decisions only.

::

    STARTING --hello--> READY --connection closed--\
        |                 |                         >-- both seen --> DEAD (certificate)
        '----exited-------'----exited--------------/

A certificate is written when both the wait status is known and the connection is read to its end:
what the worker said last (a sealed object, a reason to leave) counts.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Any

from skate._base.process import describe_status, hint_for_status


class WorkerState(enum.Enum):
    """See the module's text."""

    STARTING = "starting"
    READY = "ready"
    DEAD = "dead"


class WorkerProcess:
    """One process that was asked for."""

    __slots__ = ("id", "job", "slot", "pid", "state", "connection", "address", "actor", "status",
                 "exited", "reason", "left", "intended", "name", "crew",
                 "out_of_memory", "evidence", "times", "failed_to_construct")  # fmt: skip

    def __init__(self, worker_id: bytes, job: bytes, slot: int, crew: bytes) -> None:
        self.id = worker_id
        self.job = job
        #: Its job and environment, as the lease table knows them.
        self.crew = crew
        self.slot = slot
        self.pid = 0
        self.state = WorkerState.STARTING
        #: Open connection, or None before the hello and after the end.
        self.connection: Any = None
        self.address = ""
        #: (actor id, incarnation) that it was told to become.
        self.actor: tuple[bytes, int] | None = None
        self.status: int | None = None
        self.exited = False
        #: Why we ended it, if we did.
        self.reason = ""
        #: Why it said that it leaves, if it did.
        self.left = ""
        self.intended = False
        #: It was ended because memory ran short.
        self.out_of_memory = False
        #: What else is known of its end: a traceback, or who ended it.
        self.evidence = ""
        #: What it runs, for logs.
        self.name = ""
        #: When it was asked for, forked, ready, and dead (seconds since 1970; 0: it was not yet): for people,
        #: set by who sees it happen.
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

    def certificate(self, log_path: str) -> str:
        """Return how it ended: the cause, the evidence, where to look."""
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


class Workers:
    """All worker processes that are not DEAD."""

    def __init__(self) -> None:
        self._workers: dict[bytes, WorkerProcess] = {}

    def add(self, worker_id: bytes, job: bytes, slot: int, crew: bytes = b"") -> WorkerProcess:
        """A process was asked for; ``crew``: if it is not the job itself."""
        worker = self._workers[worker_id] = WorkerProcess(worker_id, job, slot, crew or job)
        return worker

    def get(self, worker_id: bytes) -> WorkerProcess | None:
        """Return the worker, unless it is dead."""
        return self._workers.get(worker_id)

    def connected(self, worker_id: bytes, connection: Any, address: str) -> WorkerProcess | None:
        """It said hello. None: it is not (any longer) one of ours."""
        worker = self._workers.get(worker_id)
        if worker is None or worker.state is not WorkerState.STARTING:
            return None
        worker.state = WorkerState.READY
        worker.connection = connection
        worker.address = address
        return worker

    def disconnected(self, worker_id: bytes) -> WorkerProcess | None:
        """Its connection is read to the end. Return it if that makes it DEAD."""
        worker = self._workers.get(worker_id)
        if worker is None:
            return None
        worker.connection = None
        return self._bury(worker)

    def exited(self, worker_id: bytes, status: int | None) -> WorkerProcess | None:
        """Its process ended (status None: nobody knows how). Return it if that makes it DEAD."""
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

    def of_job(self, job: bytes) -> list[WorkerProcess]:
        """Return the job's workers."""
        return [worker for worker in self._workers.values() if worker.job == job]

    def actor(self, actor_id: bytes, incarnation: int) -> WorkerProcess | None:
        """Return the worker that is this incarnation of the actor."""
        for worker in self._workers.values():
            if worker.actor == (actor_id, incarnation):
                return worker
        return None

    def __iter__(self) -> Iterator[WorkerProcess]:
        return iter(list(self._workers.values()))

    def __len__(self) -> int:
        return len(self._workers)
