"""A node daemon without its processes: the real daemon, on a played machine whose drivers, workers, zygote and
control store are played, too. Every message waits until it is delivered, so that those of different processes may
overtake each other in any way that sockets allow."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast
from unittest import mock

import msgspec

from skate._base.config import Config
from skate._base.memory import Memory
from skate._base.resources import UNIT, fits
from skate._node.actors.placements import Placement
from skate._node.actors.service import LESSEE
from skate._node.clients import Client
from skate._node.daemon import Daemon, Effects
from skate._node.leases.records import Grant, LeaseState
from skate._node.settings import NodeSettings
from skate._store.segment import Segments
from skate._wire import control, node, zygote
from skate._wire.codec import PROTOCOL, pack

from .._wire.samples import sample

DRIVER = b"driver.."
#: What tasks of the driver need, by shape.
SHAPES = {1: {"CPU": UNIT}, 2: {"CPU": UNIT, "GPU": UNIT}, 3: {}}


class Log:
    """In place of ``logs.WorkerLog``."""

    path, name, pid = "log", "", 0

    def __init__(self, *_: Any) -> None:
        self.job = DRIVER

    def open(self) -> tuple[int, int]:
        return 0, 0

    def start(self, pid: int) -> None:
        pass

    def read(self) -> None:
        pass

    def drain(self) -> None:
        pass


class Socket:
    """The daemon's end of a connection; ``said`` is on its way to the daemon, ``heard`` to the process."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.said: deque[Any] = deque()
        self.heard: deque[Any] = deque()
        self.closed = False
        self.peer = Client(False)
        self.peer.connection = cast(Any, self)

    def send(self, message: Any) -> None:
        assert not self.closed
        self.heard.append(message)

    def send_with_fd(self, message: Any, fd: int) -> None:
        self.send(message)

    def deliver(self) -> bool:
        """Dispatch one message, or the end of the stream (None)."""
        if self.closed or not self.said:
            return False
        message = self.said.popleft()
        if message is None:
            self.close("the peer closed the connection")
        else:
            self.node.daemon.handlers[type(message)](cast(Any, self), message)
        return True

    def drain(self) -> None:
        while self.deliver():
            pass

    def flush_all(self, deadline: float) -> None:
        pass

    def refuse(self, refused: Any) -> None:
        self.close(f"the peer {refused.what}")

    def close(self, reason: str) -> None:
        if not self.closed:
            self.closed = True
            self.node.daemon.connections.disconnected(cast(Any, self))


class Worker:
    """A worker process."""

    def __init__(self, worker_id: bytes, socket: Socket) -> None:
        self.id = worker_id
        self.socket = socket
        self.alive = True
        #: It said that it leaves, and reads no more.
        self.leaving = False
        self.actor: tuple[bytes, int] | None = None
        socket.said.append(node.Hello("worker", worker_id, 1, "address", PROTOCOL, b""))

    def leave(self, reason: str) -> None:
        self.socket.said.append(node.Leaving(reason))
        self.leaving = True


class Machine:
    """The effects of a daemon: timers run when they are told to, processes are played."""

    def __init__(self) -> None:
        self.timers: list[Any] = []
        #: Orders to the zygote.
        self.spawning: deque[bytes] = deque()
        #: Bytes of memory in use of 100, and of each process by pid.
        self.memory_used = 0
        self.sizes: dict[int, int] = {}
        self.stopped = False
        #: Objects that are to be copied to disk.
        self.copies: list[Any] = []
        reactor = SimpleNamespace(
            call_later=lambda delay, callback: self.timers.append(callback), stop=self._stop, dirty=[],
            register=lambda *_: None, unregister=lambda *_: None, modify=lambda *_: None, polling=False, blocked_in_poll=False,
        )  # fmt: skip
        launcher = SimpleNamespace(
            report_to=lambda listener: None,
            spawn=lambda worker_id, *_: self.spawning.append(worker_id),
            preload=lambda modules: None,
            kill_group=lambda pid: None,
            close=lambda: None,
        )
        progress = SimpleNamespace(
            take_slot=lambda: 0,
            release_slot=lambda slot: None,
            last_begun=lambda slot: (b"", 0),
            is_repeatable=lambda slot: True,
        )
        probe = SimpleNamespace(
            of_machine=lambda: Memory(self.memory_used, 100),
            of_process=lambda pid, with_children=True: self.sizes.get(pid, 0),
            killed_by_kernel=lambda: 0,
        )
        copier = SimpleNamespace(copy=self.copies.append, has_outcomes=False)
        self.effects = Effects(
            reactor=cast(Any, reactor),
            launcher=cast(Any, launcher),
            progress=cast(Any, progress),
            open_log=Log,
            prepare=cast(Any, None),
            segments=Segments(),
            copier=cast(Any, copier),
            memory=cast(Any, probe),
            supervisor=None,
        )

    def _stop(self) -> None:
        self.stopped = True


class Node:
    """The daemon, and the processes around it."""

    def __init__(self, cpus: int, gpus: int, max_workers: int) -> None:
        self.machine = Machine()
        settings = NodeSettings(
            node_id="aa", session_dir="", resources={"CPU": cpus * UNIT, "GPU": gpus * UNIT}, store_capacity=1 << 20,
            spill_folder="", gpus=[str(index) for index in range(gpus)], driver_fd=-1, listen_fd=-1, hostname="host",
            labels={}, config=Config()._replace(max_workers=max_workers)._asdict(),
        )  # fmt: skip
        daemon = self.daemon = Daemon(settings, self.machine.effects)
        self.leases, self.workers = daemon.lease_table, daemon.worker_table
        daemon.membership.started = self._started  # type: ignore[method-assign]
        daemon.membership.ended = self._ended  # type: ignore[method-assign]
        self._grant = daemon.leases._grant
        daemon.leases._grant = self._granted  # type: ignore[method-assign]
        #: Processes, what the zygote says, and what the control store was told of actors.
        self.played: dict[bytes, Worker] = {}
        self.zygote: deque[Any] = deque()
        self.alive: dict[bytes, int] = {}
        self.over: dict[bytes, str] = {}
        self.driver = Socket(self)
        self.driver.said.append(
            node.Hello("driver", DRIVER, 1, "address", PROTOCOL, msgspec.json.encode({"cwd": ""}))
        )
        self.driver.deliver()

    def _granted(self, command: Grant) -> None:
        worker = self.workers.get(command.lease.worker)
        assert worker is not None and worker.connection is not None, "granted, and nobody can be told"
        assert not worker.left and not worker.reason, "granted, though it is known to end"
        self._grant(command)

    def _started(self, message: control.ActorStarted) -> None:
        if message.error:
            self.over[message.actor_id] = "its constructor raised"
        else:
            self.alive[message.actor_id] = message.incarnation

    def _ended(self, message: control.ActorEnded) -> None:
        assert message.actor_id not in self.over, "its end was told twice"
        self.over[message.actor_id] = message.cause
        self.alive.pop(message.actor_id, None)

    # ------------------------------------------------------------------ what processes do

    def fork(self, works: bool) -> None:
        """The zygote carries out the oldest order."""
        worker_id = self.machine.spawning.popleft()
        if not works:
            self.zygote.append(zygote.Spawned(worker_id, 0, "no memory"))
            return
        self.zygote.append(zygote.Spawned(worker_id, 1 << 29, ""))
        socket = Socket(self)
        self.played[worker_id] = Worker(worker_id, socket)

    def hear(self) -> None:
        """Deliver what the zygote said first."""
        message = self.zygote.popleft()
        if isinstance(message, zygote.Spawned):
            self.daemon.workers.spawned(message)
        else:
            self.daemon.workers.exited(message)

    def crash(self, worker: Worker) -> None:
        """The process ends: its stream does, and the zygote reaps it."""
        if worker.alive:
            worker.alive = False
            worker.socket.said.append(None)
            self.zygote.append(zygote.Exited(worker.id, 1, 9))

    def read(self, worker: Worker, refuses: bool = False) -> bool:
        """The process takes one message of the daemon."""
        if not worker.alive or not worker.socket.heard:
            return False
        message = worker.socket.heard.popleft()
        said = worker.socket.said
        if worker.leaving:
            pass  # its main thread has left already
        elif isinstance(message, node.Exit):
            if refuses:
                said.append(node.ExitRefused())
            else:
                worker.leave("it was idle")
        elif isinstance(message, node.OwnerLeft):
            said.append(node.ExitRefused())
        elif isinstance(message, node.StartActor):
            if refuses:
                said.append(node.ActorRefused(message.actor_id, message.incarnation))
            else:
                worker.actor = (message.actor_id, message.incarnation)
                said.append(node.ActorAccepted(*worker.actor))
                said.append(node.ActorReady(*worker.actor, b"", ""))
        elif isinstance(message, node.EndActor):
            worker.leave(message.reason)
        return True

    def place(self, actor_id: bytes, running: dict[str, int], placement: dict[str, int]) -> None:
        """The control store wants an actor here."""
        spec = sample(control.ActorSpec)
        assert isinstance(spec, control.ActorSpec)
        spec = msgspec.structs.replace(
            spec, job_config=b"", requirement=b"", environment=b"", running=running, placement=placement,
            owner_job=DRIVER, owner_id=DRIVER,
        )  # fmt: skip
        message = control.PlaceActor(actor_id, 0, pack(spec))
        self.daemon.actors.control_handlers()[control.PlaceActor](cast(Any, None), message)

    def stop(self, actor_id: bytes, graceful: bool) -> None:
        """The control store wants it no more."""
        message = control.StopActor(actor_id, 0, "ray.kill", graceful)
        self.daemon.actors.control_handlers()[control.StopActor](cast(Any, None), message)

    def time_passes(self) -> None:
        """Run what was put off."""
        timers, self.machine.timers = self.machine.timers, []
        for callback in timers:
            callback()

    def settle(self) -> None:
        """Let everything that is under way arrive; processes that leave are gone, all others do their part."""
        moved = True
        while moved:
            moved = False
            for process in list(self.workers):
                # ``kill_group`` reaches no played process: those that it was called for end here.
                if process.reason and process.id in self.played:
                    self.crash(self.played[process.id])
            while self.machine.spawning:
                self.fork(True)
                moved = True
            for worker in list(self.played.values()):
                moved |= self.read(worker)
                moved |= worker.socket.deliver()
                if worker.leaving and worker.alive:
                    self.crash(worker)
                    moved = True
            moved |= self.driver.deliver()
            while self.zygote:
                self.hear()
                moved = True

    # ------------------------------------------------------------------ what holds

    def waiting_actors(self) -> list[Placement]:
        """Return the actors that have no worker."""
        return list(self.daemon.actors._placements._waiting.values())

    def check(self) -> None:
        """Check what holds after each event."""
        living = {worker.id for worker in self.workers}
        for lease in self.leases.leases.values():
            if lease.state is not LeaseState.RESERVED:
                assert lease.worker in living, f"lease {lease.id} is of a dead worker"
                process = self.workers.get(lease.worker)
                assert process is not None
                if lease.owner == LESSEE:
                    assert process.actor is not None, "an actor's lease without an actor"
        placed = [one.actor[0] for one in self.waiting_actors()]
        assert len(placed) == len(set(placed)), "an actor is placed twice"
        for process in self.workers:
            if process.actor is not None and not process.exited:
                assert process.actor[0] not in placed, "an actor that has a worker is placed"

    def check_at_rest(self, wanted: dict[int, int]) -> None:
        """Check what holds when nothing is under way: whoever waits, waits for what is not free."""
        self.check()
        leases = list(self.leases.leases.values())
        assert all(lease.state is not LeaseState.RESERVED for lease in leases), (
            "it waits for a worker for ever"
        )
        used: dict[str, int] = {}
        for lease in leases:
            for name, units in lease.resources.items():
                used[name] = used.get(name, 0) + units
        for name, units in self.leases.total.items():
            assert self.leases.free[name] + used.get(name, 0) == units, f"{name} is held by nobody"
        for shape, count in wanted.items():
            held = sum(lease.owner == DRIVER and lease.shape == shape for lease in leases)
            assert held >= count or not fits(SHAPES[shape], self.leases.free), (
                f"shape {shape} waits for nothing"
            )
        for placement in self.waiting_actors():
            assert not fits(placement.spec.running, self.leases.free), "an actor waits for what is free"


@contextmanager
def playing() -> Iterator[None]:
    """Name the workers of the daemons that are made inside in their order."""
    names = (b"w%07d" % number for number in itertools.count())
    with mock.patch("skate._node.workers.service.ids.new_worker_id", lambda: next(names)):
        yield
