"""Builds the runtime of an in-process session: a driver's tables, and stand-ins for the other roles."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any

from skate._base import errors, ids
from skate._base.clock import monotonic
from skate._base.config import Config
from skate._base.waits import deadlocks, situation
from skate._control.server import ControlStore, Peer
from skate._inline.context import Actor, ActorParts
from skate._inline.executor import InlineExecutor, InlineYielding
from skate._inline.node import InlineNode
from skate._inline.reactor import InlineReactor, LocalConnection, pair
from skate._inline.work import Constructor, Work
from skate._scheduling.requirements import group_of
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
from skate._worker.execution.lanes import Key
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

#: How long the end of a session waits for its threads.
_JOIN_TIMEOUT_S = 1.0


class InlinePeers(Peers):
    """Connects to actors by their addresses, and to the stand-in worker that runs tasks."""

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
        actor = self.node.actor_at(address)
        if actor is not None:
            then(actor.callers)
        else:
            failed("")

    def add(self, end: LocalConnection) -> None:
        """Send over this connection, too, that a function was dropped."""
        self._all[end] = None


class InlineTasks(TaskSubmitter):
    """Begins tasks at once, without regard to their resources."""

    #: Set by InlineCore: the node that runs tasks, its executor, and the connection to it.
    node: InlineNode
    executor: InlineExecutor
    connection: LocalConnection
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
        infeasible_reason = self.node.infeasible_reason(what, pool.requirement, pool.resources)
        if infeasible_reason:
            self._results.finish_with_error(
                task, dump_error(errors.TaskUnschedulableError(infeasible_reason))
            )
            return
        if not pool.group[0]:
            self._begin(task, pool)
            return
        _, bundle, _ = group_of(pool.requirement)

        def go() -> None:
            if self._tasks.unfinished.get(task.seq) is task:  # else it was cancelled meanwhile
                self._begin(task, pool)

        def fail(reason: str, removed: bool) -> None:
            if removed:
                reason = f"task {task.describe()} did not finish: {reason}"
            kind = errors.TaskPlacementGroupRemoved if removed else errors.TaskUnschedulableError
            self._results.finish_with_error(task, dump_error(kind(reason)))

        self.node.groups.admit((pool.group[0], bundle), pool.resources, go, fail)

    def group_removed(self, group: bytes, reason: str) -> None:
        """End the tasks of a placement group that was removed."""
        for task in list(self._tasks.unfinished.values()):
            if task.pool is None or task.pool.group[0] != group or task.connection is None:
                continue  # those that wait are refused
            self.executor.kill((self._context.worker_id, task.seq))
            text = f"task {task.describe()} did not finish: {reason}"
            self._results.finish_with_error(task, dump_error(errors.TaskPlacementGroupRemoved(text)))

    def _begin(self, task: TaskRecord, pool: LeasePool) -> None:
        self._last_lease += 1
        self._send(WorkerLease(self._last_lease, self.node.task_worker_id, self.connection, pool), task)

    def fail_all(self, error: bytes) -> None:
        """See TaskSubmitter."""
        for task in list(self._tasks.unfinished.values()):
            if task.actor is None and task.connection is not None:
                self._results.finish_with_error(task, error)


class InlineRoute(PoolRoute):
    """The route of the tasks of one pool, which begin at once."""

    __slots__ = ("_tasks",)

    def __init__(self, pool: LeasePool, tasks: InlineTasks) -> None:
        self.pool = pool
        self._tasks = tasks

    def ready(self, task: TaskRecord) -> None:
        """See Route."""
        self._tasks.run(task, self.pool)

    def replied(self, task: TaskRecord, microseconds: int) -> None:
        """Do nothing: no worker waits for further tasks."""

    def withdraw(self, task: TaskRecord) -> None:
        """Do nothing: the task began at once."""


class InlineLocal(Local):
    """Answers user code about its worker and resources as if each worker were a process."""

    #: Set by InlineCore.
    inline_executor: InlineExecutor
    node: InlineNode

    def _work(self) -> Work | Constructor | None:
        info = current.call.get()
        return info if isinstance(info, (Work, Constructor)) else None

    def hosted(self) -> ActorInstance | None:
        """See Local."""
        work = self._work()
        return work.actor if work is not None else None  # type: ignore[return-value]  # it is a InlineActor

    def id_here(self) -> bytes:
        """See Local."""
        work = self._work()
        if work is None:
            return self._context.worker_id
        return work.actor.id if work.actor is not None else self.node.task_worker_id

    def assigned(self) -> tuple[Mapping[str, int], tuple[str, ...]]:
        """See Local."""
        work = self._work()
        if isinstance(work, Work):
            return work.resources, work.gpus
        return (work.actor.spec.running, work.actor.gpus) if work is not None else ({}, ())

    def lanes(self) -> list[dict[str, Any]]:
        """See Local."""
        return self.inline_executor.lanes(self.node.actors.values())

    def _cancelled(self) -> AbstractSet[tuple[bytes, int]] | None:
        return self.inline_executor.cancelled if self._work() is not None else None


class _Unwritten:
    """Drops the control store's records: a session in one process survives no restart."""

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


class _Prompt(InlineReactor):
    """Runs timers of the control store at once: it delays actions only for messages that may overtake."""

    def call_later(self, seconds: float, callback: Any) -> Any:
        """See Reactor."""
        callback()


class InlineCore(Core):
    """Connects the parts of an in-process session. One for each process: ``current.process.core``."""

    #: Set by Core, of the kinds that are given to it.
    peers: InlinePeers
    task_submitter: InlineTasks
    local: InlineLocal

    def __init__(self, config: Config, offer: Offer) -> None:
        reactor = self.inline_reactor = InlineReactor("driver")
        # There is one process: every value lies in its owner's table.
        config = config._replace(max_inline_bytes=sys.maxsize)
        worker_id = ids.new_worker_id()
        context = ProcessContext("driver", worker_id, f"inline-{worker_id.hex()}", config, reactor)
        context.in_process = True
        super().__init__(context, Kinds(InlinePeers, InlineTasks, InlineLocal))
        invocation = Invocation(context, self.daemon, self.memory, self.borrowing, self.garbage)
        self.inline_executor = InlineExecutor(
            context, reactor, self.tasks, self.results, self.canceller, invocation,
            lambda invocation: InlineYielding(context, self.waiting, self.borrowing, invocation),
            offer.gpus,
        )  # fmt: skip
        node = self.inline_node = InlineNode(context, self.refs, self.inline_executor, offer)
        node.actor_parts = ActorParts(
            context, reactor, self.inline_executor, self.values, self.garbage, node, self.peers.handlers,
            self._owner_ended,
        )  # fmt: skip
        tasks_end, worker_end = pair(reactor, self.peers.handlers, self.inline_executor.table())
        for end, who in ((tasks_end, node.task_worker_id), (worker_end, worker_id)):
            end.peer = WorkerPeer()
            end.peer.id = who
        self.peers.node = self.task_submitter.node = self.local.node = node
        self.task_submitter.executor = self.inline_executor
        node.end_tasks = self.task_submitter.group_removed
        self.task_submitter.connection, self.local.inline_executor = tasks_end, self.inline_executor
        self.peers.add(tasks_end)
        # Nothing is stored there, so its messages need no answer.
        daemon, _ = pair(reactor, self.daemon.handlers(), {})
        self.daemon.attach(daemon)
        self.waiting.block = self._block
        self.control_store: ControlStore
        #: The session ends: calls of ended actors need no care any more.
        self._closing = False
        #: Calls that wait without a timeout.
        self._blocked: dict[Key, CountWaiter] = {}

    # ------------------------------------------------------------------ connecting

    def connect(self, namespace: str, entrypoint: str) -> None:
        """Make the control store, and register the driver and the node with it."""
        context, node = self.context, self.inline_node
        context.namespace = namespace
        store = self.control_store = ControlStore(_Prompt("control store"), _Unwritten())
        mine, its = pair(self.inline_reactor, self.control.handlers, store.handlers)
        mine.peer, its.peer = "the control store", Peer(False)
        self.control.connection = mine
        node_end, node_its = pair(self.inline_reactor, node.control_table(), store.handlers)
        node_its.peer = Peer(False)
        node.connected(node_end)
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
        """Wait; raise at once if the wait can never end. See ``Waiting.block``."""
        if (
            waiter.done
            or deadline is not None
            or not isinstance(waiter, CountWaiter)
            or not waiter.call.owner
        ):
            return self.inline_reactor.wait(waiter, deadline)
        key = waiter.call.owner, waiter.call.seq
        with self.context.lock:
            self._blocked[key] = waiter
            stuck = not self._may_go_on(key)
        try:
            if stuck:
                self._look(waiter)
            return self.inline_reactor.wait(waiter, deadline)
        finally:
            with self.context.lock:
                self._blocked.pop(key, None)

    def _may_go_on(self, start: Key) -> bool:
        """Tell whether a call on which a waiting call may depend can go on by itself. Under the lock.

        This is a quick check; ``_look`` then finds the circle and describes it.
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
        """Return the calls any of which could let this call go on. None of them: it may go on by itself."""
        waiter = self._blocked.get(key)
        if waiter is not None:
            pending = [entry for entry in waiter.entries if entry.kind == PENDING]
        elif key in self.inline_executor.tasks:
            return []
        else:
            for actor in self.inline_node.actors.values():
                ahead = actor.ahead_of(key)
                if ahead is not None:
                    return ahead
            held_back = self.tasks.unfinished.get(key[1])
            if held_back is None or held_back.dependencies is None:
                return []
            pending = [entry for _, entry in held_back.dependencies if entry.kind == PENDING]
        makers = [(self.context.worker_id, entry.task.seq) for entry in pending if entry.task is not None]
        return makers if len(makers) == len(pending) else []

    def _look(self, waiter: CountWaiter) -> None:
        """Raise in a wait that closes a circle. One look is enough, as nothing changes meanwhile."""
        for found in deadlocks(situation([self.wait_report.snapshot()])):
            if any(number == waiter.number for _, number in found.waits):
                waiter.error = found.text
                waiter.done = True
                return

    # ------------------------------------------------------------------ ended owners

    def _owner_ended(self, actor: Actor) -> None:
        """End the calls and actors that an ended actor had made. Under the lock."""
        if self._closing:
            return
        me = self.context.worker_id
        gone: list[TaskRecord] = []
        made_by: dict[Key, list[TaskRecord]] = {}
        for task in self.tasks.unfinished.values():
            parent = task.parent
            caller = parent.actor if isinstance(parent, (Work, Constructor)) else None
            if caller is not None and caller.id == actor.id:
                gone.append(task)
            elif parent is not None:
                made_by.setdefault((parent.owner, parent.seq), []).append(task)
        for task in gone:  # the list grows meanwhile
            if task.unresolved >= 0:
                self._drop(task, actor)
            if task.actor is None:  # its worker would have ended, too
                gone += made_by.pop((me, task.seq), ())
        self.control_store.owner_ended(actor.id)

    def _drop(self, task: TaskRecord, owner: Actor) -> None:
        """End a call whose owner has ended."""
        key = self.context.worker_id, task.seq
        if task.connection is None:
            task.route.withdraw(task)
        else:
            task.route.replied(task, 0)
            if task.actor is None:
                self.inline_executor.kill(key)
            else:
                callee = self.inline_node.actors.get(task.actor.id)
                if callee is not None:
                    callee.lanes.withdraw(key)
        name = task.returns[0].id.hex() if task.returns else ""
        reason = f"{task.describe()} was called by the actor {owner.repr}, which ended"
        error = errors.OwnerDiedError(name, owner.address, reason)
        self.results.finish_with_error(task, dump_error(error))

    # ------------------------------------------------------------------ the end

    def close(self) -> None:
        """End all calls and threads; name on stderr the calls that go on."""
        call_threads = list(self.inline_executor.call_threads)
        actors = list(self.inline_node.actors.values())
        call_threads += [actor.call_thread for actor in actors]
        self._closing = True
        context = self.context
        with context.lock:
            if not context.dead_reason:
                self.garbage.drain()
            self.fail_everything(context.dead_reason or "this session was shut down")
            running = [work.name for work in self.inline_executor.tasks.values()]
            for actor in actors:
                running += actor.running()
                actor.stop()
            self.inline_node.actors.clear()
            for call_thread in self.inline_executor.call_threads:
                call_thread.kill()
                call_thread.retire()
        self.inline_reactor.close()
        deadline = monotonic() + _JOIN_TIMEOUT_S
        for call_thread in call_threads:
            if call_thread.thread.is_alive() and not call_thread.is_current:
                call_thread.thread.join(max(0.0, deadline - monotonic()))
        left = [
            call_thread
            for call_thread in call_threads
            if call_thread.thread.is_alive() and not call_thread.is_current
        ]
        if left:
            context.warn(
                f"{len(left)} call(s) still run after shutdown(), among {', '.join(running) or 'others'}: "
                "in-process mode cannot end code that neither returns nor waits; their results are dropped"
            )
        self.futures.close()
        self.unretrieved.close()

    def abandon(self) -> None:
        """Drop the session in a forked child, which has none of the threads. See Core."""
        self.detach()
        current.process.forked = True
        forked_child.end_where_user_code_ends(self.inline_executor, self.inline_executor.invocation)
        self.inline_reactor.abandon()
