"""Who is asked for the state, who is waited for, and what is told of those that do not answer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from skate._node.clients import Client, Clients
from skate._node.reporting.state import StateService
from skate._wire import node
from skate._wire.codec import pack, unpack


class Node:
    """Two processes; timers run when they are told to."""

    def __init__(self) -> None:
        self.timers: list[Any] = []
        self.sent: dict[bytes, list[Any]] = {b"a": [], b"b": []}
        self.clients = Clients()
        for name in self.sent:
            self.clients.add(self.client(name))
        reactor = SimpleNamespace(call_later=lambda delay, callback: self.timers.append(callback))
        context = SimpleNamespace(clients=self.clients, reactor=reactor, ended_processes=[])
        none = cast(Any, None)
        self.state = StateService(cast(Any, context), none, cast(Any, []), none, none, none, none, none)
        self.answers: list[tuple[list[Any], list[int]]] = []

    def client(self, name: bytes) -> Client:
        client = Client(False)
        client.connection = cast(Any, SimpleNamespace(send=self.sent[name].append, peer=client))
        client.id, client.kind, client.pid = name, "worker", ord(name)
        return client

    def ends(self, name: bytes) -> None:
        client = self.clients.get(name)
        assert client is not None
        self.clients.remove(client)
        self.state.disconnected(name)

    def ask(self, what: str) -> None:
        def answered(parts: list[Any], silent: list[int]) -> None:
            rows = {part[0]: unpack(part[3]) for part in parts}
            self.answers.append((cast(Any, rows), silent))

        self.state.ask(what, answered)

    def say(self, name: bytes, message: Any) -> None:
        client = self.clients.get(name)
        assert client is not None
        self.state.handlers()[type(message)](client.connection, message)

    def answer(self, name: bytes) -> None:
        """It answers what it was asked first, and has not answered."""
        self.say(name, node.StateRows(self.sent[name].pop(0).request, pack([{"of": name.decode()}])))

    def time_passes(self) -> None:
        timers, self.timers = self.timers, []
        for timer in timers:
            timer()


@pytest.fixture
def here() -> Node:
    return Node()


def test_all_are_asked_at_once(here: Node) -> None:
    here.ask("waits")
    assert [len(asked) for asked in here.sent.values()] == [1, 1]
    here.answer(b"b")
    here.answer(b"a")
    ((rows, silent),) = here.answers
    assert (rows[b"a"], rows[b"b"], silent) == ([{"of": "a"}], [{"of": "b"}], [])  # type: ignore[call-overload]


def test_nobody_waits_a_second_time_for_one_that_did_not_answer(here: Node) -> None:
    here.ask("waits")
    here.answer(b"b")
    here.time_passes()
    here.ask("tasks")
    assert len(here.sent[b"a"]) == 1, "it has a question already"
    here.answer(b"b")
    assert [silent for _, silent in here.answers] == [[97], [97]], "each time it is said who was silent"
    here.answer(b"a")  # too late for any answer, and there again
    here.ask("waits")
    here.answer(b"a")
    here.answer(b"b")
    assert here.answers[2][1] == []


def test_only_silent_ones_are_left(here: Node) -> None:
    here.ask("waits")
    here.time_passes()
    here.ask("waits")
    assert [silent for _, silent in here.answers] == [[97, 98]] * 2


def test_one_that_ends_is_forgotten(here: Node) -> None:
    here.ask("waits")
    here.answer(b"b")
    here.time_passes()
    here.ends(b"a")
    here.ask("waits")
    here.answer(b"b")
    assert here.answers[1][1] == []


def row(name: str, finished: int, failed: int = 0) -> dict[str, Any]:
    return {"name": name, "function": name, "type": "NORMAL_TASK", "FINISHED": finished, "FAILED": failed}


def counts(here: Node) -> list[dict[str, Any]]:
    here.ask("counts")
    for name in here.clients.ids():
        if here.sent[name]:
            here.answer(name)
    rows: Any = here.answers.pop()[0]
    return [one for one in rows[b""] if "FINISHED" in one]


def test_counts_of_ended_processes_are_added_up(here: Node) -> None:
    here.say(b"a", node.Counts(pack([row("f", 1), row("g", 1)])))
    here.say(b"a", node.Counts(pack([row("f", 5, 1)])))  # absolute
    assert counts(here) == [], "the living tell themselves"
    here.ends(b"a")
    assert counts(here) == [row("f", 5, 1), row("g", 1)]
    here.say(b"b", node.Counts(pack([row("f", 2)])))
    here.ends(b"b")
    assert counts(here) == [row("f", 7, 1), row("g", 1)]


def test_of_a_silent_process_count_what_it_told_last(here: Node) -> None:
    here.say(b"a", node.Counts(pack([row("f", 3)])))
    here.ask("waits")
    here.answer(b"b")
    here.time_passes()
    here.answers.clear()
    here.ask("counts")
    here.answer(b"b")
    rows: Any = here.answers[0][0]
    assert row("f", 3) in rows[b""]


def dropped(here: Node) -> int:
    here.ask("tasks")
    for name in here.clients.ids():
        if here.sent[name]:
            here.answer(name)
    rows: Any = here.answers.pop()[0]
    return sum(one.get("dropped", 0) for one in rows[b""])


def test_what_nobody_remembers_is_said(here: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    here.say(b"a", node.Counts(pack([row("f", 10, 2)])))
    here.say(b"a", node.LastRows(pack([{"of": "last"}]), 6, False))
    here.say(b"a", node.LastRows(pack([{"of": "failed"}]), 2, True))
    assert dropped(here) == 0, "it may still be asked"
    here.ends(b"a")
    assert dropped(here) == 4
    monkeypatch.setattr("skate._node.reporting.state._MAX_LAST_ROWS_BYTES", 20)
    here.say(b"b", node.LastRows(pack([{"of": "b" * 10}]), 1, False))
    assert dropped(here) >= 9, "failures are remembered longest"
