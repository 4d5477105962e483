"""Sends calls of remote functions to leased workers, and decides about them when a worker dies."""

from __future__ import annotations

from functools import partial

from skate._base import errors
from skate._base.clock import monotonic
from skate._base.config import Config
from skate._scheduling.requirements import group_of
from skate._serialize.exceptions import dump_error
from skate._transport.connection import EAGER_BYTES, Connection
from skate._transport.reactor import Timer
from skate._wire import node
from skate._wire import worker as wire
from skate._worker.calls.cancellation import cancel_error
from skate._worker.calls.lease_pool import LeasePool, WorkerLease
from skate._worker.calls.records import TaskRecord, split_begun
from skate._worker.calls.results import Results
from skate._worker.calls.tasks import TaskTable
from skate._worker.calls.unretrieved import UnretrievedErrors
from skate._worker.objects.refs import ObjectEntry
from skate._worker.process.context import ProcessContext
from skate._worker.process.daemon_link import DaemonLink
from skate._worker.process.peers import Peers

#: When a process ended, its peers have its exit report, or the news that its actor died, within this time
#: (seconds). Else they ask the daemon, or dial it.
EXIT_REPORT_TIMEOUT_S = 1.0


class PoolRoute:
    """The route of the tasks of one pool: see ``records.Route``."""

    __slots__ = ("pool", "_config", "_submitter")

    def __init__(self, pool: LeasePool, config: Config, submitter: TaskSubmitter) -> None:
        self.pool = pool
        self._config = config
        self._submitter = submitter

    def ready(self, task: TaskRecord) -> None:
        """See Route."""
        pool = self.pool
        depth = (task.flags >> wire.DEPTH_SHIFT) - 1
        if depth > pool.depth:
            pool.depth = depth
        pool.submit(task)

    def resubmit(self, task: TaskRecord, may_go: bool) -> None:
        """See Route."""
        task.lease = None
        if may_go:
            self.ready(task)

    def replied(self, task: TaskRecord, microseconds: int) -> None:
        """See Route: the worker can take the next task."""
        function = task.function
        assert function is not None
        config, lease = self._config, task.lease
        function.measured(microseconds, config.short_task_us, config.max_pipeline_depth)
        lease.inflight.pop(task.seq, None)
        lease.pool.replied(lease, monotonic)
        if not lease.inflight and self._submitter.linger is None:
            self._submitter.arm_linger()

    def argument_failed(self, task: TaskRecord) -> None:
        """See Route: the pool has only tasks whose arguments have values."""

    def withdraw(self, task: TaskRecord) -> None:
        """See Route."""
        if not task.unresolved:
            self.pool.withdraw(task)


class TaskSubmitter:
    """Sends tasks to leased workers. Under the process's lock."""

    def __init__(
        self,
        context: ProcessContext,
        daemon: DaemonLink,
        peers: Peers,
        tasks: TaskTable,
        results: Results,
        unretrieved: UnretrievedErrors,
    ) -> None:
        self._context = context
        self._daemon = daemon
        self._peers = peers
        self._tasks = tasks
        self._results = results
        self._unretrieved = unretrieved
        self._routes: dict[tuple[bytes, bytes, tuple[tuple[str, int], ...]], PoolRoute] = {}
        self._by_shape: dict[int, LeasePool] = {}
        self._leases: dict[int, WorkerLease] = {}
        #: Set while idle leases are kept for what comes next.
        self.linger: Timer | None = None
        self._last_shape = 0

    def route(
        self, resources: dict[str, int], environment: bytes = b"", requirement: bytes = b""
    ) -> PoolRoute:
        """Return the route of tasks of a resource shape, with workers of an environment (empty: this
        process's), on nodes that fulfil a requirement (empty: any)."""
        if environment == self._context.environment:
            environment = b""
        key = (environment, requirement, tuple(sorted(resources.items())))
        route = self._routes.get(key)
        if route is None:
            self._last_shape += 1
            pool = LeasePool(self._last_shape, resources, self._send, self._demand, self._give_back)
            pool.environment, pool.requirement = environment, requirement
            group, _, captures = group_of(requirement)
            pool.group = group, captures
            self._by_shape[pool.shape] = pool
            route = self._routes[key] = self.make_route(pool)
        return route

    def make_route(self, pool: LeasePool) -> PoolRoute:
        """Return the route of a new pool."""
        return PoolRoute(pool, self._context.config, self)

    # ------------------------------------------------------------------ effects of the pools

    def _send(self, lease: WorkerLease, task: TaskRecord) -> None:
        connection = lease.connection
        function = task.function
        assert function is not None
        peer = connection.peer
        if function.number not in peer.defined:
            peer.defined.add(function.number)
            connection.send(
                wire.DefineFunction(
                    function.number,
                    function.name,
                    function.blob,
                    function.threads,
                    function.max_calls,
                    lease.pool.resources,
                    *lease.pool.group,
                )
            )
        task.lease = lease
        task.connection = connection
        flags = task.flags
        if task.retries_left:
            # Workers batch replies of short calls for a moment, except of calls that must not run twice.
            flags |= wire.REPEATABLE | wire.SHORT if function.depth > 1 else wire.REPEATABLE
        call = wire.Call(
            task.seq,
            function.number,
            task.args,
            task.args_kind,
            len(task.returns),
            flags,
            None if task.dependencies is None else task.values_to_send(),
            task.name,
            None,
            task.stream_state() if task.stream is not None else None,
            lease.gpus,
            task.retry if task.retries_left else None,
        )
        if len(lease.inflight) == 1:  # in-process mode counts none, and sends at once
            connection.send_now(call)
        else:
            connection.send(call)
            if len(connection.out) > EAGER_BYTES:
                connection.flush()

    def _demand(self, pool: LeasePool, count: int) -> None:
        self._daemon.send(
            node.LeaseDemand(
                pool.shape, pool.resources, count, pool.depth, pool.environment, pool.requirement
            )
        )
        self._daemon.flush()

    def _give_back(self, lease: WorkerLease) -> None:
        self._leases.pop(lease.id, None)
        self._daemon.send(node.LeaseReturned(lease.id))

    def take_back(self, argument: ObjectEntry) -> list[TaskRecord]:
        """Take the tasks that wait for a worker and have this argument out of their pools; return them."""
        found: list[TaskRecord] = []
        for pool in self._by_shape.values():
            tasks = [task for task in pool.queue if task.needs(argument)]
            if tasks:
                others = [task for task in pool.queue if not task.needs(argument)]
                pool.queue.clear()
                pool.queue.extend(others)
            found += tasks
        return found

    # ------------------------------------------------------------------ messages of the daemon

    def granted(self, connection: Connection, message: node.LeaseGranted) -> None:
        """Connect to a worker that is leased to this process, and send it tasks."""
        pool = self._by_shape.get(message.shape)
        if pool is None:  # this process demanded none
            self._daemon.send(node.LeaseReturned(message.lease))
            return

        def connected(peer: Connection) -> None:
            lease = WorkerLease(message.lease, message.worker_id, peer, pool)
            lease.idle_since = monotonic()
            lease.gpus = ",".join(message.gpus) or None
            self._leases[lease.id] = lease
            pool.granted(lease)
            if not lease.inflight:
                self.arm_linger()

        def failed(shortage: str) -> None:
            if shortage:  # else it died meanwhile, and the daemon grants another one in its place
                for task in pool.unreachable():
                    text = f"task {task.describe()} was not sent to a worker, because this process {shortage}"
                    self._results.finish_with_error(task, dump_error(errors.RaySystemError(text)))
            self._daemon.send(node.LeaseReturned(message.lease))

        self._peers.reach(message.address, connected, failed, message.worker_id)

    def disconnected(self, connection: Connection) -> None:
        """Wait for the exit report of a worker whose connection ended; without one, ask the daemon."""
        for lease in self._leases.values():
            if lease.connection is connection:
                self._context.reactor.call_later(EXIT_REPORT_TIMEOUT_S, partial(self._broken, lease))

    def _broken(self, lease: WorkerLease) -> None:
        if self._leases.get(lease.id) is lease and not self._context.dead_reason:
            self._daemon.send(node.LeaseBroken(lease.id, lease.connection.close_reason))

    def refused(self, connection: Connection, message: node.DemandRefused) -> None:
        """Warn that the node cannot serve a shape, or end its tasks."""
        pool = self._by_shape.get(message.shape)
        if not message.fatal:
            name = pool.queue[0].describe() if pool is not None and pool.queue else ""
            subject = f"task {name}: " if name else ""
            self._context.warn(
                f"{subject}{message.reason}. It waits until that changes: ask for something else, "
                "or start the session with it (init(num_cpus=..., resources=..., labels=...))."
            )
            return
        if pool is None:
            return
        if message.removed:
            pool.removed = message.reason
        for task in pool.refused():
            refused: errors.RayError = errors.TaskUnschedulableError(message.reason)
            if message.environment:
                refused = errors.RuntimeEnvSetupError(f"task {task.describe()}: {message.reason}")
            elif message.removed:
                refused = _lost_its_group(task, message.reason)
            self._results.finish_with_error(task, dump_error(refused))

    def reclaim(self, connection: Connection, message: node.LeaseReclaim) -> None:
        """Give leases back for which other owners wait."""
        busy = message.busy
        for pool in self._by_shape.values():
            before = len(pool.leases)
            pool.reclaim(busy)
            if len(pool.leases) < before:
                busy = max(0, busy - (before - len(pool.leases)))

    def worker_died(self, connection: Connection, message: node.WorkerDied) -> None:
        """Retry or fail the calls of a lease whose worker died, by the daemon's exit report."""
        lease = self._leases.pop(message.lease, None)
        if lease is None:
            return
        results = self._results
        lease.connection.drain()  # replies that it sent before
        calls = list(lease.inflight.values())
        lease.inflight.clear()
        lease.pool.lost(lease)
        if lease.pool.removed:
            for task in calls:
                results.finish_with_error(task, dump_error(_lost_its_group(task, lease.pool.removed)))
            return
        mine = message.begun_owner == self._context.worker_id
        begun, fresh = split_begun(calls, message.begun_seq if mine else 0)
        again: list[TaskRecord] = []
        for task in [task for task in fresh if task.cancelled]:
            fresh.remove(task)
            results.finish_with_error(task, cancel_error(self._context, task))
        for task in begun:
            if task.spend_retry():
                again.append(task)
            elif task.cancelled:
                results.finish_with_error(task, cancel_error(self._context, task))
            else:
                error = dump_error(self._crashed(task, message.cause, message.out_of_memory))
                results.finish_with_error(task, error)
                self._unretrieved.failed(task, error)
        for task in calls:
            task.connection = task.lease = None
        lease.pool.requeue([task for task in again + fresh if results.can_resend(task)])

    def _crashed(self, task: TaskRecord, cause: str, out_of_memory: bool) -> Exception:
        what = f"task {task.describe()} ({self._context.worker_id.hex()}/{task.seq}) did not finish: {cause}"
        end = f"{what}. It has no retries left (max_retries)."
        if out_of_memory:
            return errors.OutOfMemoryError(f"Task was killed due to the node running low on memory: {end}")
        return errors.WorkerCrashedError(f"The worker died unexpectedly while executing this task: {end}")

    def fail_all(self, error: bytes) -> None:
        """Fail all tasks: the daemon is gone."""
        for pool in self._by_shape.values():
            tasks = list(pool.queue)
            pool.queue.clear()
            for lease in pool.leases:
                tasks += lease.inflight.values()
                lease.inflight.clear()
            pool.leases.clear()
            for task in tasks:
                self._results.finish_with_error(task, error)

    # ------------------------------------------------------------------ messages of workers

    def returned(self, connection: Connection, message: wire.Returned) -> None:
        """Queue calls again that a worker returned before it had begun them."""
        by_lease: dict[WorkerLease, list[TaskRecord]] = {}
        for seq in message.seqs:
            task = self._tasks.at(connection, seq)
            if task is not None and task.lease is not None:
                task.connection = None
                task.lease.inflight.pop(seq, None)
                waiting = by_lease.setdefault(task.lease, [])
                if task.cancelled:
                    self._results.finish_with_error(task, cancel_error(self._context, task))
                else:
                    waiting.append(task)
                task.lease = None
        for lease, tasks in by_lease.items():
            lease.pool.returned(lease, [task for task in tasks if self._results.can_resend(task)])

    # ------------------------------------------------------------------ idle leases

    def arm_linger(self) -> None:
        """Give idle leases back after a while."""
        if self.linger is None:
            delay = self._context.config.lease_linger_ms / 1000
            self.linger = self._context.reactor.call_later(delay, self._return_idle)

    def _return_idle(self) -> None:
        self.linger = None
        since = monotonic() - self._context.config.lease_linger_ms / 1000
        left = False
        for pool in self._by_shape.values():
            left |= pool.give_back_idle(since)
        if left:
            self.arm_linger()


def _lost_its_group(task: TaskRecord, reason: str) -> errors.TaskPlacementGroupRemoved:
    return errors.TaskPlacementGroupRemoved(f"task {task.describe()} did not finish: {reason}")
