"""Answers questions about the state of this node: asks every process, and adds what the daemon knows.

Nothing of it is on a path of work; the daemon passes rows on as bytes. Processes that do not answer in time
(stopped ones, or those that hold the interpreter's lock for long) are named in the answer. No later question
waits for them: they are asked again when they have answered. Their stacks are read without their help
(``_node.reporting.stacks``).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Any

from skate._base import clock
from skate._base.counts import Key, total
from skate._base.resources import to_float
from skate._node.actors.service import ActorService
from skate._node.clients import Client
from skate._node.context import NodeContext
from skate._node.environments.service import EnvironmentService
from skate._node.leases.accounts import NO_GROUP
from skate._node.leases.records import Lease
from skate._node.leases.table import LeaseTable
from skate._node.reporting.breakpoints import Breakpoints
from skate._node.reporting.stacks import Dump
from skate._node.workers.launcher import ProgressTable
from skate._node.workers.table import WorkerTable
from skate._store.allocator import DISK
from skate._store.table import StoreTable
from skate._transport.connection import Connection, Handler
from skate._wire import node
from skate._wire.codec import GARBAGE, pack, unpack
from skate._wire.handshake import WrongMessage

#: Time that processes have to answer, or to write their stacks in a signal handler.
_ANSWER_TIMEOUT_S = 1.0
#: The interval at which the daemon looks whether they have written.
_STACKS_POLL_S = 0.02
#: Processes whose metrics are kept.
_MAX_METRICS = 10_000
#: Rows about calls that ended processes left behind: of calls that went well, and as much of failed ones.
_MAX_LAST_ROWS_BYTES = 16 << 20
#: The parts that only the processes themselves know.
_ASKED = ("tasks", "counts", "objects", "stacks", "waits", "metrics")


Plain = dict[str, Any]
Part = tuple[bytes, int, str, bytes]
"""The answer of one process: its id, pid, kind, and rows."""


def _place(lease: Lease | None) -> list[Any]:
    """Return the placement group, in hex, and the bundle of a lease; empty: it has none."""
    if lease is None or lease.account.place == NO_GROUP:
        return []
    group, index = lease.account.place
    return [group.hex(), index]


class _Question:
    """A question that is being answered."""

    def __init__(self, answer: Callable[[list[Part], list[int]], None], what: str) -> None:
        self.answer = answer
        self.what = what
        self.waiting: dict[bytes, Client] = {}
        #: Those that did not answer, and are not waited for.
        self.silent: list[Client] = []
        self.parts: list[Part] = []


class StateService:
    """The questions under way, and what ended processes left behind. The other parts are only read."""

    def __init__(
        self,
        context: NodeContext,
        lease_table: LeaseTable,
        worker_table: WorkerTable,
        progress: ProgressTable,
        store: StoreTable,
        environments: EnvironmentService,
        actors: ActorService,
        breakpoints: Breakpoints,
    ) -> None:
        self._context = context
        self._lease_table = lease_table
        self._worker_table = worker_table
        self._progress = progress
        self._store = store
        self._environments = environments
        self._actors = actors
        self._breakpoints = breakpoints
        self._questions: dict[int, _Question] = {}
        #: The last metrics of each process; of ended ones too.
        self._last_metrics: dict[bytes, bytes] = {}
        #: The last rows about calls of processes that ended, and how many there are, the newest last; by
        #: whether the calls failed.
        self._last_rows: dict[bool, deque[tuple[Part, int]]] = {False: deque(), True: deque()}
        #: The last numbers of calls of living processes, by name; and of those that ended, together.
        self._last_counts: dict[bytes, dict[Key, Plain]] = {}
        self._past_counts: dict[Key, list[int]] = {}
        #: Processes that were asked, and have not answered within the time.
        self._silent: set[bytes] = set()
        self._last = 0

    def handlers(self) -> dict[type, Handler]:
        """Return the handlers of this part's messages."""
        return {node.StateQuery: self._query, node.StateRows: self._rows, node.Metrics: self._keep_metrics,
                node.LastRows: self._keep_last_rows, node.Counts: self._keep_counts}  # fmt: skip

    def _query(self, connection: Connection, message: node.StateQuery) -> None:
        def answer(parts: list[Part], silent: list[int]) -> None:
            if not connection.closed:
                connection.send(node.StateAnswer(message.request, parts, silent))

        self.ask(message.what, answer)

    def ask(self, what: str, answer: Callable[[list[Part], list[int]], None]) -> None:
        """Ask every process; ``answer`` gets their answers, and the pids of those that did not answer."""
        self._last += 1
        number = self._last
        question = self._questions[number] = _Question(answer, what)
        if what.partition(" ")[0] in _ASKED:
            for client in self._context.clients:
                if client.id in self._silent:
                    question.silent.append(client)  # it has a question already
                elif client.kind in ("driver", "worker"):
                    question.waiting[client.id] = client
                    client.connection.send(node.StateAsk(number, what))
        if question.waiting:
            self._context.reactor.call_later(_ANSWER_TIMEOUT_S, lambda: self._give_up(number))
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

    def disconnected(self, process: bytes) -> None:
        """Wait no longer for a process that hung up."""
        self._silent.discard(process)
        total(self._last_counts.pop(process, {}).values(), self._past_counts)
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
        """Answer, since every process has that will; the stacks of the others are read from outside."""
        question = self._questions[number]
        if question.what != "stacks":
            self._answer(number)
            return
        dumps = [(client, Dump.of(client.pid)) for client in question.silent]
        asked = [(client, dump) for client, dump in dumps if dump is not None and dump.ask()]
        deadline = clock.monotonic() + _ANSWER_TIMEOUT_S

        def collect() -> None:
            writing = [dump for _, dump in asked if not dump.complete()]
            if writing and clock.monotonic() < deadline:
                self._context.reactor.call_later(_STACKS_POLL_S, collect)
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
        own: dict[str, Callable[[], list[Plain]]] = {
               "workers": self._workers, "events": lambda: list(self._context.events),
               "stored": self._stored, "metrics": self._metrics,
               "dead": lambda: list(self._context.ended_processes),
               "store": self._store_rows, "objects": self._stored,
               "tasks": self._of_tasks, "stacks": self._workers, "waits": self._workers,
               "counts": lambda: self._counts(question.silent),
               "runtime_envs": self._runtime_envs,
               "groups": self._groups,
               "breakpoints": lambda: self._breakpoints.rows()}  # fmt: skip
        rows = own.get(question.what.partition(" ")[0], list)()
        past = self._remembered() if question.what == "tasks" else ()
        question.answer([*past, *question.parts, (b"", 0, "daemon", pack(rows))], silent)

    def _remembered(self) -> list[Part]:
        return [part for kept in self._last_rows.values() for part, _ in kept]

    def _keep_metrics(self, connection: Connection, message: node.Metrics) -> None:
        client: Client = connection.peer
        self._last_metrics.pop(client.id, None)  # the newest last
        self._last_metrics[client.id] = message.rows
        if len(self._last_metrics) > _MAX_METRICS:
            gone = next((one for one in self._last_metrics if one not in self._context.clients), None)
            if gone is not None:
                del self._last_metrics[gone]

    def _keep_last_rows(self, connection: Connection, message: node.LastRows) -> None:
        client: Client = connection.peer
        kept = self._last_rows[message.failed]
        kept.append(((client.id, client.pid, client.kind, message.rows), message.count))
        while sum(len(part[3]) for part, _ in kept) > _MAX_LAST_ROWS_BYTES:
            kept.popleft()

    def _keep_counts(self, connection: Connection, message: node.Counts) -> None:
        try:
            rows = unpack(message.rows, type=list[Plain])
        except GARBAGE as error:
            raise WrongMessage(f"with garbage for its rows: {error}") from None
        counts = self._last_counts.setdefault(connection.peer.id, {})
        for row in rows:
            counts[row["name"], row["function"], row["type"]] = row

    # ------------------------------------------------------------------ what the daemon knows

    def _metrics(self) -> list[dict[str, Any]]:
        """Return the metrics of processes that cannot be asked any more."""
        living = self._context.clients
        return [
            {**row, "worker_id": process.hex()}
            for process, rows in self._last_metrics.items()
            if process not in living
            for row in unpack(rows, type=list[dict[str, Any]])
        ]

    def _of_tasks(self) -> list[dict[str, Any]]:
        """Return the workers, ended ones too; and of how many of their calls no row is left."""
        rows = [*self._context.ended_processes, *self._workers()]
        known = sum(sum(counts) for counts in self._past_counts.values())
        known -= sum(count for kept in self._last_rows.values() for _, count in kept)
        return [*rows, {"dropped": known}] if known > 0 else rows

    def _counts(self, silent: Iterable[Client]) -> list[dict[str, Any]]:
        """Return the workers; and what was counted by processes that ended, or do not answer."""
        counts = {key: list(found) for key, found in self._past_counts.items()}
        for client in silent:
            total(self._last_counts.get(client.id, {}).values(), counts)
        return self._workers() + [
            {"name": name, "function": function, "type": kind, "FINISHED": finished, "FAILED": failed}
            for (name, function, kind), (finished, failed) in counts.items()
        ]

    def _workers(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = [
            {
                "worker_id": client.id.hex(),
                "worker_type": "DRIVER",
                "pid": client.pid,
                "job": client.job.hex(),
                "state": "CONNECTED",
                "times": [0.0, 0.0, client.since, 0.0],
            }
            for client in self._context.clients.drivers()
        ]
        for worker in self._worker_table:
            lease = self._lease_table.lease_of(worker.id)
            owner, seq = self._progress.last_begun(worker.slot)
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
                    "place": _place(lease),
                    "stops": [stop.where for stop in self._breakpoints.of(worker.id)],
                    "stopped_tasks": [stop.task_id.hex() for stop in self._breakpoints.of(worker.id)],
                }
            )
        return rows

    def _store_rows(self) -> list[dict[str, Any]]:
        store = self._store
        return [
            {
                "capacity": store.allocator.capacity,
                "used": store.bytes_of_objects(on_disk=False),
                "kept": store.allocator.used - store.bytes_of_objects(on_disk=False),
                "on_disk": store.bytes_of_objects(on_disk=True),
                "objects": len(store.objects),
                "available": to_float(self._lease_table.free),
                "total": to_float(self._lease_table.total),
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
                "readers": [one.hex() for one in sorted(stored.pins)],
            }
            for object_id, stored in self._store.objects.items()
        ]

    def _groups(self) -> list[dict[str, Any]]:
        """Return the placement groups that are here or wait, with what is free in their bundles."""
        rows, waiting = [], 0
        for group in self._lease_table.groups.rows:
            accounts = sorted(group.accounts.items())
            rows.append(
                {
                    "group_id": group.id.hex(),
                    "state": group.state.value,
                    "ahead": 0 if accounts else waiting,
                    "bundles": [{"index": index, "free": to_float(one.free)} for index, one in accounts],
                }
            )
            waiting += not accounts
        return rows

    def _runtime_envs(self) -> list[dict[str, Any]]:
        workers = Counter(worker.pool for worker in self._worker_table)
        return self._environments.rows(workers, self._actors.actor_of)
