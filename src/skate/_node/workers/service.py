"""Drivers and workers come and go: hello, death certificates, output, the end of the session."""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec

from skate._base import descriptors, ids, memory
from skate._base.backoff import Backoff
from skate._base.clock import monotonic
from skate._node.workers.launcher import Orphan, kill_group, stopped
from skate._node.workers.logs import WorkerLog, fatal_traceback, last_words
from skate._node.workers.table import WorkerProcess
from skate._transport.connection import Connection, Handler
from skate._wire import node, zygote
from skate._wire.codec import pack
from skate._wire.handshake import WRONG_PEER, Refused

if TYPE_CHECKING:
    from skate._node.daemon import Daemon

#: A driver that has this much unread output is slow: workers wait with theirs.
_LOG_BACKLOG = 1 << 20
#: Workers forked before anybody asks, at most.
_PRESTART = 8
#: Processes that ended, remembered for those who look.
_DEAD_KEPT = 1000
#: A worker that says that it leaves may take so long (seconds): ``atexit`` functions are user code.
_LEAVING = 10.0


class Client:
    """A connected process, before and after its hello."""

    connection: Connection

    def __init__(self, is_lifeline: bool) -> None:
        self.is_lifeline = is_lifeline
        self.id = b""
        self.kind = ""
        #: The driver whose job this process works for.
        self.job = b""
        #: The job and environment of workers that it asks for without naming another environment.
        self.crew = b""
        self.pid = 0
        #: When it said hello (seconds since 1970).
        self.since = 0.0
        #: Segments whose descriptor it has.
        self.segments: set[int] = set()

    def __repr__(self) -> str:
        return f"{self.kind or 'unknown process'} {self.id.hex()}"


class ProcessHandlers:
    """The daemon's part about processes."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._logs: dict[bytes, WorkerLog] = {}
        self._job_configs: dict[bytes, bytes] = {}
        self._kernel_kills = memory.killed_by_kernel()
        #: Of processes that ended: the newest last, as ``handlers.state`` tells the living ones.
        self.dead: deque[dict[str, Any]] = deque(maxlen=_DEAD_KEPT)
        self._drivers: dict[bytes, Connection] = {}
        #: Of a detached actor's job: the job that created it, whose driver shows its output.
        self._parents: dict[bytes, bytes] = {}

    def table(self) -> dict[type, Handler]:
        """Return which message goes where."""
        return {node.Hello: self._hello, node.Leaving: self._leaving, node.Shutdown: self._shutdown,
                node.ExitRefused: self._exit_refused, node.KillTask: self._kill_task,
                node.LeaseBroken: self._lease_broken}  # fmt: skip

    # ------------------------------------------------------------------ coming

    def _hello(self, connection: Connection, hello: node.Hello) -> None:
        client: Client = connection.peer
        daemon = self._daemon
        if len(hello.worker_id) != ids.WORKER_ID_SIZE or hello.worker_id in daemon.clients:
            # Ids are made at random; the empty one stands for the control store where leases have owners.
            what = f"says that its id is {hello.worker_id.hex()!r}, which is none or another process's"
            connection.refuse(Refused(WRONG_PEER, what))
            return
        if hello.kind == "worker":
            worker = daemon.workers.connected(hello.worker_id, connection, hello.address)
            if worker is None:
                connection.refuse(Refused(WRONG_PEER, "is not a worker that this daemon started"))
                return
        client.id, client.kind, client.pid = hello.worker_id, hello.kind, hello.pid
        client.since = time.time()
        if hello.kind == "observer":
            return
        if hello.kind == "driver":
            client.job = hello.worker_id
            self._job_configs[client.job] = self._here(hello.job_config)
            self._drivers[client.job] = connection
            connection.send(node.Welcome(daemon.node_id, pack(daemon.config._asdict())))
            client.crew = daemon.environments.crew(client.job, hello.environment)
            cpus = daemon.settings.resources.get("CPU", 0) // 10_000
            daemon.environments.ahead(client.id, client.crew, min(max(cpus, 1), _PRESTART))
        else:
            assert worker is not None
            client.job, client.crew = worker.job, worker.crew
            worker.times[2] = time.time()
            if hello.error:
                worker.reason = hello.error
                worker.address = ""  # it never was ready
                daemon.environments.hook_failed(worker.crew, hello.error)
                connection.close("its setup hook failed")
                return
        daemon.clients[client.id] = client
        if hello.kind == "worker":
            if worker is not None and worker.reason:  # it was killed before it said hello
                daemon.leases.worker_ending(client.id)
            daemon.lease_handlers.run(daemon.leases.worker_ready(client.id, client.crew))

    # ------------------------------------------------------------------ starting

    def add_job(self, job: bytes, job_config: bytes, parent: bytes) -> None:
        """A detached actor is to run here: it is the root of a job of its own."""
        self._job_configs[job] = self._here(job_config)
        self._parents[job] = parent

    def _here(self, job_config: bytes) -> bytes:
        """Add what workers of this node must know of it."""
        return msgspec.json.encode(
            msgspec.json.decode(job_config) | {"node_id": self._daemon.settings.node_id}
        )

    def roots(self) -> list[bytes]:
        """Return the detached actors that are the roots of jobs here."""
        return list(self._parents)

    def has_job(self, job: bytes) -> bool:
        """Tell whether its driver (or the detached actor that is its root) is still there."""
        return job in self._job_configs

    def job_settings(self, job: bytes) -> dict[str, Any]:
        """Return what the job's driver told: variables, paths, folder."""
        found: dict[str, Any] = msgspec.json.decode(self._job_configs[job])
        return found

    def end_job(self, job: bytes, reason: str) -> None:
        """Nothing is to work for the job any more."""
        self._daemon.environments.end_job(job)
        self._job_configs.pop(job, None)
        self._parents.pop(job, None)
        for worker in self._daemon.workers.of_job(job):
            self.kill(worker, reason, intended=True)

    def start_workers(self, crew: bytes, count: int) -> None:
        """Fork workers for a job, in one of its environments."""
        daemon = self._daemon
        job = daemon.environments.job_of(crew)
        job_config = self._job_configs.get(job)
        if job_config is None:
            return  # its driver left
        job_config = daemon.environments.config(crew, job_config)
        daemon.leases.starting(crew, count)
        for _ in range(count):
            self._start_worker(crew, job, job_config, Backoff(monotonic()))

    def _start_worker(self, crew: bytes, job: bytes, job_config: bytes, attempts: Backoff) -> None:
        daemon = self._daemon
        worker_id = ids.new_worker_id()
        log = WorkerLog(
            daemon.reactor,
            os.path.join(daemon.settings.session_dir, "logs"),
            worker_id,
            job,
            self._forward,
        )
        try:
            out, err = log.open()
        except OSError as error:
            self._start_later(crew, job, job_config, attempts, error)
            return
        worker = daemon.workers.add(worker_id, job, daemon.board.take(), crew)
        worker.times[0] = time.time()
        self._logs[worker_id] = log
        daemon.launcher.spawn(worker_id, worker.slot, job_config, out, err)

    def _start_later(
        self, crew: bytes, job: bytes, job_config: bytes, attempts: Backoff, error: OSError
    ) -> None:
        """This daemon has no descriptors for a worker's pipes: try again for a while, then say so."""
        daemon = self._daemon
        pause = attempts.again(monotonic())
        if pause is None:
            cause = f"the node daemon {descriptors.explain(error)}"
            daemon.event("ERROR", "WORKERS", f"cannot start a worker: {cause}")
            daemon.lease_handlers.run(daemon.leases.worker_not_started(crew, cause))
            return

        def again() -> None:
            if daemon.closing or not self.has_job(job):
                daemon.lease_handlers.run(daemon.leases.worker_not_started(crew, "its job ended"))
            else:
                self._start_worker(crew, job, job_config, attempts)

        daemon.reactor.call_later(pause, again)

    def spawned(self, message: zygote.Spawned) -> None:
        """The zygote forked it."""
        worker = self._daemon.workers.get(message.worker_id)
        if worker is None:
            return
        if not message.pid:
            worker.reason = f"it could not be forked: {message.error}"
            self._ended(self._daemon.workers.exited(message.worker_id, None))
            return
        worker.pid = message.pid
        worker.times[1] = time.time()
        self._logs[message.worker_id].start(message.pid)
        if worker.reason:  # it was to be killed before its pid was known
            kill_group(worker.pid)

    # ------------------------------------------------------------------ going

    def kill(self, worker: WorkerProcess, reason: str, intended: bool = False) -> None:
        """End a worker's process group; its certificate will name the reason."""
        worker.reason = worker.reason or reason
        worker.intended = worker.intended or intended
        if worker.address:
            self._daemon.leases.worker_ending(worker.id)
        if worker.pid:
            kill_group(worker.pid)

    def _kill_task(self, connection: Connection, message: node.KillTask) -> None:
        """An owner cancelled a call with force, and its worker does not hear it."""
        daemon, owner = self._daemon, connection.peer.id
        lease = daemon.leases.leases.get(message.lease)
        worker = daemon.workers.get(lease.worker) if lease is not None and lease.owner == owner else None
        if worker is None or not worker.pid or daemon.board.read(worker.slot) != (owner, message.seq):
            return
        with stopped(worker.pid):
            # What it runs cannot change now: no other call dies in place of this one.
            if daemon.board.read(worker.slot) == (owner, message.seq):
                self.kill(worker, "its task was cancelled with force", intended=True)

    def _lease_broken(self, connection: Connection, message: node.LeaseBroken) -> None:
        """An owner and its worker lost each other, and the worker lives: nobody knows which calls it has
        done."""
        lease = self._daemon.leases.leases.get(message.lease)
        if lease is None or lease.owner != connection.peer.id:
            return
        worker = self._daemon.workers.get(lease.worker)
        if worker is not None and not worker.exited:
            self.kill(worker, f"the connection to the process that had leased it was lost ({message.reason})")

    def exited(self, message: zygote.Exited) -> None:
        """The zygote reaped it."""
        worker = self._daemon.workers.get(message.worker_id)
        if worker is not None and worker.connection is not None:
            worker.connection.drain()  # what it said last, and the end of the stream
        if worker is not None and worker.connection is not None:
            worker.connection.close("its process ended")
        self._ended(self._daemon.workers.exited(message.worker_id, message.status))

    def zygote_died(self, how: str) -> None:
        """Workers that run go on; what was being forked is forked again by the next zygote."""
        daemon = self._daemon
        if daemon.closing:
            return
        daemon.event("WARNING", "WORKERS", f"the zygote {how}; starting another")
        daemon.launcher.start()
        first = True
        for worker in daemon.workers:
            if not worker.pid:
                worker.reason = "its zygote died while forking it"
                self._ended(daemon.workers.exited(worker.id, None), failed_alone=first)
                first = False
                continue
            try:
                Orphan(daemon.reactor, worker.pid, lambda w=worker.id: self._orphan_exited(w))  # type: ignore[misc]
            except ProcessLookupError:
                self._orphan_exited(worker.id)

    def _orphan_exited(self, worker_id: bytes) -> None:
        worker = self._daemon.workers.get(worker_id)
        if worker is not None and worker.connection is not None:
            worker.connection.drain()
        if worker is not None and worker.connection is not None:
            worker.connection.close("its process ended")
        self._ended(self._daemon.workers.exited(worker_id, None))

    def disconnected(self, connection: Connection) -> None:
        """A client's stream ended."""
        client: Client = connection.peer
        daemon = self._daemon
        if client.is_lifeline:
            daemon.shutdown("the driver of this session ended")
            return
        if daemon.clients.get(client.id) is client:
            del daemon.clients[client.id]
            daemon.state.ended(client.id)
        if client.kind == "driver":
            self._driver_left(client)
        elif client.kind == "worker":
            worker = daemon.workers.get(client.id)
            if worker is not None and worker.address:
                daemon.leases.worker_ending(worker.id)
            if worker is not None and not worker.exited and worker.pid:
                kill_group(worker.pid)  # without its daemon a worker is nothing; do not wait for it
            self._ended(daemon.workers.disconnected(client.id))

    def _driver_left(self, client: Client) -> None:
        daemon = self._daemon
        self._drivers.pop(client.job, None)
        self.dead.append(
            {
                "worker_id": client.id.hex(),
                "worker_type": "DRIVER",
                "pid": client.pid,
                "job": client.job.hex(),
                "state": "DEAD",
                "times": [0.0, 0.0, client.since, time.time()],
                "exit_type": "INTENDED_USER_EXIT",
                "exit_detail": "its program ended, or left the session",
            }
        )
        daemon.environments.owner_gone(client.id)
        self.end_job(client.job, "the driver of its job ended")
        daemon.objects.process_ended(client.id)
        daemon.lease_handlers.run(daemon.leases.owner_gone(client.id))

    def _ended(self, worker: WorkerProcess | None, *, failed_alone: bool = True) -> None:
        """A worker is dead, and all that it said is read: tell everybody concerned.

        ``failed_alone``: no other one that was being started ended for the same cause.
        """
        if worker is None:
            return
        daemon = self._daemon
        log = self._logs.pop(worker.id)
        log.drain()
        begun_owner, begun_seq = daemon.board.read(worker.slot)
        daemon.board.give_back(worker.slot)
        if daemon.closing:
            return
        self._find_evidence(worker, log.path)
        cause = worker.certificate(log.path)
        self._remember(worker, cause)
        if not worker.intended and worker.pid:
            daemon.event("ERROR", "WORKERS", cause)
        daemon.breakpoints.ended(worker.id)
        daemon.objects.process_ended(worker.id)
        if not worker.address:
            if not worker.reason:
                daemon.log(f"it had not said hello: {cause}")
            commands = daemon.leases.worker_not_started(worker.crew, cause, counts=failed_alone)
            lease = None
        else:
            daemon.environments.owner_gone(worker.id)
            lease, commands = daemon.leases.worker_lost(worker.id)
            commands += daemon.leases.owner_gone(worker.id)
        if worker.actor is not None:
            daemon.actors.worker_ended(worker, cause, begun_owner, begun_seq)
        elif lease is not None:
            owner = daemon.clients.get(lease.owner)
            if owner is not None:
                owner.connection.send(
                    node.WorkerDied(lease.id, worker.id, cause, begun_owner, begun_seq, worker.out_of_memory)
                )
        daemon.lease_handlers.run(commands)

    def _remember(self, worker: WorkerProcess, cause: str) -> None:
        """Keep what is known of a dead worker, for those who look."""
        worker.times[3] = time.time()
        self.dead.append(
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
        """Look for what the wait status alone does not say."""
        kills, self._kernel_kills = self._kernel_kills, memory.killed_by_kernel()
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
        daemon = self._daemon
        worker = daemon.workers.get(connection.peer.id)
        if worker is None:
            return
        worker.left = message.reason
        worker.intended = message.intended
        daemon.leases.worker_ending(worker.id)
        if worker.actor is None:  # an actor's farewell has its own limit
            daemon.reactor.call_later(_LEAVING, lambda: self._lose_patience(worker))

    def _lose_patience(self, worker: WorkerProcess) -> None:
        """A worker that left is still there: whoever sent it something would wait for ever."""
        if not worker.exited:
            self.kill(worker, f"it left ({worker.left}), and did not end within {_LEAVING:.0f} s")

    def retire_idle(self) -> None:
        """Ask idle workers beyond the node's CPUs to end."""
        daemon = self._daemon
        keep = max(1, daemon.settings.resources.get("CPU", 0) // 10_000)
        for worker_id in daemon.leases.take_idle(keep):
            worker = daemon.workers.get(worker_id)
            if worker is not None and worker.connection is not None:
                worker.connection.send(node.Exit())

    def _exit_refused(self, connection: Connection, message: node.ExitRefused) -> None:
        daemon = self._daemon
        daemon.lease_handlers.run(daemon.leases.put_back(connection.peer.id))

    def _shutdown(self, connection: Connection, message: node.Shutdown) -> None:
        client: Client = connection.peer
        if client.is_lifeline:
            self._daemon.shutdown("the driver asked for it")
        elif client.kind == "driver":
            self._leave(client)
        elif self._daemon.settings.driver_fd < 0:
            self._daemon.shutdown("it was asked to stop")

    def _leave(self, client: Client) -> None:
        """A driver of several leaves: end its job, and give it what its workers printed last."""
        self.end_job(client.job, "the driver of its job ended")
        for log in self._logs.values():
            if log.job == client.job:
                log.drain()
        client.connection.send(node.Shutdown())

    # ------------------------------------------------------------------ output

    def driver_of(self, job: bytes) -> Connection | None:
        """Return the driver that is told of what happens in a job, if it is (still) there."""
        return self._drivers.get(job) or self._drivers.get(self._parents.get(job, b""))

    def log_of(self, worker: bytes) -> WorkerLog | None:
        """Return the log of a living worker."""
        return self._logs.get(worker)

    def _forward(self, log: WorkerLog, is_error: bool, text: str) -> bool:
        """Pass lines on to the driver. False: it is slow."""
        driver = self.driver_of(log.job)
        if driver is None:
            return True
        driver.send(node.LogLines(log.name, log.pid, is_error, text))
        return driver.queued_bytes < _LOG_BACKLOG

    def tell_driver(self, job: bytes, name: str, pid: int, text: str) -> None:
        """Have the job's driver show whole lines, as if a process of that name had printed them."""
        driver = self.driver_of(job)
        if driver is not None:
            driver.send(node.LogLines(name, pid, True, text))

    def drain_logs(self) -> None:
        """Pass on everything that is still in pipes."""
        for log in self._logs.values():
            log.drain()
