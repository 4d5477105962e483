"""Threads that stopped at a breakpoint: the driver of the job is told, and the state API."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from skate._wire import node

from ..machines import Node, Worker, playing

STOP = node.Stopped("/s/debug", "f", 7, b"t" * 16, "x.py:1", "breakpoint")


@pytest.fixture
def here() -> Iterator[Node]:
    with playing():
        here = Node(1, 0, 20)
        here.settle()
        here.driver.heard.clear()
        yield here


def say(here: Node, message: Any) -> Worker:
    worker = next(iter(here.played.values()))
    worker.socket.said.append(message)
    worker.socket.drain()
    return worker


def test_the_driver_is_told_of_a_stop_and_of_its_end(here: Node) -> None:
    worker = say(here, STOP)
    breakpoints = here.daemon.breakpoints
    assert breakpoints.debugged() == {worker.id} and breakpoints.of(worker.id) == [STOP]
    (row,) = breakpoints.rows()
    assert (row["address"], row["where"], row["task_id"]) == ("/s/debug", "x.py:1", (b"t" * 16).hex())
    say(here, node.Resumed("/s/debug"))
    assert list(here.driver.heard) == [STOP, node.Resumed("/s/debug")]
    assert breakpoints.debugged() == set() and breakpoints.rows() == []


def test_a_thread_that_lost_its_terminal_stops_again(here: Node) -> None:
    say(here, STOP)
    say(here, STOP)
    assert len(here.daemon.breakpoints.rows()) == 1
    assert list(here.driver.heard) == [STOP, STOP]


def test_a_stop_ends_with_its_worker(here: Node) -> None:
    worker = say(here, STOP)
    here.crash(worker)
    here.settle()
    assert node.Resumed("/s/debug") in here.driver.heard
    assert here.daemon.breakpoints.rows() == []


def test_an_end_without_a_stop_is_no_news(here: Node) -> None:
    say(here, node.Resumed("/s/debug"))
    assert not here.driver.heard


def test_without_a_driver_the_log_says_how_to_attach(here: Node, capsys: pytest.CaptureFixture[str]) -> None:
    here.daemon.jobs._drivers.clear()
    say(here, STOP)
    assert "f (process 7) stopped at x.py:1; attach: skate debug" in capsys.readouterr().err
