"""A node and its control store: what is reported, and reported again to the next one."""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace
from typing import Any, cast

import pytest

from skate._base import clock
from skate._node.cluster import membership as module
from skate._node.cluster.membership import Membership
from skate._wire import control

STARTED = control.ActorStarted(b"a" * 16, 0, b"w1", "/s/w1", b"")
ENDED = control.ActorEnded(b"a" * 16, 0, "it crashed", False, b"", 0)


class Connection:
    close_reason = "the peer closed the connection"

    def __init__(self, reactor: Any, sock: Any, handlers: Any, on_close: Any) -> None:
        self.sent: list[Any] = []
        self.handlers, self.on_close = handlers, on_close

    def send(self, message: Any) -> None:
        self.sent.append(message)


class Node:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.timers: list[tuple[float, Any]] = []
        self.connections: list[Connection] = []
        self.lines: list[str] = []
        self.errors: list[OSError] = []
        self.hosted: list[tuple[bytes, int]] = []
        monkeypatch.setattr(clock, "monotonic", lambda: self.now)
        monkeypatch.setattr(module, "Connection", self._connect)
        settings = SimpleNamespace(session_dir="/s", hostname="host", resources={"CPU": 10_000})
        self.context = SimpleNamespace(
            settings=settings, node_id=b"n" * 16, pid=7, labels={}, closing=False, log=self.lines.append,
            ended_processes=deque([{"worker_id": "ab"}]),
            reactor=SimpleNamespace(
                dial=self._dial,
                call_later=lambda delay, callback: self.timers.append((delay, callback)),
            ),
        )  # fmt: skip
        jobs = SimpleNamespace(detached_actors=lambda: [b"d" * 16])
        self.groups: list[tuple[bytes, int, bool]] = [(b"group", 1, True)]
        self.joined: list[bool] = []
        self.membership = Membership(
            cast(Any, self.context), cast(Any, jobs), handlers=lambda: {control.StopActor: print},
            hosted=lambda: self.hosted, free=lambda: {"CPU": 5_000},
            groups=lambda: self.groups, joined=lambda: self.joined.append(True),
        )  # fmt: skip

    def _dial(self, path: str) -> Any:
        assert path == "/s/control.sock"
        if self.errors:
            raise self.errors.pop()
        return "socket"

    def _connect(self, *args: Any) -> Connection:
        connection = Connection(*args)
        self.connections.append(connection)
        return connection

    def lose(self) -> None:
        connection = self.connections[-1]
        connection.on_close(connection)

    def time_passes(self) -> float:
        """Run the timer; return its delay."""
        ((delay, callback),) = self.timers
        self.timers.clear()
        self.now += delay
        callback()
        return delay


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Node:
    here = Node(monkeypatch)
    here.membership.join()
    return here


def test_it_registers_with_all_that_it_has(here: Node) -> None:
    register, update = here.connections[0].sent
    assert isinstance(register, control.RegisterNode)
    assert (register.node_id, register.address, register.resources) == (
        b"n" * 16,
        "/s/node.sock",
        {"CPU": 10_000},
    )
    assert register.groups == [(b"group", 1, True)]
    assert update == control.NodeUpdate({"CPU": 5_000}) and here.joined == [True]
    assert control.StopActor in here.connections[0].handlers


def test_reports_are_repeated_to_the_next_control_store(here: Node) -> None:
    here.membership.started(STARTED)
    assert here.connections[0].sent[-1] == STARTED
    here.hosted = [(b"a" * 16, 0)]
    here.now += 60
    here.lose()
    assert here.time_passes() == 0, "it was there for long: it is dialled at once"
    assert STARTED in _reports(here)
    here.membership.ended(ENDED)
    here.lose()
    here.time_passes()
    assert _reports(here) == [ENDED], "its end is all that matters"


def _reports(here: Node) -> list[Any]:
    """Return the reports about actors with which the node registered at the newest control store."""
    register = here.connections[-1].sent[0]
    assert isinstance(register, control.RegisterNode)
    return register.reports


def test_what_happens_without_a_control_store_is_told_to_the_next(here: Node) -> None:
    here.lose()
    here.membership.ended(ENDED)
    here.time_passes()
    assert _reports(here) == [ENDED]


def test_one_that_hangs_up_at_once_is_not_dialled_without_a_pause(here: Node) -> None:
    for _ in range(3):
        here.lose()
        assert here.time_passes() > 0.1
    assert len(here.connections) == 4


def test_without_descriptors_it_dials_later(here: Node) -> None:
    here.lose()
    here.errors = [OSError(24, "Too many open files")]
    here.time_passes()
    assert len(here.connections) == 1
    here.time_passes()
    assert len(here.connections) == 2


def test_a_control_store_that_is_given_up_is_not_dialled_again(here: Node) -> None:
    here.lose()
    here.errors = [ConnectionRefusedError(111, "Connection refused")]
    here.time_passes()
    assert here.timers == [] and "the control store is gone" in here.lines[-1]
    here.membership.report_free({})  # dropped


def test_nothing_is_dialled_at_the_end_of_the_session(here: Node) -> None:
    here.context.closing = True
    here.lose()
    assert here.timers == []
    here.membership.join()
    assert len(here.connections) == 1
