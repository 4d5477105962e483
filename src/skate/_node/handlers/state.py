"""The state of this node: asks every process, adds what the daemon knows, answers when all did.

Nothing of it is on any path of work; the daemon passes rows on as bytes. Processes that do not answer
in time (stopped ones, or those that hold the interpreter's lock for long) are named in the answer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from skate._base.resources import to_float
from skate._store.allocator import DISK
from skate._transport.connection import Connection, Handler
from skate._wire import node
from skate._wire.codec import pack, unpack

if TYPE_CHECKING:
    from skate._node.daemon import Daemon
    from skate._node.handlers.processes import Client

#: How long processes are given to answer (seconds).
_DEADLINE = 1.0
#: Processes whose metrics are kept.
_METRICS_KEPT = 10_000
#: Of what processes that ended told of their calls (bytes).
_LAST_ROWS_KEPT = 16 << 20
#: What only the processes themselves know.
_ASKED = ("tasks", "objects", "stacks", "waits", "metrics")


Part = tuple[bytes, int, str, bytes]
"""What one process answers: its id, pid, kind, and rows."""


class _Question:
    """A question that is being answered."""

    def __init__(self, answer: Callable[[list[Part], list[int]], None], what: str) -> None:
        self.answer = answer
        self.what = what
        self.waiting: dict[bytes, Client] = {}
        self.parts: list[Part] = []


class StateHandlers:
    """The daemon's part about telling the state."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._questions: dict[int, _Question] = {}
        #: What processes told last of their metrics, by process; those that ended too.
        self._last_metrics: dict[bytes, bytes] = {}
        #: What processes that ended told of their calls; the newest last.
        self._last_rows: deque[Part] = deque()
        self._last = 0

    def table(self) -> dict[type, Handler]:
        """Return which message goes where."""
        return {node.StateQuery: self._query, node.StateRows: self._rows, node.Metrics: self._told_metrics,
                node.LastRows: self._told_last}  # fmt: skip

    def _query(self, connection: Connection, message: node.StateQuery) -> None:
        def answer(parts: list[Part], silent: list[int]) -> None:
            if not connection.closed:
                connection.send(node.StateAnswer(message.request, parts, silent))

        self.ask(message.what, answer)

    def ask(self, what: str, answer: Callable[[list[Part], list[int]], None]) -> None:
        """Ask every process; ``answer`` gets what they told, and the pids of those that did not."""
        daemon = self._daemon
        self._last += 1
        number = self._last
        question = self._questions[number] = _Question(answer, what)
        if what in _ASKED:
            for client in daemon.clients.values():
                if client.kind in ("driver", "worker"):
                    question.waiting[client.id] = client
                    client.connection.send(node.StateAsk(number, what))
        if question.waiting:
            daemon.reactor.call_later(_DEADLINE, lambda: self._answer(number))
        else:
            self._answer(number)

    def _rows(self, connection: Connection, message: node.StateRows) -> None:
        question = self._questions.get(message.request)
        client: Client = connection.peer
        if question is None or question.waiting.pop(client.id, None) is None:
            return
        question.parts.append((client.id, client.pid, client.kind, message.rows))
        if not question.waiting:
            self._answer(message.request)

    def ended(self, process: bytes) -> None:
        """A process will not answer any more."""
        for number, question in list(self._questions.items()):
            if question.waiting.pop(process, None) is not None and not question.waiting:
                self._answer(number)

    def _answer(self, number: int) -> None:
        question = self._questions.pop(number, None)
        if question is None:
            return
        silent = [client.pid for client in question.waiting.values()]
        own = {"workers": self._workers, "events": lambda: list(self._daemon.events),
               "stored": self._stored, "metrics": self._metrics,
               "dead": lambda: list(self._daemon.processes.dead),
               "store": self._store, "objects": self._stored,
               "tasks": self._all_workers, "stacks": self._workers, "waits": self._workers,
               "runtime_envs": self._daemon.environments.rows,
               "breakpoints": self._daemon.breakpoints.rows}  # fmt: skip
        rows = own.get(question.what, list)()
        past = self._last_rows if question.what == "tasks" else ()
        question.answer([*past, *question.parts, (b"", 0, "daemon", pack(rows))], silent)

    def _told_metrics(self, connection: Connection, message: node.Metrics) -> None:
        client: Client = connection.peer
        self._last_metrics.pop(client.id, None)  # the newest last
        self._last_metrics[client.id] = message.rows
        if len(self._last_metrics) > _METRICS_KEPT:
            gone = next((one for one in self._last_metrics if one not in self._daemon.clients), None)
            if gone is not None:
                del self._last_metrics[gone]

    def _told_last(self, connection: Connection, message: node.LastRows) -> None:
        client: Client = connection.peer
        self._last_rows.append((client.id, client.pid, client.kind, message.rows))
        while sum(len(part[3]) for part in self._last_rows) > _LAST_ROWS_KEPT:
            self._last_rows.popleft()

    # ------------------------------------------------------------------ what the daemon knows

    def _metrics(self) -> list[dict[str, Any]]:
        """Return what those told that cannot be asked any more."""
        living = self._daemon.clients
        return [
            {**row, "worker_id": process.hex()}
            for process, rows in self._last_metrics.items()
            if process not in living
            for row in unpack(rows, type=list[dict[str, Any]])
        ]

    def _all_workers(self) -> list[dict[str, Any]]:
        """Return those that ended, too."""
        return [*self._daemon.processes.dead, *self._workers()]

    def _workers(self) -> list[dict[str, Any]]:
        daemon = self._daemon
        rows: list[dict[str, Any]] = [
            {
                "worker_id": client.id.hex(),
                "worker_type": "DRIVER",
                "pid": client.pid,
                "job": client.job.hex(),
                "state": "CONNECTED",
                "times": [0.0, 0.0, client.since, 0.0],
            }
            for client in daemon.clients.values()
            if client.kind == "driver"
        ]
        for worker in daemon.workers:
            lease = daemon.leases.lease_of(worker.id)
            owner, seq = daemon.board.read(worker.slot)
            state = worker.state.name
            if state == "READY":
                state = "ACTOR" if worker.actor is not None else "IDLE" if lease is None else "LEASED"
            rows.append(
                {
                    "worker_id": worker.id.hex(),
                    "worker_type": "WORKER",
                    "pid": worker.pid,
                    "job": worker.job.hex(),
                    "state": state,
                    "actor_id": worker.actor[0].hex() if worker.actor is not None else "",
                    "name": worker.name,
                    "times": worker.times,
                    "begun": [owner.hex(), seq] if seq else None,
                    "lease_owner": lease.owner.hex() if lease is not None else "",
                    "resources": to_float(lease.resources) if lease is not None else {},
                    "stops": [stop.where for stop in daemon.breakpoints.of(worker.id)],
                    "stopped_tasks": [stop.task_id.hex() for stop in daemon.breakpoints.of(worker.id)],
                }
            )
        return rows

    def _store(self) -> list[dict[str, Any]]:
        store = self._daemon.store
        return [
            {
                "capacity": store.allocator.capacity,
                "used": store.bytes_of_objects(on_disk=False),
                "kept": store.allocator.used - store.bytes_of_objects(on_disk=False),
                "on_disk": store.bytes_of_objects(on_disk=True),
                "objects": len(store.objects),
                "available": to_float(self._daemon.leases.free),
                "total": to_float(self._daemon.leases.total),
            }
        ]

    def _stored(self) -> list[dict[str, Any]]:
        return [
            {
                "object_id": object_id.hex(),
                "size": stored.size,
                "where": "disk" if stored.extent.segment >= DISK else "memory",
                "type": stored.label,
                "creator": stored.creator.hex(),
                "readers": [one.hex() for one in stored.pins],
            }
            for object_id, stored in self._daemon.store.objects.items()
        ]
