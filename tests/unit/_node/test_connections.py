"""Processes say hello and hang up: the real daemon on a played machine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from skate._base.resources import UNIT
from skate._wire import node
from skate._wire.codec import PROTOCOL
from skate._wire.handshake import WRONG_PEER

from .machines import DRIVER, Node, Socket, playing

CPU = {"CPU": UNIT}
OTHER = b"other..."


@pytest.fixture
def here() -> Iterator[Node]:
    with playing():
        here = Node(2, 0, 20)
        here.settle()
        yield here


def hello(here: Node, kind: str, process: bytes, error: str = "") -> Socket:
    """A process dials and says hello."""
    socket = Socket(here)
    config = msgspec.json.encode({"cwd": ""}) if kind == "driver" else b""
    socket.said.append(node.Hello(kind, process, 7, "/s/other", PROTOCOL, config, error))
    socket.deliver()
    return socket


def said(socket: Socket, kind: type[Any]) -> list[Any]:
    return [one for one in socket.heard if isinstance(one, kind)]


def test_a_driver_is_welcome_and_has_workers_started_for_it(here: Node) -> None:
    before = len(here.workers)
    driver = hello(here, "driver", OTHER)
    (welcome,) = said(driver, node.Welcome)
    assert welcome.node_id == here.daemon.context.node_id
    assert here.daemon.context.clients.ids()[-1] == OTHER
    assert here.daemon.jobs.has(OTHER)
    assert len(here.machine.spawning) == 2 and len(here.workers) == before + 2, "a worker for each CPU"
    assert {worker.job for worker in here.workers} == {DRIVER, OTHER}


@pytest.mark.parametrize("taken", [DRIVER, b"", b"too long to be an id", b"actors"])
def test_a_name_that_is_taken_or_no_process_s_is_refused(here: Node, taken: bytes) -> None:
    before = here.daemon.context.clients.ids()
    driver = hello(here, "driver", taken)
    assert driver.closed and not driver.heard
    assert here.daemon.context.clients.ids() == before
    assert here.daemon.jobs.has(DRIVER), "the end of the impostor is not the driver's"


def test_a_worker_that_this_daemon_did_not_start_is_refused(here: Node) -> None:
    worker = hello(here, "worker", OTHER)
    assert worker.closed and OTHER not in here.daemon.context.clients


def test_a_second_hello_of_a_worker_does_not_end_the_first(here: Node) -> None:
    first = next(iter(here.played.values()))
    impostor = hello(here, "worker", first.id)
    assert impostor.closed and not first.socket.closed
    assert here.workers.get(first.id) is not None
    assert first.id in here.daemon.context.clients


def test_an_observer_is_no_client(here: Node) -> None:
    observer = hello(here, "observer", OTHER)
    assert not observer.closed and OTHER not in here.daemon.context.clients
    observer.close("it has seen enough")
    assert here.daemon.jobs.has(DRIVER)


def test_a_worker_whose_setup_hook_failed_has_its_demands_refused(here: Node) -> None:
    here.driver.said.append(node.LeaseDemand(1, CPU, 9, 0))
    here.driver.drain()
    worker_id = here.daemon.worker_table.add(b"hook....", DRIVER, 0).id
    here.daemon.workers._logs[worker_id] = here.daemon.workers._open_log()
    worker = hello(here, "worker", worker_id, error="the hook raised ValueError")
    assert worker.closed
    (refused,) = said(here.driver, node.DemandRefused)
    assert (refused.shape, refused.reason, refused.environment) == (1, "the hook raised ValueError", True)


def test_a_driver_that_hangs_up_leaves_nothing(here: Node) -> None:
    here.driver.said.append(node.LeaseDemand(1, CPU, 2, 0))
    here.settle()
    assert here.leases.free["CPU"] == 0
    here.driver.close("the peer closed the connection")
    assert {process.reason for process in here.workers} == {"the driver of its job ended"}
    assert not here.daemon.jobs.has(DRIVER) and here.daemon.jobs.driver_of(DRIVER) is None
    here.settle()
    assert len(here.workers) == 0 and here.leases.free == here.leases.total and not here.leases.waiting
    ended = {row["worker_type"] for row in here.daemon.context.ended_processes}
    assert ended == {"DRIVER", "WORKER"}


def test_the_owner_of_objects_learns_that_their_creator_died(here: Node) -> None:
    store = here.daemon.store
    worker = next(iter(here.played.values()))
    grant = store.allocate(worker.id, 4096)
    assert grant is not None
    store.seal(worker.id, DRIVER + bytes(8), DRIVER, grant.extent, "task")
    here.crash(worker)
    here.settle()
    (died,) = said(here.driver, node.CreatorDied)
    assert (died.worker_id, died.object_ids) == (worker.id, [DRIVER + bytes(8)])


def test_a_driver_of_several_that_leaves_ends_its_own_job(here: Node) -> None:
    other = hello(here, "driver", OTHER)
    here.settle()
    other.said.append(node.Shutdown())
    other.deliver()
    assert isinstance(other.heard[-1], node.Shutdown), "after everything that its workers printed"
    assert not here.machine.stopped
    assert {process.job for process in here.workers if process.reason} == {OTHER}


@pytest.mark.parametrize("asks", [True, False])
def test_the_session_ends_with_the_driver_that_started_it(here: Node, asks: bool) -> None:
    lifeline = Socket(here)
    lifeline.peer.is_lifeline = True
    if asks:
        lifeline.said.append(node.Shutdown())
        lifeline.deliver()
    else:
        lifeline.close("the peer closed the connection")
    assert here.machine.stopped and here.daemon.context.closing
    assert {process.reason for process in here.workers} == {"the session ended"}


def test_an_observer_may_end_a_session_that_belongs_to_no_driver(here: Node) -> None:
    observer = hello(here, "observer", OTHER)
    observer.said.append(node.Shutdown())
    observer.deliver()
    assert here.machine.stopped


def test_a_refusal_names_the_peer_as_the_cause(here: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    refusals: list[Any] = []
    monkeypatch.setattr(Socket, "refuse", lambda socket, refused: refusals.append(refused))
    hello(here, "worker", OTHER)
    hello(here, "driver", DRIVER)
    assert [refused.code for refused in refusals] == [WRONG_PEER, WRONG_PEER]
