"""Actors of the real daemon on a played machine: what ``Placements`` decides reaches those concerned."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from skate._base.resources import UNIT
from skate._node.actors.service import LESSEE
from skate._node.workers.table import WorkerProcess
from skate._wire import node

from ..machines import DRIVER, Node, Worker, playing

CPU = {"CPU": UNIT}
ACTOR = b"a" * 16


@pytest.fixture
def here() -> Iterator[Node]:
    with playing():
        here = Node(1, 0, 20)
        here.settle()
        yield here


def told_to_become_it(here: Node) -> tuple[Worker, WorkerProcess]:
    """Place the actor, and return the worker that is told to become it, and has not read that."""
    here.place(ACTOR, {}, CPU)
    for process in here.workers:
        if process.actor is not None:
            return here.played[process.id], process
    raise AssertionError("no worker was told")


def test_a_default_actor_starts_though_all_cpus_are_held(here: Node) -> None:
    here.driver.said.append(node.LeaseDemand(1, CPU, 1, 0))
    here.settle()
    assert here.leases.free["CPU"] == 0
    here.place(ACTOR, {}, CPU)
    here.settle()
    assert ACTOR in here.alive


def test_one_that_runs_needs_its_cpus(here: Node) -> None:
    here.driver.said.append(node.LeaseDemand(1, CPU, 1, 0))
    here.settle()
    here.place(ACTOR, CPU, CPU)
    here.settle()
    assert ACTOR not in here.alive
    assert here.daemon.actors.hosted() == [(ACTOR, 0)]
    (granted,) = [one for one in here.driver.heard if isinstance(one, node.LeaseGranted)]
    here.driver.said.extend([node.LeaseDemand(1, CPU, 0, 0), node.LeaseReturned(granted.lease)])
    here.settle()
    assert ACTOR in here.alive


def test_another_worker_becomes_it_if_one_is_killed_before_it_reads_that(here: Node) -> None:
    _, process = told_to_become_it(here)
    here.daemon.workers.kill(process, "memory was short")
    here.settle()
    assert ACTOR in here.alive and here.workers.get(process.id) is None


def test_another_worker_becomes_it_if_one_refuses(here: Node) -> None:
    worker, process = told_to_become_it(here)
    here.read(worker, refuses=True)
    here.settle()
    assert ACTOR in here.alive
    assert process.actor is None, "it serves tasks again"


def test_it_is_over_with_its_worker_if_its_driver_left(here: Node) -> None:
    told_to_become_it(here)
    here.driver.close("the peer closed the connection")
    here.settle()
    assert list(here.over) == [ACTOR]
    assert "the driver of its job ended" in here.over[ACTOR]
    assert here.daemon.actors.hosted() == []


def test_one_that_does_not_end_in_time_is_killed(here: Node) -> None:
    _, process = told_to_become_it(here)
    here.settle()
    worker = here.played[process.id]
    here.stop(ACTOR, True)
    assert isinstance(worker.socket.heard[-1], node.EndActor)
    worker.socket.heard.clear()  # its code does not return
    here.time_passes()
    assert process.reason == "ray.kill, and it did not end by itself"
    here.settle()
    assert "it did not end by itself" in here.over[ACTOR]


def test_its_owner_learns_why_it_waits(here: Node) -> None:
    here.place(ACTOR, {"CPU": 9 * UNIT}, {"CPU": 9 * UNIT})
    (refused,) = [one for one in here.driver.heard if isinstance(one, node.DemandRefused)]
    assert refused.reason.endswith("it needs {CPU: 9}, and this node has {CPU: 1} in all")
    assert (refused.shape, refused.fatal) == (-1, False)


def test_lessees_that_are_no_processes_have_ids_that_no_process_has(here: Node) -> None:
    assert len(LESSEE) != len(DRIVER)
