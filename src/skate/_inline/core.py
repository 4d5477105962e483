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
from skate._inline.context import Actor, HostParts
from skate._inline.lanes import Key
from skate._inline.node import InlineNode
from skate._inline.player import InlineYielding, Player
from skate._inline.turns import End, Turns, line
from skate._inline.work import Constructor, Work
from skate._serialize.exceptions import dump_error
from skate._transport.connection import Connection
from skate._transport.reactor import Waiter
from skate._wire import control
from skate._wire.codec import PROTOCOL
from skate._worker.calls.lease_pool import LeasePool, WorkerLease
from skate._worker.calls.records import TaskRecord
from skate._worker.calls.task_submitter import PoolRoute, TaskSubmitter
from skate._worker.core import Core, Kinds
from skate._worker.execution import forked_child
from skate._worker.execution.invocation import Invocation
from skate._worker.execution.local import Local
from skate._worker.objects.refs import PENDING
from skate._worker.process import current
from skate._worker.process.context import ProcessContext
from skate._worker.process.peers import Peer as WorkerPeer
from skate._worker.process.peers import Peers
from skate._worker.process.waiting import CountWaiter

if TYPE_CHECKING:
    from skate._launch.machine import Offer
    from skate._worker.execution.actor_host import ActorInstance

#: Threads that are about to end have so long at the end of a session (seconds).
_FAREWELL_S = 1.0


class InlinePeers(Peers):
    """Who can be dialled: actors, by their addresses; and the worker that runs tasks."""

    #: Set by InlineCore.
    node: InlineNode

    def reach(
        self,
        address: str,
        then: Callable[[Connection], None],
        failed: Callable[[str], None],
        worker_id: bytes = b"",
    ) -> None:
        """See Peers."""
        host = self.node.host_at(address)
        if host is not None:
            then(host.callers)
        else:
            failed("")

    def add(self, end: End) -> None:
        """Have this line told of functions that are gone."""
        self._all.add(end)


class InlineTasks(TaskSubmitter):
    """Tasks begin at once, whatever they ask for."""

    #: Set by InlineCore: where tasks run, and the line to it.
    node: InlineNode
    end: End
    _last_lease = 0

    def make_route(self, pool: LeasePool) -> PoolRoute:
        """See TaskSubmitter."""
        # Any environment is this process's: ``InlineNode.check`` says so.
        pool.depth = -1  # not looked at yet
        return InlineRoute(pool, self)

    def run(self, task: TaskRecord, pool: LeasePool) -> None:
        """Begin a task, or refuse it."""
        what = f"task {task.describe()}"
        if pool.depth < 0:
            pool.depth = 0
            self.node.check(what, pool.resources, pool.environment)
        unfit = self.node.unfit(what, pool.requirement, pool.resources)
        if unfit:
            self._results.finish_with_error(task, dump_error(errors.TaskUnschedulableError(unfit)))
            return
        self._last_lease += 1
        self._send(WorkerLease(self._last_lease, self.node.task_worker_id, self.end, pool), task)

    def fail_all(self, error: bytes) -> None:
        """See TaskSubmitter."""
        for task in list(self._tasks.unfinished.values()):
            if task.actor is None and task.connection is not None:
                self._results.finish_with_error(task, error)


class InlineRoute(PoolRoute):
    """The route of the tasks of one pool: they begin at once."""

    __slots__ = ("_tasks",)

    def __init__(self, pool: LeasePool, tasks: InlineTasks) -> None:
        self.pool = pool
        self._tasks = tasks

    def ready(self, task: TaskRecord) -> None:
        """See Route."""
        self._tasks.run(task, self.pool)

    def replied(self, task: TaskRecord, microseconds: int) -> None:
        """See Route: no worker waits for more."""

    def withdraw(self, task: TaskRecord) -> None:
        """See Route: it began at once."""


class InlineLocal(Local):
    """What runs here tells itself apart as if it had processes of its own."""

    #: Set by InlineCore.
    player: Player
    node: InlineNode

    def _work(self) -> Work | Constructor | None:
        info = current.call.get()
        return info if isinstance(info, (Work, Constructor)) else None

    def hosted(self) -> ActorInstance | None:
        """See Local."""
        work = self._work()
        return work.host if work is not None else None  # type: ignore[return-value]  # it is a Host

    def id_here(self) -> bytes:
        """See Local."""
        work = self._work()
        if work is None:
            return self._context.worker_id
        return work.host.id if work.host is not None else self.node.task_worker_id

    def assigned(self) -> tuple[Mapping[str, int], tuple[str, ...]]:
        """See Local."""
        work = self._work()
        if isinstance(work, Work):
            return work.resources, work.gpus
        return (work.host.spec.running, work.host.gpus) if work is not None else ({}, ())

    def lanes(self) -> list[dict[str, Any]]:
        """See Local."""
        return self.player.lanes(self.node.hosts.values())

    def _cancelled(self) -> AbstractSet[tuple[bytes, int]] | None:
        return self.player.cancelled if self._work() is not None else None


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
    """The parts of an in-process session. One a process: ``current.process.core``."""

    #: Set by Core, of the kinds that are given to it.
    peers: InlinePeers
    task_submitter: InlineTasks
    local: InlineLocal

    def __init__(self, config: Config, offer: Offer) -> None:
        turns = self.turns = Turns("driver")
        # There is one process: every value lies in its owner's table.
        config = config._replace(max_inline_bytes=sys.maxsize)
        worker_id = ids.new_worker_id()
        context = ProcessContext("driver", worker_id, f"inline-{worker_id.hex()}", config, turns)
        context.in_process = True
        super().__init__(context, Kinds(InlinePeers, InlineTasks, InlineLocal))
        invocation = Invocation(context, self.daemon, self.memory, self.borrowing, self.garbage)
        self.player = Player(
            context, turns, self.tasks, self.results, self.canceller, invocation,
            lambda invocation: InlineYielding(context, self.waiting, self.borrowing, invocation),
            offer.gpus,
        )  # fmt: skip
        node = self.inline_node = InlineNode(context, self.refs, self.player, offer)
        node.host_parts = HostParts(
            context, turns, self.player, self.values, self.garbage, node, self.peers.handlers,
            self._owner_ended,
        )  # fmt: skip
        tasks_end, worker_end = line(turns, self.peers.handlers, self.player.table())
        for end, who in ((tasks_end, node.task_worker_id), (worker_end, worker_id)):
            end.peer = WorkerPeer()
            end.peer.id = who
        self.peers.node = self.task_submitter.node = self.local.node = node
        self.task_submitter.end, self.local.player = tasks_end, self.player
        self.peers.add(tasks_end)
        daemon, _ = line(turns, self.daemon.handlers(), node.core_table())
        self.daemon.attach(daemon)
        self.waiting.block = self._block
        self.control_store: ControlStore
        #: The session ends: nothing is sorted out any more.
        self._closing = False
        #: Calls that wait without a timeout.
        self._blocked: dict[Key, CountWaiter] = {}

    # ------------------------------------------------------------------ connecting

    def connect(self, namespace: str, entrypoint: str) -> None:
        """Register with the control store, which is made here, and have the node do so."""
        context, node = self.context, self.inline_node
        context.namespace = namespace
        store = self.control_store = ControlStore(_Prompt("control store"), _Unwritten())
        mine, its = line(self.turns, self.control.handlers, store.handlers)
        mine.peer, its.peer = "the control store", Peer(False)
        self.control.connection = mine
        node_end, node_its = line(self.turns, node.control_table(), store.handlers)
        node_its.peer = Peer(False)
        node.control = node_end
        context.node_id = node.node_id
        with context.lock:
            node_end.send(
                control.RegisterNode(node.node_id, context.address, os.uname().nodename, context.pid,
                                     node.resources, PROTOCOL, node.labels)
            )  # fmt: skip
        context.job_id = self.control.ask(
            lambda request: control.RegisterJob(
                request, context.worker_id, b"", namespace, entrypoint, PROTOCOL, context.job_facts
            )
        )

    # ------------------------------------------------------------------ waiting

    def _block(self, waiter: Waiter, deadline: float | None) -> bool:
        """Block, and find out at once whether this wait can ever end: see ``Waiting.block``."""
        if (
            waiter.done
            or deadline is not None
            or not isinstance(waiter, CountWaiter)
            or not waiter.call.owner
        ):
            return self.turns.wait(waiter, deadline)
        key = waiter.call.owner, waiter.call.seq
        with self.context.lock:
            self._blocked[key] = waiter
            stuck = not self._may_go_on(key)
        try:
            if stuck:
                self._look(waiter)
            return self.turns.wait(waiter, deadline)
        finally:
            with self.context.lock:
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
            held_back = self.tasks.unfinished.get(key[1])
            if held_back is None or held_back.dependencies is None:
                return []
            pending = [entry for _, entry in held_back.dependencies if entry.kind == PENDING]
        makers = [(self.context.worker_id, entry.task.seq) for entry in pending if entry.task is not None]
        return makers if len(makers) == len(pending) else []

    def _look(self, waiter: CountWaiter) -> None:
        """Raise in a wait that closes a circle. Nothing changes while we look: one look is enough."""
        for found in deadlocks(situation([self.wait_report.snapshot()])):
            if any(number == waiter.number for _, number in found.waits):
                waiter.error = found.text
                waiter.done = True
                return

    # ------------------------------------------------------------------ owners that end

    def _owner_ended(self, host: Actor) -> None:
        """End the calls and actors that an actor had made which is gone. Under the lock."""
        if self._closing:
            return
        me = self.context.worker_id
        gone: list[TaskRecord] = []
        made_by: dict[Key, list[TaskRecord]] = {}
        for task in self.tasks.unfinished.values():
            parent = task.parent
            caller = parent.host if isinstance(parent, (Work, Constructor)) else None
            if caller is not None and caller.id == host.id:
                gone.append(task)
            elif parent is not None:
                made_by.setdefault((parent.owner, parent.seq), []).append(task)
        for task in gone:  # it grows
            if task.unresolved >= 0:
                self._drop(task, host)
            if task.actor is None:  # its process would be gone, too
                gone += made_by.pop((me, task.seq), ())
        self.control_store.owner_ended(host.id)

    def _drop(self, task: TaskRecord, owner: Actor) -> None:
        """End a call that nobody can want any more."""
        key = self.context.worker_id, task.seq
        if task.connection is None:
            task.route.withdraw(task)
        else:
            task.route.replied(task, 0)
            if task.actor is None:
                self.player.doom(key)
            else:
                callee = self.inline_node.hosts.get(task.actor.id)
                if callee is not None:
                    callee.lanes.withdraw(key)
        name = task.returns[0].id.hex() if task.returns else ""
        reason = f"{task.describe()} was called by the actor {owner.repr}, which ended"
        error = errors.OwnerDiedError(name, owner.address, reason)
        self.results.finish_with_error(task, dump_error(error))

    # ------------------------------------------------------------------ the end

    def close(self) -> None:
        """End everything. What cannot be ended is named on stderr."""
        strands = list(self.player.strands)
        hosts = list(self.inline_node.hosts.values())
        strands += [host.strand for host in hosts]
        self._closing = True
        context = self.context
        with context.lock:
            if not context.dead_reason:
                self.garbage.drain()
            self.fail_everything(context.dead_reason or "this session was shut down")
            running = [work.name for work in self.player.tasks.values()]
            for host in hosts:
                running += host.running()
                host.stop()
            self.inline_node.hosts.clear()
            for strand in self.player.strands:
                strand.doom()
                strand.retire()
        self.turns.close()
        deadline = monotonic() + _FAREWELL_S
        for strand in strands:
            if strand.thread.is_alive() and not strand.here:
                strand.thread.join(max(0.0, deadline - monotonic()))
        left = [strand for strand in strands if strand.thread.is_alive() and not strand.here]
        if left:
            context.warn(
                f"{len(left)} call(s) still run after shutdown(), among {', '.join(running) or 'others'}: "
                "in-process mode cannot end code that neither returns nor waits; their results are dropped"
            )
        self.futures.close()
        self.unretrieved.close()

    def abandon(self) -> None:
        """See Core: in a forked child none of the threads is there."""
        current.process.core = None
        current.process.forked = True
        forked_child.end_where_user_code_ends(self.player, self.player.invocation)
        self.turns.abandon()
