"""The roles of a simulated session: the real control store, the real daemon, real drivers and workers."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import signal
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

from skate._base import ids
from skate._base.config import Config
from skate._base.memory import Memory
from skate._base.resources import UNIT
from skate._control.server import ControlStore
from skate._control.storage import Storage
from skate._node.daemon import Daemon, Effects
from skate._node.settings import NodeSettings
from skate._node.workers.launcher import ProgressTable
from skate._store.segment import Segments
from skate._transport.reactor import Waiter
from skate._wire import node, zygote
from skate._worker.core import Core, Kinds
from skate._worker.process.context import ProcessContext
from skate.engine.runtime import RuntimeEngine

from . import virtual
from .executor import ScriptedExecutor
from .world import Process, World

FOLDER = "/session"
#: Resources of the node beside its CPUs: names whose order in a set would depend on the hash seed.
RESOURCES = ("red", "green", "blue")
CONFIG = Config(record_call_sites=0)
#: Time from a request to fork to the child, and from an end to its report (seconds).
FORK_S, REAP_S = 0.005, 0.0005


class Log:
    """In place of a worker's pipes and its log file."""

    path, name, pid = f"{FOLDER}/log", "", 0

    def __init__(self, reactor: Any, folder: str, worker_id: bytes, job: bytes, forward: Any) -> None:
        self.job = job

    def open(self) -> tuple[int, int]:
        return -1, -1

    def start(self, pid: int) -> None:
        self.pid = pid

    def read(self) -> None:
        pass

    def drain(self) -> None:
        pass


class Launcher:
    """In place of the zygote: makes simulated workers."""

    def __init__(self, session: Session, daemon: Process, progress: ProgressTable) -> None:
        self._session = session
        self._reactor = daemon.reactor
        self._progress = progress
        self._listener: Any = None
        self.workers: dict[int, Process] = {}

    def report_to(self, listener: Any) -> None:
        self._listener = listener

    def spawn(self, worker_id: bytes, slot: int, job_config: bytes, stdout: int, stderr: int) -> None:
        self._reactor.call_later(FORK_S, lambda: self._fork(worker_id, slot, job_config))

    def _fork(self, worker_id: bytes, slot: int, job_config: bytes) -> None:
        process = self._session.make_worker(worker_id, self._progress.fd, slot, json.loads(job_config))
        self.workers[process.pid] = process

        def ended(status: int) -> None:
            del self.workers[process.pid]
            report = zygote.Exited(worker_id, process.pid, status)
            self._reactor.call_later(REAP_S, lambda: self._listener.exited(report))

        process.on_end = ended
        self._listener.spawned(zygote.Spawned(worker_id, process.pid, ""))

    def kill_group(self, pid: int) -> None:
        if pid in self.workers:
            self.workers[pid].end(signal.SIGKILL)

    def hold(self, pid: int) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def close(self) -> None:
        for process in list(self.workers.values()):
            process.end(signal.SIGKILL)


class Session:
    """One session with one driver."""

    def __init__(self, world: World, cpus: int = 2, store_capacity: int = 64 << 20) -> None:
        self.world = world
        self.driver = Process(world, "driver")
        self.workers: list[Process] = []
        self.control_process, self.control, to_control = self._start_control()
        self.daemon_process, self.daemon, to_daemon = self._start_daemon(cpus, store_capacity)
        self._lifelines = to_control, to_daemon
        with self.driver.entered():
            self.core = self._connect_driver()

    # ------------------------------------------------------------------ roles

    def _start_control(self) -> tuple[Process, ControlStore, Any]:
        process = Process(self.world, "control store")
        ours, theirs = self.world.pair(self.driver, process)
        with process.entered(), process.reactor.lock:
            store = ControlStore(process.reactor, Storage(":memory:"))
            store.serve(process.reactor.listen(f"{FOLDER}/control.sock"), theirs)
        return process, store, ours

    def _start_daemon(self, cpus: int, store_capacity: int) -> tuple[Process, Daemon, Any]:
        process = Process(self.world, "daemon")
        ours, theirs = self.world.pair(self.driver, process)
        settings = NodeSettings(
            node_id=ids.new_node_id().hex(), session_dir=FOLDER, resources=dict.fromkeys(("CPU", *RESOURCES), cpus * UNIT),
            store_capacity=store_capacity, spill_folder=FOLDER, gpus=[], config=CONFIG._asdict(), driver_fd=1,
            listen_fd=-1, hostname="host", labels={},
        )  # fmt: skip
        self.progress_fd = os.memfd_create("progress")
        os.ftruncate(self.progress_fd, 16 * 64)
        progress = ProgressTable(self.progress_fd)
        probe = SimpleNamespace(
            of_machine=lambda: Memory(0, 100),
            of_process=lambda pid, with_children=True: 0,
            killed_by_kernel=lambda: 0,
        )
        self.segments = Segments()
        effects = Effects(
            reactor=process.reactor,
            launcher=cast(Any, Launcher(self, process, progress)),
            progress=progress,
            open_log=cast(Any, Log),
            prepare=cast(Any, None),
            segments=self.segments,
            copier=cast(Any, SimpleNamespace(has_outcomes=False)),
            memory=probe,
            supervisor=None,
        )
        with process.entered(), process.reactor.lock:
            daemon = Daemon(settings, effects)
            daemon.start(process.reactor.listen(f"{FOLDER}/node.sock"), theirs)
        return process, daemon, ours

    def _connect_driver(self) -> Core:
        reactor = self.driver.reactor
        context = ProcessContext("driver", ids.new_worker_id(), FOLDER, CONFIG, reactor)
        core = Core(context)
        self.driver.adopt(core, RuntimeEngine(core))
        with context.lock:
            core.peers.listen()
            registered = core.control.join(reactor.dial(f"{FOLDER}/control.sock"), "program")
        self.wait(registered)
        assert registered.answer is not None
        context.job_id = registered.answer.data
        context.job_config = {
            "config": CONFIG._asdict(), "job_id": context.job_id.hex(), "job_owner": context.worker_id.hex(),
            "namespace": "",
        }  # fmt: skip
        with context.lock:
            core.connect_node(reactor.dial(f"{FOLDER}/node.sock"), json.dumps(context.job_config).encode())
        self.wait(core.daemon.welcomed)
        return core

    def make_worker(self, worker_id: bytes, progress_fd: int, slot: int, job: dict[str, Any]) -> Process:
        """Make a worker, which connects to the daemon."""
        process = Process(self.world, f"worker {len(self.workers) + 1}")
        self.workers.append(process)
        with process.entered():
            context = ProcessContext("worker", worker_id, FOLDER, Config(**job["config"]), process.reactor)
            context.job_id, context.job_owner = bytes.fromhex(job["job_id"]), bytes.fromhex(job["job_owner"])
            context.node_id, context.job_config = bytes.fromhex(job["node_id"]), job
            core = Core(context, Kinds(executor=ScriptedExecutor))
            executor = core.add_executor(mmap.mmap(progress_fd, os.fstat(progress_fd).st_size), slot)
            assert isinstance(executor, ScriptedExecutor)
            executor.process = process
            core.daemon.on_lost = lambda reason: process.end(signal.SIGKILL)
            process.adopt(core, RuntimeEngine(core))
            with context.lock:
                core.peers.listen()
                core.connect_node(process.reactor.dial(f"{FOLDER}/node.sock"))
                process.reactor.flush()
        return process

    # ------------------------------------------------------------------ running

    def run(self, program: Callable[[], Any]) -> Any:
        """Run a program as the driver; return what it returns."""
        with self.driver.entered():
            return program()

    def wait(self, waiter: Waiter, seconds: float = 10.0) -> None:
        """Wait as the driver."""
        assert self.driver.reactor.wait(waiter, virtual.time.now + seconds), "it took too long"

    def let_pass(self, seconds: float) -> None:
        """Let virtual time pass, while the driver does nothing."""
        with self.driver.entered():
            assert not self.driver.reactor.wait(Waiter(), virtual.time.now + seconds)

    def close(self) -> None:
        """End the session as ``shutdown`` does, and all its processes."""
        with self.driver.entered():
            context = self.core.context
            with context.lock:
                context.dead_reason = "this session was shut down"
                self.core.daemon.send(node.Shutdown())
                self.core.daemon.flush()
            self.driver.reactor.wait(self.core.daemon.left, virtual.time.now + 1)
            for lifeline in self._lifelines:
                lifeline.close()
            self.driver.reactor.wait(Waiter(), virtual.time.now + 1)
            self.core.close()
        self.driver.end(0)
        for fd in (*self.segments._fds.values(), self.progress_fd):
            os.close(fd)
