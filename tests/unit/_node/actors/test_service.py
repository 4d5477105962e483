"""What the daemon does about an actor whose process leaves before it began to be it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec

from skate._node.actors.service import ActorHandlers
from skate._node.leases.records import Lease
from skate._node.leases.service import CONTROL
from skate._node.workers.table import WorkerProcess
from skate._wire import control, node
from skate._wire.codec import pack

from ..._wire.samples import sample

ACTOR = b"a" * 16


class Daemon:
    """Remembers what it is asked for."""

    def __init__(self) -> None:
        self.demands: list[tuple[bytes, int]] = []
        self.sent: list[Any] = []
        self.membership = SimpleNamespace(started=self.sent.append, ended=self.sent.append)
        self.wanted: list[dict[str, int]] = []
        self.environments = SimpleNamespace(crew=lambda job, environment: job, demand=self._demand)
        self.lease_handlers = SimpleNamespace(
            unfit=lambda *_: None, too_large=lambda resources: "", run=lambda commands: None
        )
        self.leases = SimpleNamespace(gpus=SimpleNamespace(names=lambda taken: []), demand=lambda *_: [])
        self.processes = SimpleNamespace(has_job=lambda job: True)
        self.workers = {}

    def _demand(self, owner: bytes, shape: int, crew: bytes, needs: dict[str, int], *_: Any) -> None:
        self.demands.append((owner, shape))
        self.wanted.append(needs)


def told_to_become(daemon: Daemon) -> tuple[ActorHandlers, WorkerProcess]:
    """Place an actor, and have a worker granted for it that was told of it."""
    handlers = ActorHandlers(daemon)  # type: ignore[arg-type]
    some = sample(control.ActorSpec)
    assert isinstance(some, control.ActorSpec)
    spec = msgspec.structs.replace(
        some, job_config=b"", requirement=b"", environment=b"", placement={"CPU": 10_000}, running={}
    )
    handlers.control_table()[control.PlaceActor](None, control.PlaceActor(ACTOR, 0, pack(spec)))  # type: ignore[arg-type]
    worker = WorkerProcess(b"w", b"job", 0, b"job")
    worker.connection = SimpleNamespace(send=daemon.sent.append)
    daemon.workers[worker.id] = worker
    (demand,) = daemon.demands
    handlers.granted(Lease(1, CONTROL, demand[1], b"job", {}), worker)
    assert isinstance(daemon.sent.pop(), node.StartActor)
    return handlers, worker


def accept(handlers: ActorHandlers, worker: WorkerProcess) -> None:
    connection = SimpleNamespace(peer=SimpleNamespace(id=worker.id))
    handlers.table()[node.ActorAccepted](connection, node.ActorAccepted(ACTOR, 0))  # type: ignore[arg-type]


def test_it_is_placed_again_if_its_process_was_about_to_leave() -> None:
    daemon = Daemon()
    handlers, worker = told_to_become(daemon)
    worker.left = "a function was called as often as its max_calls allows"
    handlers.worker_ended(worker, "it left", b"", 0)
    assert len(daemon.demands) == 2 and daemon.sent == []


def test_it_is_placed_again_if_its_process_was_killed_before_it_accepted() -> None:
    """Nothing of it began, so it costs no restart; but not for ever, should each of them end."""
    daemon = Daemon()
    handlers, worker = told_to_become(daemon)
    for times in range(1, 5):
        handlers.worker_ended(worker, "it was killed", b"", 0)
        assert len(daemon.demands) == times + 1 and daemon.sent == []
        handlers.granted(Lease(1, CONTROL, daemon.demands[-1][1], b"job", {}), worker)
        assert isinstance(daemon.sent.pop(), node.StartActor)
    handlers.worker_ended(worker, "it was killed", b"", 0)
    (ended,) = daemon.sent
    assert isinstance(ended, control.ActorEnded) and len(daemon.demands) == 5


def test_it_is_not_placed_again_if_its_job_is_over() -> None:
    daemon = Daemon()
    handlers, worker = told_to_become(daemon)
    daemon.processes.has_job = lambda job: False
    handlers.worker_ended(worker, "the driver of its job ended", b"", 0)
    (ended,) = daemon.sent
    assert isinstance(ended, control.ActorEnded)


def test_else_its_end_is_reported() -> None:
    daemon = Daemon()
    handlers, worker = told_to_become(daemon)
    accept(handlers, worker)
    worker.left, worker.intended = "exit_actor() was called", True
    handlers.worker_ended(worker, "it ended", b"", 0)
    (ended,) = daemon.sent
    assert isinstance(ended, control.ActorEnded)
    assert (ended.actor_id, ended.cause, ended.intended) == (ACTOR, "it ended", True)
    assert len(daemon.demands) == 1


def test_what_it_needs_to_run_is_what_it_takes() -> None:
    """A default actor needs a CPU to be placed and none to run: it starts though all CPUs are held."""
    daemon = Daemon()
    told_to_become(daemon)
    assert daemon.wanted == [{}]
