"""Who is asked for the state, who is waited for, and what is told of those that do not answer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from skate._node.reporting.state import StateHandlers
from skate._node.workers.service import Client
from skate._wire import node
from skate._wire.codec import pack, unpack


class Daemon:
    """Two processes; timers run when they are told to."""

    def __init__(self) -> None:
        self.timers: list[Any] = []
        self.reactor = SimpleNamespace(call_later=lambda delay, callback: self.timers.append(callback))
        self.sent: dict[bytes, list[Any]] = {b"a": [], b"b": []}
        self.clients = {name: self.client(name) for name in self.sent}
        self.workers: list[Any] = []
        self.processes = SimpleNamespace(dead=[])
        self.environments = self.breakpoints = SimpleNamespace(rows=list)
        self.state = StateHandlers(cast(Any, self))
        self.answers: list[tuple[list[Any], list[int]]] = []

    def client(self, name: bytes) -> Client:
        client = Client(False)
        client.connection = cast(Any, SimpleNamespace(send=self.sent[name].append))
        client.id, client.kind, client.pid = name, "worker", ord(name)
        return client

    def ask(self, what: str) -> None:
        def answered(parts: list[Any], silent: list[int]) -> None:
            rows = {part[0]: unpack(part[3]) for part in parts}
            self.answers.append((cast(Any, rows), silent))

        self.state.ask(what, answered)

    def say(self, name: bytes, message: Any) -> None:
        self.state.table()[type(message)](cast(Any, SimpleNamespace(peer=self.clients[name])), message)

    def answer(self, name: bytes) -> None:
        """It answers what it was asked first, and has not answered."""
        self.say(name, node.StateRows(self.sent[name].pop(0).request, pack([{"of": name.decode()}])))

    def time_passes(self) -> None:
        timers, self.timers = self.timers, []
        for timer in timers:
            timer()


@pytest.fixture
def daemon() -> Daemon:
    return Daemon()


def test_all_are_asked_at_once(daemon: Daemon) -> None:
    daemon.ask("waits")
    assert [len(asked) for asked in daemon.sent.values()] == [1, 1]
    daemon.answer(b"b")
    daemon.answer(b"a")
    ((rows, silent),) = daemon.answers
    assert (rows[b"a"], rows[b"b"], silent) == ([{"of": "a"}], [{"of": "b"}], [])  # type: ignore[call-overload]


def test_nobody_waits_a_second_time_for_one_that_did_not_answer(daemon: Daemon) -> None:
    daemon.ask("waits")
    daemon.answer(b"b")
    daemon.time_passes()
    daemon.ask("tasks")
    assert len(daemon.sent[b"a"]) == 1, "it has a question already"
    daemon.answer(b"b")
    assert [silent for _, silent in daemon.answers] == [[97], [97]], "each time it is said who was silent"
    daemon.answer(b"a")  # too late for any answer, and there again
    daemon.ask("waits")
    daemon.answer(b"a")
    daemon.answer(b"b")
    assert daemon.answers[2][1] == []


def test_only_silent_ones_are_left(daemon: Daemon) -> None:
    daemon.ask("waits")
    daemon.time_passes()
    daemon.ask("waits")
    assert [silent for _, silent in daemon.answers] == [[97, 98]] * 2


def test_one_that_ends_is_forgotten(daemon: Daemon) -> None:
    daemon.ask("waits")
    daemon.answer(b"b")
    daemon.time_passes()
    del daemon.clients[b"a"]
    daemon.state.ended(b"a")
    daemon.ask("waits")
    daemon.answer(b"b")
    assert daemon.answers[1][1] == []


def row(name: str, finished: int, failed: int = 0) -> dict[str, Any]:
    return {"name": name, "function": name, "type": "NORMAL_TASK", "FINISHED": finished, "FAILED": failed}


def counts(daemon: Daemon) -> list[dict[str, Any]]:
    daemon.ask("counts")
    for name in list(daemon.clients):
        if daemon.sent[name]:
            daemon.answer(name)
    rows: Any = daemon.answers.pop()[0]
    return [one for one in rows[b""] if "FINISHED" in one]


def test_counts_of_ended_processes_are_added_up(daemon: Daemon) -> None:
    daemon.say(b"a", node.Counts(pack([row("f", 1), row("g", 1)])))
    daemon.say(b"a", node.Counts(pack([row("f", 5, 1)])))  # absolute
    assert counts(daemon) == [], "the living tell themselves"
    del daemon.clients[b"a"]
    daemon.state.ended(b"a")
    assert counts(daemon) == [row("f", 5, 1), row("g", 1)]
    daemon.say(b"b", node.Counts(pack([row("f", 2)])))
    del daemon.clients[b"b"]
    daemon.state.ended(b"b")
    assert counts(daemon) == [row("f", 7, 1), row("g", 1)]


def test_of_a_silent_process_count_what_it_told_last(daemon: Daemon) -> None:
    daemon.say(b"a", node.Counts(pack([row("f", 3)])))
    daemon.ask("waits")
    daemon.answer(b"b")
    daemon.time_passes()
    daemon.answers.clear()
    daemon.ask("counts")
    daemon.answer(b"b")
    rows: Any = daemon.answers[0][0]
    assert row("f", 3) in rows[b""]


def dropped(daemon: Daemon) -> int:
    daemon.ask("tasks")
    for name in list(daemon.clients):
        if daemon.sent[name]:
            daemon.answer(name)
    rows: Any = daemon.answers.pop()[0]
    return sum(one.get("dropped", 0) for one in rows[b""])


def test_what_nobody_remembers_is_said(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon.say(b"a", node.Counts(pack([row("f", 10, 2)])))
    daemon.say(b"a", node.LastRows(pack([{"of": "last"}]), 6, False))
    daemon.say(b"a", node.LastRows(pack([{"of": "failed"}]), 2, True))
    assert dropped(daemon) == 0, "it may still be asked"
    del daemon.clients[b"a"]
    daemon.state.ended(b"a")
    assert dropped(daemon) == 4
    monkeypatch.setattr("skate._node.reporting.state._LAST_ROWS_KEPT", 20)
    daemon.say(b"b", node.LastRows(pack([{"of": "b" * 10}]), 1, False))
    assert dropped(daemon) >= 9, "failures are remembered longest"
