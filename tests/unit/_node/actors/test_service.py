"""What the daemon does about an actor whose process leaves before it began to be it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from skate._node.actors.service import LESSEE, ActorService
from skate._node.environments.table import Wanted
from skate._node.events import WorkerEnded
from skate._node.leases.records import Demand, Lease
from skate._node.workers.table import Workers
from skate._wire import control, node
from skate._wire.codec import pack

from ..._wire.samples import sample

ACTOR = b"a" * 16


class Node:
    """Remembers what it is asked for."""

    def __init__(self) -> None:
        self.demands: list[Wanted] = []
        self.sent: list[Any] = []
        self.workers = Workers()
        self.jobs = SimpleNamespace(has=lambda job: True)
        context = SimpleNamespace(send=lambda process, message: self.sent.append(message))
        membership = SimpleNamespace(started=self.sent.append, ended=self.sent.append)
        leases = SimpleNamespace(
            add_lessee=lambda *_: None, infeasible=lambda *_: None, too_large=lambda resources: "", demand=lambda *_: None
        )  # fmt: skip
        environments = SimpleNamespace(pool=lambda job, environment: job, demand=self.demands.append)
        parts: tuple[Any, ...] = (context, self.workers, self.jobs, membership, leases, environments, None)
        self.actors = ActorService(*parts)

    def grant(self) -> None:
        """A worker is there for the latest demand: the actor is started in it."""
        self.worker = self.workers.add(b"w", b"job", 0)
        wanted = self.demands[-1]
        assert wanted.dedicated
        demand = Demand(LESSEE, wanted.shape, b"job", {}, 0, True)
        self.lease = Lease(1, demand)
        self.lease.worker = self.worker.id
        self.actors.granted(self.lease, [])
        assert isinstance(self.sent.pop(), node.StartActor)

    def accept(self) -> None:
        connection = SimpleNamespace(peer=SimpleNamespace(id=self.worker.id))
        self.actors.handlers()[node.ActorAccepted](connection, node.ActorAccepted(ACTOR, 0))  # type: ignore[arg-type]

    def end(self, cause: str, left: str = "", intended: bool = False) -> None:
        """The worker ends."""
        ended = WorkerEnded(self.worker.id, b"job", cause, True, b"", 0, self.worker.actor, left, intended)
        self.actors.worker_died(self.lease, ended)


@pytest.fixture
def here() -> Node:
    """An actor was placed, and a worker was told to become it."""
    here = Node()
    some = sample(control.ActorSpec)
    assert isinstance(some, control.ActorSpec)
    spec = msgspec.structs.replace(
        some, job_config=b"", requirement=b"", environment=b"", placement={"CPU": 10_000}, running={}
    )
    place = control.PlaceActor(ACTOR, 0, pack(spec))
    here.actors.control_handlers()[control.PlaceActor](None, place)  # type: ignore[arg-type]
    here.grant()
    return here


def test_it_is_placed_again_if_its_process_was_about_to_leave(here: Node) -> None:
    here.end("it left", left="a function was called as often as its max_calls allows")
    assert len(here.demands) == 2 and here.sent == []


def test_it_is_placed_again_if_its_process_was_killed_before_it_accepted(here: Node) -> None:
    """Nothing of it began, so it costs no restart; but not for ever, should each of them end."""
    for times in range(1, 5):
        here.end("it was killed")
        assert len(here.demands) == times + 1 and here.sent == []
        here.grant()
    here.end("it was killed")
    (ended,) = here.sent
    assert isinstance(ended, control.ActorEnded) and len(here.demands) == 5


def test_it_is_not_placed_again_if_its_job_is_over(here: Node) -> None:
    here.jobs.has = lambda job: False
    here.end("the driver of its job ended")
    (ended,) = here.sent
    assert isinstance(ended, control.ActorEnded)


def test_else_its_end_is_reported(here: Node) -> None:
    here.accept()
    here.end("it ended", left="exit_actor() was called", intended=True)
    (ended,) = here.sent
    assert isinstance(ended, control.ActorEnded)
    assert (ended.actor_id, ended.cause, ended.intended) == (ACTOR, "it ended", True)
    assert len(here.demands) == 1


def test_what_it_needs_to_run_is_what_it_takes(here: Node) -> None:
    """A default actor needs a CPU to be placed and none to run: it starts though all CPUs are held."""
    assert [wanted.resources for wanted in here.demands] == [{}]
