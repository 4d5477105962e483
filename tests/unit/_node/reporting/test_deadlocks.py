"""When the daemon looks for deadlocks, and what it does about one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from skate._wire import node
from skate._wire.codec import pack

from ..machines import Node, Worker, playing


@pytest.fixture
def here() -> Iterator[Node]:
    with playing():
        here = Node(1, 0, 20)
        here.settle()
        here.time_passes()
        yield here


def worker_of(here: Node) -> Worker:
    worker = next(iter(here.played.values()))
    worker.socket.heard.clear()
    return worker


def say(worker: Worker, message: Any) -> None:
    worker.socket.said.append(message)
    worker.socket.drain()


def answer(here: Node, worker: Worker, number: int = 1, *, stuck: bool = True) -> None:
    """All processes tell their waits: an actor's method waits for a call that is queued behind it."""
    process = worker.id.hex()
    call = {"name": "f", "worker": process, "actor": "actor", "needs": []}
    row = {
        "process": process,
        "calls": [{**call, "task_id": task} for task in ("f", "h")],
        "lanes": [{"slots": 1, "running": ["f"], "queued": ["h"]}],
        "waits": [
            {"number": number, "caller": "f", "objects": ["h0000"], "certain": stuck, "where": "x.py:1", "seconds": 2.0}
        ],
    }  # fmt: skip
    for socket, rows in ((worker.socket, [row]), (here.driver, [])):
        for asked in [one for one in socket.heard if isinstance(one, node.StateAsk)]:
            socket.heard.remove(asked)
            socket.said.append(node.StateRows(asked.request, pack(rows)))
            socket.drain()


def raised(worker: Worker) -> list[node.Deadlocked]:
    return [one for one in worker.socket.heard if isinstance(one, node.Deadlocked)]


def test_one_that_is_found_twice_is_raised_in_its_wait(here: Node) -> None:
    worker = worker_of(here)
    say(worker, node.Waiting(True))
    here.time_passes()
    answer(here, worker, 7)
    assert raised(worker) == [], "rows are not taken at one moment"
    here.time_passes()
    answer(here, worker, 7)
    (found,) = raised(worker)
    assert found.number == 7 and "f" in found.text
    assert [one["source_type"] for one in here.daemon.context.events] == ["DEADLOCK"]


def test_another_wait_at_the_second_look_is_no_deadlock(here: Node) -> None:
    worker = worker_of(here)
    say(worker, node.Waiting(True))
    for number in range(5):
        here.time_passes()
        answer(here, worker, number)
    assert raised(worker) == []


def test_a_wait_with_a_timeout_is_none(here: Node) -> None:
    worker = worker_of(here)
    say(worker, node.Waiting(True))
    for _ in range(3):
        here.time_passes()
        answer(here, worker, stuck=False)
    assert raised(worker) == []


def test_no_process_is_asked_while_none_waits(here: Node) -> None:
    worker = worker_of(here)
    say(worker, node.Waiting(True))
    say(worker, node.Waiting(False))
    here.time_passes()
    assert not [one for one in worker.socket.heard if isinstance(one, node.StateAsk)]
    assert here.machine.timers == []


def test_the_waits_of_a_worker_end_with_it(here: Node) -> None:
    worker = worker_of(here)
    say(worker, node.Waiting(True))
    here.crash(worker)
    here.settle()
    here.driver.heard.clear()
    here.time_passes()
    assert not [one for one in here.driver.heard if isinstance(one, node.StateAsk)]
