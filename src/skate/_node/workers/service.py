"""Starts worker processes, follows them until they are dead, and publishes how each of them ended."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from skate._base import clock, descriptors, ids
from skate._base.backoff import Backoff
from skate._node.context import NodeContext
from skate._node.events import WorkerEnded
from skate._node.jobs import Jobs
from skate._node.leases.service import LeaseService
from skate._node.workers.launcher import Launcher, ProgressTable
from skate._node.workers.logs import WorkerLog, fatal_traceback, last_words
from skate._node.workers.table import WorkerProcess, WorkerTable
from skate._transport.connection import Connection, Handler
from skate._wire import node, zygote

#: A worker that announced that it leaves is killed after this time: ``atexit`` functions are user code.
_LEAVE_TIMEOUT_S = 10.0


class WorkerService:
    """The worker processes of this node.

    Args:
        context: of the daemon.
        table: their states.
        progress: the tasks that they began last.
        launcher: starts and ends processes; this part becomes its listener.
        jobs: take their output.
        leases: learn which workers can be leased.
        worker_config: returns the job and the configuration of workers of a pool; None: the job is over.
        open_log: makes the log of a worker.
        count_kernel_kills: returns how many processes the kernel has ended for want of memory.
    """

    def __init__(
        self,
        context: NodeContext,
        table: WorkerTable,
        progress: ProgressTable,
        launcher: Launcher,
        jobs: Jobs,
        leases: LeaseService,
        *,
        worker_config: Callable[[bytes], tuple[bytes, bytes] | None],
        open_log: Callable[..., WorkerLog],
        count_kernel_kills: Callable[[], int],
    ) -> None:
        self._context = context
        self._table = table
        self._progress = progress
        self._launcher = launcher
        self._jobs = jobs
        self._leases = leases
        self._worker_config = worker_config
        self._open_log = open_log
        self._count_kernel_kills = count_kernel_kills
        #: Called with the end of each worker, in this order; ``daemon.py`` lists them.
        self.on_ended: list[Callable[[WorkerEnded], None]] = []
        self._logs: dict[bytes, WorkerLog] = {}
        self._kernel_kills = count_kernel_kills()
        launcher.report_to(self)

    def handlers(self) -> dict[type, Handler]:
        """Return the handlers of this part's messages."""
        return {node.Leaving: self._leaving, node.KillTask: self._kill_task,
                node.LeaseBroken: self._lease_broken, node.Preload: self._preload}  # fmt: skip

    def _preload(self, connection: Connection, message: node.Preload) -> None:
        self._launcher.preload(message.modules)

    # ------------------------------------------------------------------ starting

    def start(self, pool: bytes, count: int) -> None:
        """Fork workers for a worker pool."""
        found = self._worker_config(pool)
        if found is None:
            return  # its driver left
        job, config = found
        self._leases.workers_starting(pool, count)
        for _ in range(count):
            self._start_one(pool, job, config, Backoff(clock.monotonic()))

    def _start_one(self, pool: bytes, job: bytes, config: bytes, attempts: Backoff) -> None:
        worker_id = ids.new_worker_id()
        folder = os.path.join(self._context.settings.session_dir, "logs")
        log = self._open_log(self._context.reactor, folder, worker_id, job, self._forward)
        try:
            out, err = log.open()
        except OSError as error:
            self._start_later(pool, job, config, attempts, error)
            return
        worker = self._table.add(worker_id, job, self._progress.take_slot(), pool)
        worker.times[0] = clock.time()
        self._logs[worker_id] = log
        self._launcher.spawn(worker_id, worker.slot, config, out, err)

    def _start_later(self, pool: bytes, job: bytes, config: bytes, attempts: Backoff, error: OSError) -> None:
        """Try again for a while, then give up: this daemon has no descriptors for a worker's pipes."""
        pause = attempts.again(clock.monotonic())
        if pause is None:
            cause = f"the node daemon {descriptors.explain(error)}"
            self._context.event("ERROR", "WORKERS", f"cannot start a worker: {cause}")
            self._leases.worker_not_started(pool, cause)
            return

        def again() -> None:
            if self._context.closing or not self._jobs.has(job):
                self._leases.worker_not_started(pool, "its job ended")
            else:
                self._start_one(pool, job, config, attempts)

        self._context.reactor.call_later(pause, again)

    def spawned(self, message: zygote.Spawned) -> None:
        """Note the pid of a worker that the zygote forked."""
        worker = self._table.get(message.worker_id)
        if worker is None:
            return
        if not message.pid:
            worker.reason = f"it could not be forked: {message.error}"
            self._ended(self._table.exited(message.worker_id, None))
            return
        worker.pid = message.pid
        worker.times[1] = clock.time()
        self._logs[message.worker_id].start(message.pid)
        if worker.reason:  # it was to be killed before its pid was known
            self._launcher.kill_group(worker.pid)

    def connected(self, connection: Connection, hello: node.Hello) -> WorkerProcess | None:
        """Take the hello of a worker. None: this daemon did not start it, or it said hello before."""
        worker = self._table.connected(hello.worker_id, connection, hello.address)
        if worker is not None:
            worker.times[2] = clock.time()
            if hello.error:  # its setup hook failed: it never is ready
                worker.reason = hello.error
                worker.address = ""
                worker.hook_failed = True
        return worker

    def ready(self, worker: WorkerProcess) -> None:
        """Have a worker leased whose hello was accepted."""
        if worker.reason:  # it was killed before it said hello
            self._leases.worker_ending(worker.id)
        self._leases.worker_ready(worker.id, worker.pool)

    # ------------------------------------------------------------------ ending

    def kill(
        self, worker: WorkerProcess, reason: str, intended: bool = False, out_of_memory: bool = False
    ) -> None:
        """End a worker's process group; its exit report will name the reason."""
        worker.reason = worker.reason or reason
        worker.intended = worker.intended or intended
        worker.out_of_memory = worker.out_of_memory or out_of_memory
        if worker.address:
            self._leases.worker_ending(worker.id)
        if worker.pid:
            self._launcher.kill_group(worker.pid)

    def end(self, worker_id: bytes, reason: str) -> None:
        """End a worker, if it is (still) there, and for good what runs in it."""
        worker = self._table.get(worker_id)
        if worker is not None:
            self.kill(worker, reason, intended=True)

    def job_ended(self, job: bytes, reason: str) -> None:
        """End the workers of a job that is over."""
        for worker in self._table.of_job(job):
            self.kill(worker, reason, intended=True)

    def _kill_task(self, connection: Connection, message: node.KillTask) -> None:
        """End a worker whose task was cancelled with force, unless it runs another one by now."""
        task = connection.peer.id, message.seq
        worker = self._table.get(self._leases.leased_worker(message.lease, connection.peer.id))
        if worker is None or not worker.pid or self._progress.last_begun(worker.slot) != task:
            return
        with self._launcher.hold(worker.pid):
            # It begins no other task now, which would be lost in place of this one.
            if self._progress.last_begun(worker.slot) == task:
                self.kill(worker, "its task was cancelled with force", intended=True)

    def _lease_broken(self, connection: Connection, message: node.LeaseBroken) -> None:
        """End a worker that lost the connection to its lessee: it is unknown which calls it has done."""
        worker = self._table.get(self._leases.leased_worker(message.lease, connection.peer.id))
        if worker is not None and not worker.exited:
            self.kill(worker, f"the connection to the process that had leased it was lost ({message.reason})")

    def exited(self, message: zygote.Exited) -> None:
        """Read what a worker said last, whose process the zygote reaped."""
        self._exited(message.worker_id, message.status)

    def _exited(self, worker_id: bytes, status: int | None) -> None:
        worker = self._table.get(worker_id)
        if worker is not None and worker.connection is not None:
            worker.connection.drain()  # what it said last, and the end of the stream
        if worker is not None and worker.connection is not None:
            worker.connection.close("its process ended")
        self._ended(self._table.exited(worker_id, status))

    def zygote_died(self, how: str) -> None:
        """Start another zygote, fork what the last one was forking, and watch the workers that run."""
        if self._context.closing:
            return
        self._context.event("WARNING", "WORKERS", f"the zygote {how}; starting another")
        self._launcher.start()
        first = True
        for worker in self._table:
            if not worker.pid:
                worker.reason = "its zygote died while forking it"
                self._ended(self._table.exited(worker.id, None), counts_as_failed_start=first)
                first = False
                continue
            try:
                self._launcher.watch(worker.pid, lambda w=worker.id: self._exited(w, None))  # type: ignore[misc]
            except ProcessLookupError:
                self._exited(worker.id, None)

    def disconnected(self, worker_id: bytes) -> None:
        """End a worker whose connection ended."""
        worker = self._table.get(worker_id)
        if worker is not None and worker.address:
            self._leases.worker_ending(worker.id)
        if worker is not None and not worker.exited and worker.pid:
            self._launcher.kill_group(worker.pid)  # it can do nothing without its daemon
        self._ended(self._table.disconnected(worker_id))

    def _ended(self, worker: WorkerProcess | None, *, counts_as_failed_start: bool = True) -> None:
        """Publish the end of a worker that is dead, and whose messages are all read."""
        if worker is None:
            return
        log = self._logs.pop(worker.id)
        log.drain()
        begun_owner, begun_seq = self._progress.last_begun(worker.slot)
        self._progress.release_slot(worker.slot)
        if self._context.closing:
            return
        self._find_evidence(worker, log.path)
        cause = worker.describe_exit(log.path)
        self._remember(worker, cause)
        if not worker.intended and worker.pid:
            self._context.event("ERROR", "WORKERS", cause)
        if not worker.address and not worker.reason:
            self._context.log(f"it had not said hello: {cause}")
        event = WorkerEnded(
            worker.id, worker.pool, cause, bool(worker.address), begun_owner, begun_seq, worker.actor,
            worker.left, worker.intended, worker.out_of_memory,
            # Those who waited for a worker whose hook failed know why; the next ones have not asked yet.
            counts_as_failed_start and not worker.hook_failed,
        )  # fmt: skip
        for ended in self.on_ended:
            ended(event)

    def _remember(self, worker: WorkerProcess, cause: str) -> None:
        """Keep what is known of a dead worker, for the state API."""
        worker.times[3] = clock.time()
        self._context.remember_ended(
            {
                "worker_id": worker.id.hex(),
                "worker_type": "WORKER",
                "pid": worker.pid,
                "job": worker.job.hex(),
                "state": "DEAD",
                "actor_id": worker.actor[0].hex() if worker.actor is not None else "",
                "name": worker.name,
                "times": worker.times,
                "exit_type": worker.exit_type(),
                "exit_detail": cause,
            }
        )

    def _find_evidence(self, worker: WorkerProcess, log_path: str) -> None:
        """Look for what the wait status alone does not show."""
        kills, self._kernel_kills = self._kernel_kills, self._count_kernel_kills()
        if worker.reason or worker.status is None:
            return
        if not os.WIFSIGNALED(worker.status):
            if os.WEXITSTATUS(worker.status) and not worker.left:
                worker.evidence = last_words(log_path)
                worker.out_of_memory = bool(worker.evidence)
            return
        if os.WTERMSIG(worker.status) == signal.SIGKILL:
            if self._kernel_kills > kills:
                worker.out_of_memory = True
                worker.evidence = "the kernel ended it, because the machine or container ran out of memory"
        else:
            worker.evidence = fatal_traceback(log_path)

    # ------------------------------------------------------------------ leaving on purpose

    def _leaving(self, connection: Connection, message: node.Leaving) -> None:
        worker = self._table.get(connection.peer.id)
        if worker is None:
            return
        worker.left = message.reason
        worker.intended = message.intended
        self._leases.worker_ending(worker.id)
        if worker.actor is None:  # the end of an actor has a limit of its own
            self._context.reactor.call_later(_LEAVE_TIMEOUT_S, lambda: self._kill_leaving(worker))

    def _kill_leaving(self, worker: WorkerProcess) -> None:
        """Kill a worker that left and is still there: messages sent to it are not read any more."""
        if not worker.exited:
            self.kill(worker, f"it left ({worker.left}), and did not end within {_LEAVE_TIMEOUT_S:.0f} s")

    # ------------------------------------------------------------------ output

    def _forward(self, log: WorkerLog, is_error: bool, text: str) -> bool:
        return self._jobs.forward(log.job, log.name, log.pid, is_error, text)

    def read_output(self, worker_id: bytes) -> None:
        """Pass on what a living worker has printed so far."""
        log = self._logs.get(worker_id)
        if log is not None:
            log.read()

    def drain_output(self, job: bytes | None = None) -> None:
        """Pass on everything that is still in the pipes of a job's workers; None: of all workers."""
        for log in self._logs.values():
            if job is None or log.job == job:
                log.drain()

    def close(self, reason: str) -> None:
        """Kill every worker, and pass on what they printed last."""
        for worker in self._table:
            self.kill(worker, reason)
        self.drain_output()
