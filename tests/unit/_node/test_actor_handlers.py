"""What the daemon does about an actor whose process leaves before it began to be it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from skate._node.handlers.actors import ActorHandlers
from skate._node.handlers.leases import CONTROL
from skate._node.lease_records import Lease
from skate._node.workers import WorkerProcess
from skate._wire import control, node
from skate._wire.codec import pack

from .._wire.samples import sample

ACTOR = b"a" * 16


class Daemon:
    """Remembers what it is asked for."""

    def __init__(self) -> None:
        self.demands: list[tuple[bytes, int]] = []
        self.sent: list[Any] = []
        self.membership = SimpleNamespace(started=self.sent.append, ended=self.sent.append)
        self.environments = SimpleNamespace(
            crew=lambda job, environment: job,
            demand=lambda owner, shape, *rest: self.demands.append((owner, shape)),
        )
        self.lease_handlers = SimpleNamespace(unfit=lambda *_: None, run=lambda commands: None)
        self.leases = SimpleNamespace(
            gpus=SimpleNamespace(names=lambda taken: []), demand=lambda *_: [], shrink=lambda *_: []
        )
        self.workers = {}


def told_to_become(daemon: Daemon) -> tuple[ActorHandlers, WorkerProcess]:
    """Place an actor, and have a worker granted for it that was told of it."""
    handlers = ActorHandlers(daemon)  # type: ignore[arg-type]
    some = sample(control.ActorSpec)
    assert isinstance(some, control.ActorSpec)
    spec = msgspec.structs.replace(some, job_config=b"", requirement=b"", environment=b"")
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


@pytest.mark.parametrize("accepted", [True, False])
def test_else_its_end_is_reported(accepted: bool) -> None:
    daemon = Daemon()
    handlers, worker = told_to_become(daemon)
    if accepted:
        accept(handlers, worker)
        worker.left = "exit_actor() was called"
    handlers.worker_ended(worker, "it ended", b"", 0)
    (ended,) = daemon.sent
    assert isinstance(ended, control.ActorEnded)
    assert (ended.actor_id, ended.cause, ended.intended) == (ACTOR, "it ended", accepted)
    assert len(daemon.demands) == 1
