"""What workers print: nothing is passed on before it is known whose it is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from skate._node.workers.logs import WorkerLog


class Reactor:
    """Reads what it is told to read, when it is told to."""

    def __init__(self) -> None:
        self.watched: dict[int, Any] = {}

    def register(self, fd: int, handler: Any, events: int = 0) -> None:
        self.watched[fd] = handler

    def unregister(self, fd: int) -> None:
        del self.watched[fd]

    def turn(self) -> None:
        for handler in list(self.watched.values()):
            handler.handle(0)


@pytest.fixture
def reactor() -> Reactor:
    return Reactor()


@pytest.fixture
def told() -> list[tuple[int, str, bool, str]]:
    return []


@pytest.fixture
def log(reactor: Reactor, told: list[Any], tmp_path: Path) -> Iterator[WorkerLog]:
    def forward(log: WorkerLog, is_error: bool, text: str) -> bool:
        told.append((log.pid, log.name, is_error, text))
        return True

    made = WorkerLog(reactor, str(tmp_path), b"w", b"j", forward)  # type: ignore[arg-type]
    yield made
    made.drain()


def test_output_waits_for_the_pid(log: WorkerLog, reactor: Reactor, told: list[Any]) -> None:
    out, err = log.open()
    os.write(out, b"\x1etask\nearly\n")
    reactor.turn()
    log.read()
    assert told == []
    log.start(7)
    reactor.turn()
    assert told == [(7, "task", False, "early\n")]
    os.write(err, b"later\n")
    reactor.turn()
    assert told[1:] == [(7, "task", True, "later\n")]
    os.close(out)
    os.close(err)


def test_a_worker_that_was_never_forked(log: WorkerLog, reactor: Reactor, told: list[Any]) -> None:
    for end in log.open():
        os.close(end)
    log.drain()
    assert (told, reactor.watched) == ([], {})


def test_what_is_left_is_read_at_the_end(log: WorkerLog, told: list[Any]) -> None:
    out, err = log.open()
    log.start(7)
    os.write(out, b"last words")
    os.close(out)
    os.close(err)
    log.drain()
    assert told == [(7, "", False, "last words\n")]
