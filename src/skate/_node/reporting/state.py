"""The state of this node: asks every process, adds what the daemon knows, answers when all did.

Nothing of it is on any path of work; the daemon passes rows on as bytes. Processes that do not answer
in time (stopped ones, or those that hold the interpreter's lock for long) are named in the answer. Nobody
waits for them a second time: they are asked again when they have answered. Their stacks are read without
their help (``_node.reporting.stacks``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from skate._base.clock import monotonic
from skate._base.counts import Key, total
from skate._base.resources import to_float
from skate._node.reporting.stacks import Dump
from skate._store.allocator import DISK
from skate._transport.connection import Connection, Handler
from skate._wire import node
from skate._wire.codec import pack, unpack

if TYPE_CHECKING:
    from skate._node.daemon import Daemon
    from skate._node.workers.service import Client

#: How long processes are given to answer, or to write their stacks in a signal handler (seconds).
_DEADLINE = 1.0
#: How often is looked whether they have written (seconds).
_WRITING = 0.02
#: Processes whose metrics are kept.
_METRICS_KEPT = 10_000
#: Of what processes that ended told of their calls (bytes): of those that went well, and that failed.
_LAST_ROWS_KEPT = 16 << 20
#: What only the processes themselves know.
_ASKED = ("tasks", "counts", "objects", "stacks", "waits", "metrics")


Plain = dict[str, Any]
Part = tuple[bytes, int, str, bytes]
"""What one process answers: its id, pid, kind, and rows."""


class _Question:
    """A question that is being answered."""

    def __init__(self, answer: Callable[[list[Part], list[int]], None], what: str) -> None:
        self.answer = answer
        self.what = what
        self.waiting: dict[bytes, Client] = {}
        #: Those that did not answer, and are not waited for.
        self.silent: list[Client] = []
        self.parts: list[Part] = []


class StateHandlers:
    """The daemon's part about telling the state."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._questions: dict[int, _Question] = {}
        #: What processes told last of their metrics, by process; those that ended too.
        self._last_metrics: dict[bytes, bytes] = {}
        #: What processes that ended told of their calls, and how many there are; the newest last. By whether
        #: they failed.
        self._last_rows: dict[bool, deque[tuple[Part, int]]] = {False: deque(), True: deque()}
        #: How many calls living processes told of last, by name; and those that ended, together.
        self._told_counts: dict[bytes, dict[Key, Plain]] = {}
        self._past_counts: dict[Key, list[int]] = {}
        #: Processes that were asked, and have not answered within the time.
        self._silent: set[bytes] = set()
        self._last = 0

    def table(self) -> dict[type, Handler]:
        """Return which message goes where."""
        return {node.StateQuery: self._query, node.StateRows: self._rows, node.Metrics: self._told_metrics,
                node.LastRows: self._told_last, node.Counts: self._counted}  # fmt: skip

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
        if what.partition(" ")[0] in _ASKED:
            for client in daemon.clients.values():
                if client.id in self._silent:
                    question.silent.append(client)  # it has a question already, and nobody waits for it again
                elif client.kind in ("driver", "worker"):
                    question.waiting[client.id] = client
                    client.connection.send(node.StateAsk(number, what))
        if question.waiting:
            daemon.reactor.call_later(_DEADLINE, lambda: self._give_up(number))
        else:
            self._complete(number)

    def _rows(self, connection: Connection, message: node.StateRows) -> None:
        question = self._questions.get(message.request)
        client: Client = connection.peer
        self._silent.discard(client.id)
        if question is None or question.waiting.pop(client.id, None) is None:
            return
        question.parts.append((client.id, client.pid, client.kind, message.rows))
        if not question.waiting:
            self._complete(message.request)

    def ended(self, process: bytes) -> None:
        """A process will not answer any more."""
        self._silent.discard(process)
        total(self._told_counts.pop(process, {}).values(), self._past_counts)
        for number, question in list(self._questions.items()):
            if question.waiting.pop(process, None) is not None and not question.waiting:
                self._complete(number)

    def _give_up(self, number: int) -> None:
        """Answer without those that have not answered by now."""
        question = self._questions.get(number)
        if question is not None:
            self._silent.update(question.waiting)
            question.silent += question.waiting.values()
            question.waiting.clear()
            self._complete(number)

    def _complete(self, number: int) -> None:
        """All who will have answered; stacks of the others are read from outside."""
        question = self._questions[number]
        if question.what != "stacks":
            self._answer(number)
            return
        dumps = [(client, Dump.of(client.pid)) for client in question.silent]
        asked = [(client, dump) for client, dump in dumps if dump is not None and dump.ask()]
        deadline = monotonic() + _DEADLINE

        def collect() -> None:
            writing = [dump for _, dump in asked if not dump.complete()]
            if writing and monotonic() < deadline:
                self._daemon.reactor.call_later(_WRITING, collect)
                return
            for client, dump in asked:
                rows = [{"stack": text} for text in dump.read()]
                if rows:
                    question.parts.append((client.id, client.pid, client.kind, pack(rows)))
            self._answer(number)

        collect()

    def _answer(self, number: int) -> None:
        question = self._questions.pop(number, None)
        if question is None:
            return
        silent = [client.pid for client in question.silent]
        own = {"workers": self._workers, "events": lambda: list(self._daemon.events),
               "stored": self._stored, "metrics": self._metrics,
               "dead": lambda: list(self._daemon.processes.dead),
               "store": self._store, "objects": self._stored,
               "tasks": self._of_tasks, "stacks": self._workers, "waits": self._workers,
               "counts": lambda: self._counts(question.silent),
               "runtime_envs": self._daemon.environments.rows,
               "breakpoints": self._daemon.breakpoints.rows}  # fmt: skip
        rows = own.get(question.what.partition(" ")[0], list)()
        past = self._remembered() if question.what == "tasks" else ()
        question.answer([*past, *question.parts, (b"", 0, "daemon", pack(rows))], silent)

    def _remembered(self) -> list[Part]:
        return [part for kept in self._last_rows.values() for part, _ in kept]

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
        kept = self._last_rows[message.failed]
        kept.append(((client.id, client.pid, client.kind, message.rows), message.count))
        while sum(len(part[3]) for part, _ in kept) > _LAST_ROWS_KEPT:
            kept.popleft()

    def _counted(self, connection: Connection, message: node.Counts) -> None:
        counts = self._told_counts.setdefault(connection.peer.id, {})
        for row in unpack(message.rows, type=list[Plain]):
            counts[row["name"], row["function"], row["type"]] = row

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

    def _of_tasks(self) -> list[dict[str, Any]]:
        """Return the workers, those that ended too; and how many of their calls nobody remembers."""
        rows = [*self._daemon.processes.dead, *self._workers()]
        known = sum(sum(counts) for counts in self._past_counts.values())
        known -= sum(count for kept in self._last_rows.values() for _, count in kept)
        return [*rows, {"dropped": known}] if known > 0 else rows

    def _counts(self, silent: Iterable[Client]) -> list[dict[str, Any]]:
        """Return the workers; and what was counted by processes that ended, or do not answer."""
        counts = {key: list(found) for key, found in self._past_counts.items()}
        for client in silent:
            total(self._told_counts.get(client.id, {}).values(), counts)
        return self._workers() + [
            {"name": name, "function": function, "type": kind, "FINISHED": finished, "FAILED": failed}
            for (name, function, kind), (finished, failed) in counts.items()
        ]

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
