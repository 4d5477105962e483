"""Memory runs short on a played machine: which worker is ended, and what its lessee learns."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from skate._base.resources import UNIT
from skate._node.workers.table import WorkerProcess
from skate._wire import node

from ..machines import Node, playing

CPU = {"CPU": UNIT}


@pytest.fixture
def here() -> Iterator[Node]:
    """Two workers run tasks, the larger one was started later."""
    with playing():
        here = Node(2, 0, 20)
        here.settle()
        here.driver.said.append(node.LeaseDemand(1, CPU, 2, 0))
        here.settle()
        for number, process in enumerate(here.workers):
            process.pid = 100 + number
            here.machine.sizes[process.pid] = 10 + number
        yield here


def ended(here: Node) -> list[WorkerProcess]:
    return [process for process in here.workers if process.reason]


def test_nothing_ends_while_there_is_memory(here: Node) -> None:
    here.machine.memory_used = 95
    here.time_passes()
    assert ended(here) == []


def test_the_newest_ends_and_its_lessee_learns_why(here: Node) -> None:
    here.time_passes()
    here.machine.memory_used = 96
    here.time_passes()
    (process,) = ended(here)
    assert process.pid == 101 and process.out_of_memory
    assert process.reason.startswith("memory ran short: 96 bytes of the machine's")
    here.driver.heard.clear()
    here.settle()
    (died,) = [one for one in here.driver.heard if isinstance(one, node.WorkerDied)]
    assert (died.worker_id, died.out_of_memory) == (process.id, True)
    (event,) = [one for one in here.daemon.context.events if one["source_type"] == "MEMORY"]
    assert event["message"].startswith("ending a task (process 101)")


def test_one_ends_at_a_time(here: Node) -> None:
    here.machine.memory_used = 96
    here.time_passes()
    here.time_passes()
    assert len(ended(here)) == 1, "the memory of the first is on its way back"
    here.settle()
    here.time_passes()
    assert len(ended(here)) == 1 and ended(here)[0].pid == 100


def test_a_worker_that_is_being_debugged_is_spared(here: Node) -> None:
    newest = next(process for process in here.workers if process.pid == 101)
    stopped = node.Stopped("/s/debug", "f", 101, b"t" * 16, "x.py:1", "breakpoint")
    here.daemon.handlers[node.Stopped](newest.connection, stopped)
    here.machine.memory_used = 96
    here.time_passes()
    assert [process.pid for process in ended(here)] == [100]


def test_nobody_looks_while_nothing_runs(here: Node) -> None:
    granted = [one for one in here.driver.heard if isinstance(one, node.LeaseGranted)]
    here.driver.said.append(node.LeaseDemand(1, CPU, 0, 0))
    here.driver.said.extend(node.LeaseReturned(one.lease) for one in granted)
    here.settle()
    for _ in range(5):
        here.time_passes()
    assert here.machine.timers == []
    here.machine.memory_used = 99
    here.driver.said.append(node.LeaseDemand(1, CPU, 1, 0))
    here.settle()
    here.time_passes()
    assert len(ended(here)) == 1
