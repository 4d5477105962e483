"""The runtime of an in-process session: the real one's tables, with the other roles played beside it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from time import monotonic
from typing import TYPE_CHECKING, Any

from skate._base import errors, ids
from skate._base.config import Config
from skate._base.waits import deadlocks, situation
from skate._control.server import ControlStore, Peer
from skate._inline.lanes import Key
from skate._inline.node import InlineNode
from skate._inline.player import Player
from skate._inline.turns import End, Turns, line
from skate._inline.work import Constructor, Work
from skate._serialize.exceptions import dump_error
from skate._transport.connection import Connection
from skate._transport.reactor import Waiter
from skate._wire import control
from skate._wire.codec import PROTOCOL
from skate._worker.calls.lease_pool import LeasePool, WorkerLease
from skate._worker.calls.records import TaskRecord
from skate._worker.calls.task_submitter import NormalSubmitter
from skate._worker.core import Core
from skate._worker.execution import forked_child
from skate._worker.objects.refs import PENDING
from skate._worker.objects.values import CountWaiter
from skate._worker.process import current
from skate._worker.process.peers import Peer as WorkerPeer
from skate._worker.process.peers import Peers
from skate._worker.reporting.waits import told

if TYPE_CHECKING:
    from skate._inline.host import Host
    from skate._launch.machine import Offer
    from skate._worker.execution.actor_host import ActorHost

#: Threads that are about to end have so long at the end of a session (seconds).
_FAREWELL = 1.0


class _Peers(Peers):
    """Who can be dialled: actors, by their addresses; and whoever runs tasks."""

    def __init__(self, core: InlineCore) -> None:
        super().__init__(core)
        self._inline = core

    def reach(
        self,
        address: str,
        then: Callable[[Connection], None],
        failed: Callable[[str], None],
        worker_id: bytes = b"",
    ) -> None:
        """See Peers."""
        host = self._inline.inline_node.host_at(address)
        if host is not None:
            then(host.callers)
        else:
            failed("")

    def add(self, end: End) -> None:
        """Have this line told of functions that are gone."""
        self._all.add(end)


class _Tasks(NormalSubmitter):
    """Tasks begin at once, whatever they ask for."""

    def __init__(self, core: InlineCore) -> None:
        super().__init__(core)
        self._inline = core
        self._running: dict[int, TaskRecord] = {}
        self._last_lease = 0

    def pool(
        self, resources: dict[str, int], environment: bytes = b"", requirement: bytes = b""
    ) -> LeasePool:
        """See NormalSubmitter."""
        # Any environment is this process's: ``inline_node.check`` says so.
        pool = super().pool(resources, environment, requirement)
        pool.depth = -1  # not looked at yet
        return pool

    def submit(self, task: TaskRecord, pool: LeasePool) -> None:
        """See NormalSubmitter."""
        task.pool = pool
        core = self._inline
        if pool.depth < 0:
            pool.depth = 0
            core.inline_node.check(f"task {task.describe()}", pool.resources, pool.environment)
        unfit = core.inline_node.unfit(f"task {task.describe()}", pool.requirement, pool.resources)
        if unfit:
            core.calls.finish_with_error(task, dump_error(errors.TaskUnschedulableError(unfit)))
            return
        self._last_lease += 1
        lease = WorkerLease(self._last_lease, core.task_worker_id, core.tasks_end, pool)
        self._running[task.seq] = task
        self._send(lease, task)

    def in_flight(self) -> list[tuple[TaskRecord, bytes]]:
        """See NormalSubmitter."""
        return [(task, self._inline.task_worker_id) for task in self._running.values()]

    def replied(self, task: TaskRecord, microseconds: int) -> None:
        """See NormalSubmitter."""
        self._running.pop(task.seq, None)

    def fail_all(self, error: bytes) -> None:
        """See NormalSubmitter."""
        running, self._running = list(self._running.values()), {}
        for task in running:
            self._core.calls.finish_with_error(task, error)


class _Unwritten:
    """The control store's records: a session in one process has nothing to survive."""

    def put(self, kind: str, key: bytes, value: bytes) -> None:
        """See ``_control.server.Records``."""

    def delete(self, kind: str, key: bytes) -> None:
        """See ``_control.server.Records``."""

    def commit(self) -> None:
        """See ``_control.server.Records``."""

    def all(self, kind: str) -> list[tuple[bytes, bytes]]:
        """See ``_control.server.Records``."""
        return []

    def close(self) -> None:
        """See ``_control.server.Records``."""


class _Prompt(Turns):
    """The control store's clock: it puts things off for news that might be overtaken; here none is."""

    def call_later(self, seconds: float, callback: Any) -> Any:
        """See Reactor."""
        callback()


class InlineCore(Core):
    """See the module's text. One a process; ``current.process.core``."""

    in_process = True

    def __init__(self, config: Config, offer: Offer) -> None:
        self.turns = Turns("driver")
        # There is one process: every value lies in its owner's table.
        config = config._replace(max_inline_bytes=sys.maxsize)
        worker_id = ids.new_worker_id()
        super().__init__("driver", worker_id, f"inline-{worker_id.hex()}", config, self.turns)
        self.turns.on_turn = self.drain
        self.task_worker_id = ids.new_worker_id()
        self.player = Player(self, offer.gpus)
        self.inline_node = InlineNode(self, offer)
        handlers = self.peers.handlers
        self.peers = _Peers(self)
        self.peers.handlers.update(handlers)
        self.normal = _Tasks(self)
        self.tasks_end, worker_end = line(self.turns, self.peers.handlers, self.player.table())
        for end, who in ((self.tasks_end, self.task_worker_id), (worker_end, worker_id)):
            end.peer = WorkerPeer()
            end.peer.id = who
        self.peers.add(self.tasks_end)
        self.node, _ = line(self.turns, {}, self.inline_node.core_table())
        self.node.table = {**self.node.table, **self._answers()}
        self.control_store: ControlStore
        #: The session ends: nothing is sorted out any more.
        self.closing = False
        #: Calls that wait without a timeout.
        self._blocked: dict[Key, CountWaiter] = {}

    def _answers(self) -> dict[type, Any]:
        from skate._wire import node

        return {node.StoreReport: self._answered}

    # ------------------------------------------------------------------ connecting

    def connect(self, namespace: str, entrypoint: str) -> None:
        """Register with the control store, which is made here, and have the node do so."""
        self.namespace = namespace
        store = self.control_store = ControlStore(_Prompt("control store"), _Unwritten())
        mine, its = line(self.turns, self.control.handlers, store.handlers)
        mine.peer, its.peer = "the control store", Peer(False)
        self.control.connection = mine
        node_end, node_its = line(self.turns, self.inline_node.control_table(), store.handlers)
        node_its.peer = Peer(False)
        self.inline_node.control = node_end
        self.node_id = self.inline_node.node_id
        with self.lock:
            node_end.send(
                control.RegisterNode(self.node_id, self.address, os.uname().nodename, self.pid,
                                     self.inline_node.resources, PROTOCOL, self.inline_node.labels)
            )  # fmt: skip
        self.job_id = self.control.ask(
            lambda request: control.RegisterJob(
                request, self.worker_id, b"", namespace, entrypoint, PROTOCOL, self.job_facts
            )
        )

    # ------------------------------------------------------------------ waiting

    def wait(self, waiter: Waiter, deadline: float | None) -> bool:
        """Wait; at once look whether this can ever end."""
        if (
            waiter.done
            or deadline is not None
            or not isinstance(waiter, CountWaiter)
            or not waiter.call.owner
        ):
            return self.turns.wait(waiter, deadline)
        key = waiter.call.owner, waiter.call.seq
        with self.lock:
            self._blocked[key] = waiter
            stuck = not self._may_go_on(key)
        try:
            if stuck:
                self._look(waiter)
            return self.turns.wait(waiter, deadline)
        finally:
            with self.lock:
                self._blocked.pop(key, None)

    def _may_go_on(self, start: Key) -> bool:
        """Tell whether something goes on by itself that a waiting call may depend on. Under the lock.

        A quick look at what is certain; ``_look`` finds the circle, and the words for it.
        """
        seen: set[Key] = set()
        path = [start]
        while path:
            key = path.pop()
            if key in seen:
                continue
            seen.add(key)
            others = self._depends(key)
            if not others:
                return True
            path.extend(others)
        return False

    def _depends(self, key: Key) -> list[Key]:
        """Return the calls any of which could let it go on. Nothing: it may do so by itself."""
        waiter = self._blocked.get(key)
        if waiter is not None:
            pending = [entry for entry in waiter.entries if entry.kind == PENDING]
        elif key in self.player.tasks:
            return []
        else:
            for host in self.inline_node.hosts.values():
                ahead = host.ahead_of(key)
                if ahead is not None:
                    return ahead
            held_back = self.calls_by_seq(key[1])
            if held_back is None or held_back.dependencies is None:
                return []
            pending = [entry for _, entry in held_back.dependencies if entry.kind == PENDING]
        makers = [(self.worker_id, entry.task.seq) for entry in pending if entry.task is not None]
        return makers if len(makers) == len(pending) else []

    def calls_by_seq(self, seq: int) -> TaskRecord | None:
        """Return an unfinished call of this session. Under the lock."""
        entry = self.refs.entries.get(ids.object_id(self.worker_id, seq))
        return entry.task if entry is not None else None

    def _look(self, waiter: CountWaiter) -> None:
        """Raise in a wait that closes a circle. Nothing changes while we look: one look is enough."""
        for found in deadlocks(situation([told(self)])):
            if any(number == waiter.number for _, number in found.waits):
                waiter.error = found.text
                waiter.done = True
                return

    # ------------------------------------------------------------------ what runs here

    def _work(self) -> Work | Constructor | None:
        info = current.call.get()
        return info if isinstance(info, (Work, Constructor)) else None

    def hosted(self) -> ActorHost | None:
        """See Core."""
        work = self._work()
        return work.host if work is not None else None

    def id_here(self) -> bytes:
        """See Core: what runs here tells itself apart as if it had processes of its own."""
        work = self._work()
        if work is None:
            return self.worker_id
        return work.host.id if work.host is not None else self.task_worker_id

    def assigned(self) -> tuple[Mapping[str, int], tuple[str, ...]]:
        """See Core."""
        work = self._work()
        if isinstance(work, Work):
            return work.resources, work.gpus
        return (work.host.spec.running, work.host.gpus) if work is not None else ({}, ())

    def lanes(self) -> list[dict[str, Any]]:
        """See Core."""
        return self.player.lanes(self.inline_node.hosts.values())

    def _cancelled(self) -> AbstractSet[tuple[bytes, int]] | None:
        return self.player.cancelled if self._work() is not None else None

    # ------------------------------------------------------------------ owners that end

    def owner_ended(self, host: Host) -> None:
        """An actor is gone, and with it the calls and actors that it had made. Under the lock."""
        gone: list[TaskRecord] = []
        made_by: dict[Key, list[TaskRecord]] = {}
        for task in self._unfinished():
            parent = task.parent
            if isinstance(parent, (Work, Constructor)) and parent.host is host:
                gone.append(task)
            elif parent is not None:
                made_by.setdefault((parent.owner, parent.seq), []).append(task)
        for task in gone:  # it grows
            if task.unresolved >= 0:
                self._drop(task, host)
            if task.actor is None:  # its process would be gone, too
                gone += made_by.pop((self.worker_id, task.seq), ())
        self.control_store.owner_ended(host.id)

    def _unfinished(self) -> list[TaskRecord]:
        found = {id(task): task for task, _ in (*self.normal.in_flight(), *self.actors.in_flight())}
        for entry in self.refs.entries.values():
            if entry.task is not None:
                found[id(entry.task)] = entry.task
        return [task for task in found.values() if task.unresolved >= 0]

    def _drop(self, task: TaskRecord, host: Host) -> None:
        """Nobody can want this call any more."""
        connection = self.calls.where(task)
        if connection is None:
            self.canceller.withdraw(task)
        else:
            connection.peer.calls.pop(task.seq, None)
            if task.actor is None:
                self.normal.replied(task, 0)
                self.player.doom((self.worker_id, task.seq))
            else:
                self.actors.replied(task)
                callee = self.inline_node.hosts.get(task.actor.id)
                if callee is not None:
                    callee.lanes.withdraw((self.worker_id, task.seq))
        name = task.returns[0].id.hex() if task.returns else ""
        reason = f"{task.describe()} was called by the actor {host.repr}, which ended"
        self.calls.finish_with_error(task, dump_error(errors.OwnerDiedError(name, host.address, reason)))

    # ------------------------------------------------------------------ the end

    def close(self) -> None:
        """End everything. What cannot be ended is named on stderr."""
        strands = list(self.player.strands)
        hosts = list(self.inline_node.hosts.values())
        strands += [host.strand for host in hosts]
        self.closing = True
        with self.lock:
            if not self.dead_reason:
                self.drain()
            self.fail_everything(self.dead_reason or "this session was shut down")
            running = [work.name for work in self.player.tasks.values()]
            for host in hosts:
                running += host.running()
                host.stop()
            self.inline_node.hosts.clear()
            for strand in self.player.strands:
                strand.doom()
                strand.retire()
        self.turns.close()
        deadline = monotonic() + _FAREWELL
        for strand in strands:
            if strand.thread.is_alive() and not strand.here:
                strand.thread.join(max(0.0, deadline - monotonic()))
        left = [strand for strand in strands if strand.thread.is_alive() and not strand.here]
        if left:
            self.warn(
                f"{len(left)} call(s) still run after shutdown(), among {', '.join(running) or 'others'}: "
                "in-process mode cannot end code that neither returns nor waits; their results are dropped"
            )
        self.futures.close()
        self.unread.close()

    def abandon(self) -> None:
        """See Core: in a forked child none of the threads is there."""
        current.process.core = None
        current.process.forked = True
        forked_child.end_where_user_code_ends(self.player, self.player.invocation)
        self.turns.abandon()
