"""What a worker's reply says of refs, and how long the worker keeps them for it."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from skate._base import ids
from skate._base.kinds import NONE, PICKLE
from skate._wire import worker as wire
from skate._worker.execution.invocation import Invocation, Result
from skate._worker.execution.yielding import Yielding
from skate._worker.objects.borrowing import Borrowing
from skate._worker.objects.refs import REGISTERED, Freed, ObjectEntry, RefTable, Register
from skate._worker.process.peers import Peer

ME, CALLER, THIRD = b"me______", b"caller__", b"third___"
CALL = wire.Call(7, 1, b"")


class Process:
    """A worker that was called: its table, and what it sent to the caller."""

    def __init__(self) -> None:
        self.refs = RefTable()
        self.registering: list[ObjectEntry] = []
        self.sent: list[Any] = []
        self.context: Any = SimpleNamespace(
            address="/s/me", locked=nullcontext(), reactor=SimpleNamespace(flush=lambda: None)
        )
        nothing: Any = None
        self.borrowing = Borrowing(self.context, nothing, self.refs)
        self.connection: Any = SimpleNamespace(
            closed=False, peer=Peer(), send=self.sent.append, flush=lambda: None
        )
        self.connection.peer.id = CALLER
        garbage: Any = SimpleNamespace(drain=self.drain)
        self.invocation = Invocation(self.context, nothing, nothing, self.borrowing, garbage)

    def drain(self) -> None:
        self.registering += [one.entry for one in self.refs.commands if isinstance(one, Register)]

    def own(self) -> ObjectEntry:
        entry = self.refs.own(ids.object_id(ME, 1))
        entry.local = 1
        return entry

    def received(self, owner: bytes) -> ObjectEntry:
        entry = self.refs.borrow(ids.object_id(owner, 1), owner.decode())
        entry.local = 1
        return entry

    def result(self, *inside: ObjectEntry) -> Result:
        refs: Any = [SimpleNamespace(_entry=entry) for entry in inside]
        if not refs:
            return NONE, b"", None, None, None
        return PICKLE, b"refs", None, self.invocation.name_refs(0, refs), refs

    def reply(self, result: Result, *received: ObjectEntry) -> bool:
        return self.invocation.reply(self.connection, CALL, result, 5, list(received))


@pytest.fixture
def process() -> Process:
    return Process()


def test_nothing_met_nothing_kept(process: Process) -> None:
    assert process.reply(process.result())
    assert process.sent == [wire.Reply(7, NONE, b"", 5)]


def test_refs_in_the_result_are_kept_until_the_caller_acknowledges(process: Process) -> None:
    entry = process.own()
    assert process.reply(process.result(entry, entry))
    (reply,) = process.sent
    assert reply.contained == [(0, entry.id, "/s/me")]
    process.refs.drop_local(entry)
    assert not process.refs.commands
    for kept in process.connection.peer.acks.pop((7, -1)):
        process.refs.unpin(kept)
    assert process.refs.commands == [Freed(entry)]


def test_for_a_caller_that_died_meanwhile_nothing_is_kept(process: Process) -> None:
    """Its connection is closed: nobody will ever acknowledge, nor close it once more."""
    entry = process.own()
    process.connection.closed = True
    process.reply(process.result(entry))
    process.refs.drop_local(entry)
    assert process.refs.commands == [Freed(entry)]
    assert process.connection.peer.acks == {}


def test_nothing_is_kept_for_the_items_of_a_stream_whose_caller_died(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = process.own()
    encoded = (PICKLE, b"refs", [SimpleNamespace(_entry=entry)])
    monkeypatch.setattr(process.invocation, "encode_value", lambda *_: encoded)
    monkeypatch.setattr(process.invocation, "flush_soon", lambda connection: None)
    nothing: Any = None
    yielding = Yielding(process.context, nothing, process.borrowing, process.invocation)
    call = msgspec.structs.replace(CALL, stream=(100, 0, 0))
    yielding.run(process.connection, call, ["item"])
    assert process.connection.peer.acks == {(7, 0): [entry]}
    process.connection.peer.acks.clear()
    process.connection.closed = True
    yielding.run(process.connection, call, ["item"])
    assert process.connection.peer.acks == {}
    assert entry.pins == 1


def test_refs_of_the_caller_that_are_still_held_are_named_in_the_reply(process: Process) -> None:
    held, dropped = process.received(CALLER), process.refs.borrow(ids.object_id(CALLER, 2), "caller")
    dropped.local = 1
    process.refs.drop_local(dropped)
    assert not process.reply(process.result(), held, dropped, held)
    (reply,) = process.sent
    assert reply.borrowed == [(held.id, held.epoch)]
    assert held.borrow_state == REGISTERED
    assert process.reply(process.result(), held)
    assert process.sent[-1].borrowed is None, "the caller knows"


def test_for_refs_of_others_the_reply_waits_until_their_owners_know(process: Process) -> None:
    first, second = process.received(THIRD), process.received(b"fourth__")
    assert not process.reply(process.result(), first, second)
    assert process.registering[-2:] == [first, second]
    process.refs.registered(first.id, first.epoch)
    assert process.sent == []
    process.refs.registered(second.id, second.epoch)
    assert [reply.seq for reply in process.sent] == [7]


def test_a_ref_that_is_dropped_while_the_reply_waits_holds_it_up_no_longer(process: Process) -> None:
    entry = process.received(THIRD)
    process.reply(process.result(), entry)
    process.refs.drop_local(entry)
    assert [reply.seq for reply in process.sent] == [7]


def test_two_callers_one_of_them_the_owner(process: Process) -> None:
    """The third's reply waits for the owner; meanwhile a call of the owner itself ends: both get theirs."""
    entry = process.received(THIRD)
    process.reply(process.result(), entry)
    owner: list[Any] = []
    other: Any = SimpleNamespace(closed=False, peer=Peer(), send=owner.append, flush=lambda: None)
    other.peer.id = THIRD
    process.invocation.reply(other, CALL, process.result(), 5, [entry])
    assert [reply.borrowed for reply in owner] == [[(entry.id, entry.epoch)]]
    assert process.sent == []
    process.refs.registered(entry.id, entry.epoch)
    assert [reply.seq for reply in process.sent] == [7]
