"""Reference counts of several processes, through calls, results, values and deaths, in any order.

The processes here have nothing but a RefTable each; what the runtime does around it (calls.py,
invocation.py, peers.py, objects.py) is done by the book of ``refs``: whoever passes a ref on protects it
until the receiver is registered or has dropped it. Two processes may be connected twice (each has dialed
the other): messages keep their order on one connection only. Requests about borrowing may be repeated.
"""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from skate._base import ids
from skate._base.kinds import ERROR, LOST, NONE, PICKLE
from skate._wire import worker as wire
from skate._worker.objects.refs import (
    PENDING,
    REGISTERED,
    UNREGISTERED,
    Dropped,
    Freed,
    ObjectEntry,
    RefTable,
)

from ...effort import effort

NAMES = "abc"
WAYS = (0, 1)


class Call(NamedTuple):
    """Caller to worker: run something with these refs (id and owner's address)."""

    seq: int
    refs: list[tuple[bytes, str]]


class Closed(NamedTuple):
    """The last that is read from a connection whose other end died."""


class Sent(NamedTuple):
    """A call in flight, at its caller."""

    to: str
    pins: list[ObjectEntry]
    result: ObjectEntry


class Running(NamedTuple):
    """A call that runs, at its worker."""

    caller: str
    seq: int
    received: list[ObjectEntry]


#: What may come twice.
REPEATABLE = (
    wire.AddBorrower, wire.BorrowAck, wire.RemoveBorrower, wire.ReplyAck, wire.GetObject, wire.ObjectValue
)  # fmt: skip


class Process:
    """One driver or worker: its table, and what its user code holds."""

    def __init__(self, name: str, network: Network) -> None:
        self.name = name
        self.id = name.encode() * ids.WORKER_ID_SIZE
        self.network = network
        self.table = RefTable()
        #: One for each ObjectRef that user code has.
        self.refs: list[ObjectEntry] = []
        self.calls: dict[int, Sent] = {}
        self.running: list[Running] = []
        #: Refs inside results that the caller has not acknowledged.
        self.acks: dict[tuple[str, int], list[ObjectEntry]] = {}
        #: Replies that wait for registrations.
        self.held_back: set[tuple[str, int]] = set()
        #: Connections that it found closed, and processes that are gone for it.
        self.closed: set[tuple[str, int]] = set()
        self.gone: set[str] = set()
        self.counter = 0

    def __repr__(self) -> str:
        return self.name

    def send(self, to: str, way: int, message: Any) -> None:
        if (to, way) not in self.closed:
            self.network.send(self.name, to, way, message)

    def way_of_calls(self, to: str, *, dialer: bool) -> int:
        """Calls and replies go by the connection that the caller dialed."""
        return int((self.name < to) == dialer)

    # ------------------------------------------------------------------ what user code does

    def next_id(self) -> bytes:
        self.counter += 1
        return ids.object_id(self.id, self.counter)

    def own(self) -> ObjectEntry:
        entry = self.table.own(self.next_id())
        entry.local = 1
        self.refs.append(entry)
        return entry

    def put(self, inside: list[ObjectEntry]) -> None:
        entry = self.own()
        self.network.born(entry.id, [(one.id, one.owner_address or self.name) for one in inside])
        self.table.contain(entry, inside)
        self.table.fulfil(entry, PICKLE, b"")

    def drop(self, entry: ObjectEntry) -> None:
        self.refs.remove(entry)
        self.table.drop_local(entry)

    def call(self, to: str, refs: list[ObjectEntry]) -> None:
        result = self.own()
        self.network.born(result.id, [])
        for entry in refs:
            entry.pins += 1
        seq = self.counter
        if to in self.gone:
            self._lost_call(Sent(to, refs, result))
            return
        self.calls[seq] = Sent(to, refs, result)
        named = [(entry.id, entry.owner_address or self.name) for entry in refs]
        self.send(to, self.way_of_calls(to, dialer=True), Call(seq, named))

    def adopt(self, object_id: bytes, owner: str) -> ObjectEntry | None:
        entry = self.table.entries.get(object_id)
        if entry is None and owner == self.name:
            assert object_id in self.network.doubtful, "a ref to it arrived after the last one was gone"
            return None
        if entry is None:
            entry = self.table.borrow(object_id, owner)
        entry.local += 1
        self.refs.append(entry)
        return entry

    def read(self, entry: ObjectEntry) -> None:
        """``get``: the refs inside the value come to life here."""
        if entry.kind == PENDING:
            if entry.owner_address is not None and not entry.fetching:
                entry.fetching = True
                if entry.owner_address in self.gone:
                    self._owner_lost(entry)
                else:
                    self.send(entry.owner_address, self.network.way, wire.GetObject(entry.id))
            return
        if entry.kind in (ERROR, LOST):
            return
        received = [self.adopt(*inner) for inner in self.network.values[entry.id]]
        for inner in received:
            if inner is None or inner.owner_address is None or inner.borrow_state != UNREGISTERED:
                continue
            entry.pins += 1
            self.table.register(inner, lambda: self.table.unpin(entry))

    def finish(self, running: Running, keep: bool, returned: list[ObjectEntry]) -> None:
        """A call ends: ``returned`` are the refs in its result."""
        self.running.remove(running)
        caller, seq = running.caller, running.seq
        named = [(0, entry.id, entry.owner_address or self.name) for entry in returned]
        reply = wire.Reply(seq, PICKLE if named else NONE, b"", 0, None, None, named or None)
        if returned and (caller, self.way_of_calls(caller, dialer=False)) not in self.closed:
            for entry in returned:
                entry.pins += 1
            self.acks[caller, seq] = returned
        if not keep:
            for entry in running.received:
                if entry in self.refs:
                    self.drop(entry)
        self.network.carry_out(self)
        self._settle(caller, reply, running.received)

    def _settle(self, caller: str, reply: wire.Reply, received: list[ObjectEntry]) -> None:
        way = self.way_of_calls(caller, dialer=False)
        borrowed: list[tuple[bytes, int]] = []
        third: list[ObjectEntry] = []
        for entry in {id(entry): entry for entry in received}.values():
            if entry.gone or entry.owner_address is None or entry.borrow_state == REGISTERED:
                continue
            if entry.owner_address == caller:
                borrowed.append(self.table.piggyback(entry))
            else:
                third.append(entry)
        reply = wire.Reply(reply.seq, reply.kind, b"", 0, None, borrowed or None, reply.contained)
        if not third:
            self.send(caller, way, reply)
            return
        missing = len(third)
        self.held_back.add((caller, reply.seq))

        def registered() -> None:
            nonlocal missing
            missing -= 1
            if not missing:
                self.held_back.discard((caller, reply.seq))
                self.send(caller, way, reply)

        for entry in third:
            self.table.register(entry, registered)

    # ------------------------------------------------------------------ what others say

    def receive(self, sender: str, way: int, message: Any) -> None:
        if isinstance(message, Call):
            received = [self.adopt(*ref) for ref in message.refs]
            self.running.append(
                Running(sender, message.seq, [entry for entry in received if entry is not None])
            )
        elif isinstance(message, wire.Reply):
            self._replied(sender, message)
        elif isinstance(message, wire.ReplyAck):
            for entry in self.acks.pop((sender, message.seq), ()):
                self.table.unpin(entry)
        elif isinstance(message, wire.AddBorrower):
            borrower = self.network.processes[sender].id
            alive = self.table.add_borrower(message.object_id, borrower, message.epoch)
            self.send(sender, way, wire.BorrowAck(message.object_id, message.epoch, alive))
        elif isinstance(message, wire.BorrowAck):
            entry = self.table.entries.get(message.object_id)
            if not message.alive and entry is not None and entry.epoch == message.epoch:
                assert message.object_id in self.network.doubtful, "freed before it could be registered"
            self.table.registered(message.object_id, message.epoch)
        elif isinstance(message, wire.RemoveBorrower):
            borrower = self.network.processes[sender].id
            self.table.remove_borrower(message.object_id, borrower, message.epoch)
        elif isinstance(message, wire.GetObject):
            self._asked_for_value(sender, way, message)
        elif isinstance(message, wire.ObjectValue):
            entry = self.table.entries.get(message.object_id)
            if entry is not None and entry.kind == PENDING:
                assert message.kind != LOST or message.object_id in self.network.doubtful
                self.table.fulfil(entry, message.kind, b"")
        else:
            assert isinstance(message, Closed)
            self._closed(sender, way)

    def _replied(self, sender: str, message: wire.Reply) -> None:
        sent = self.calls.pop(message.seq)
        for object_id, epoch in message.borrowed or ():
            self.table.add_borrower(object_id, self.network.processes[sender].id, epoch)
        if message.contained:
            self._take_contained(sender, message, sent.result)
        if not sent.result.gone:
            self.table.fulfil(sent.result, message.kind, b"")
        for entry in sent.pins:
            self.table.unpin(entry)

    def _take_contained(self, sender: str, message: wire.Reply, result: ObjectEntry) -> None:
        assert message.contained is not None
        missing = len(message.contained)

        def registered() -> None:
            nonlocal missing
            missing -= 1
            if not missing:
                self.send(sender, self.way_of_calls(sender, dialer=True), wire.ReplyAck(message.seq))

        for _, object_id, owner in message.contained:
            self.network.values[result.id].append((object_id, owner))
            if owner == self.name:
                mine = self.table.entries.get(object_id)
                if mine is not None:
                    self.table.contain(result, [mine])
                registered()
                continue
            inner = self.table.borrow(object_id, owner)
            inner.pins += 1
            self.table.contain(result, [inner])

            def done(entry: ObjectEntry = inner) -> None:
                self.table.unpin(entry)
                registered()

            self.table.register(inner, done)

    def _asked_for_value(self, sender: str, way: int, message: wire.GetObject) -> None:
        entry = self.table.entries.get(message.object_id)
        if entry is None:
            self.send(sender, way, wire.ObjectValue(message.object_id, LOST, b""))
            return

        def answer(ready: ObjectEntry) -> None:
            self.send(sender, way, wire.ObjectValue(ready.id, ready.kind, b""))

        if entry.kind != PENDING:
            answer(entry)
        elif entry.dependents is None:
            entry.dependents = [answer]
        else:
            entry.dependents.append(answer)

    def _closed(self, other: str, way: int) -> None:
        self.closed.add((other, way))
        if way == self.way_of_calls(other, dialer=False):
            for caller, seq in list(self.acks):
                if caller == other:
                    for entry in self.acks.pop((caller, seq)):
                        self.table.unpin(entry)
        else:
            for seq, sent in list(self.calls.items()):
                if sent.to == other:
                    self._lost_call(self.calls.pop(seq))
        if all((other, each) in self.closed for each in WAYS):
            self.gone.add(other)
            self.table.borrower_died(self.network.processes[other].id)
            for entry in self.table.owned_by(other):
                self._owner_lost(entry)

    def _lost_call(self, sent: Sent) -> None:
        if not sent.result.gone:
            self.table.fulfil(sent.result, ERROR, b"")
        for entry in sent.pins:
            self.table.unpin(entry)

    def _owner_lost(self, entry: ObjectEntry) -> None:
        self.table.registered(entry.id, entry.epoch)
        if entry.kind == PENDING:
            self.table.fulfil(entry, ERROR, b"")


class Network:
    """All processes, and what is on its way between them."""

    def __init__(self, names: str) -> None:
        self.processes = {name: Process(name, self) for name in names}
        self.dead: set[str] = set()
        self.channels: dict[tuple[str, str, int], deque[Any]] = {}
        #: Object to the refs inside its value: (id, owner).
        self.values: dict[bytes, list[tuple[bytes, str]]] = {}
        self.order: dict[bytes, int] = {}
        #: Objects that a dead process may have protected for others.
        self.doubtful: set[bytes] = set()
        self.freed: set[bytes] = set()
        #: By which connection requests about borrowing go now.
        self.way = 0

    def born(self, object_id: bytes, inside: list[tuple[bytes, str]]) -> None:
        self.order[object_id] = len(self.order)
        self.values[object_id] = inside
        if any(inner in self.doubtful for inner, _ in inside):
            self.doubtful.add(object_id)

    @property
    def alive(self) -> list[Process]:
        return [process for name, process in self.processes.items() if name not in self.dead]

    def send(self, sender: str, to: str, way: int, message: Any) -> None:
        if not {sender, to} & self.dead:
            self.channels.setdefault((sender, to, way), deque()).append(message)

    def waiting(self) -> list[tuple[str, str, int]]:
        return sorted(key for key, channel in self.channels.items() if channel)

    def deliver(self, key: tuple[str, str, int]) -> None:
        sender, to, way = key
        message = self.channels[key].popleft()
        process = self.processes[to]
        process.receive(sender, way, message)
        self.carry_out(process)

    def carry_out(self, process: Process) -> None:
        """Do what the table of a process commands (core.drain)."""
        while process.table.commands:
            commands, process.table.commands = process.table.commands, []
            for command in commands:
                if isinstance(command, Freed):
                    self.check_freed(process, command.entry)
                elif isinstance(command, Dropped):
                    owner = command.entry.owner_address
                    assert owner is not None
                    if command.tell and owner not in process.gone:
                        message = wire.RemoveBorrower(command.entry.id, command.entry.epoch)
                        process.send(owner, self.way, message)
                else:
                    entry, owner = command.entry, command.entry.owner_address
                    assert owner is not None
                    if owner in process.gone:
                        process._owner_lost(entry)
                    else:
                        process.send(owner, self.way, wire.AddBorrower(entry.id, entry.epoch))

    def check_freed(self, owner: Process, entry: ObjectEntry) -> None:
        assert entry.id not in self.freed, "freed twice"
        self.freed.add(entry.id)
        if entry.id in self.doubtful:
            return
        for process in self.alive:
            held = process.table.entries.get(entry.id)
            assert held is None or not (held.local or held.pins), f"{process.name} refers to it"

    def die(self, name: str) -> None:
        self.dead.add(name)
        known = set(self.processes[name].table.entries)
        for (sender, to, _), channel in self.channels.items():
            if name in (sender, to):
                for message in channel:
                    known |= _mentioned(message)
            if to == name:
                channel.clear()
        todo = list(known)
        while todo:
            object_id = todo.pop()
            self.doubtful.add(object_id)
            todo += [one for one, _ in self.values.get(object_id, ()) if one not in self.doubtful]
        for other in self.alive:
            for way in WAYS:
                self.channels.setdefault((name, other.name, way), deque()).append(Closed())


def _mentioned(message: Any) -> set[bytes]:
    if isinstance(message, Call):
        return {object_id for object_id, _ in message.refs}
    if isinstance(message, wire.Reply):
        borrowed = {object_id for object_id, _ in message.borrowed or ()}
        return borrowed | {object_id for _, object_id, _ in message.contained or ()}
    return {message.object_id} if hasattr(message, "object_id") else set()


class BorrowingMachine(RuleBasedStateMachine):
    """User code in several processes does what it likes, and messages travel as they like."""

    deaths = False

    def __init__(self) -> None:
        super().__init__()
        self.network = Network(NAMES)

    def process(self, data: st.DataObject) -> Process:
        process = data.draw(st.sampled_from(self.network.alive), "process")
        self.network.way = data.draw(st.sampled_from(WAYS), "way")
        return process

    def some_refs(self, data: st.DataObject, process: Process) -> list[ObjectEntry]:
        """Return some entries that user code has refs to."""
        entries = list(dict.fromkeys(process.refs))
        if not entries:
            return []
        return data.draw(st.lists(st.sampled_from(entries), max_size=2, unique_by=id), "refs")

    # ------------------------------------------------------------------ user code

    @rule(data=st.data())
    def put(self, data: st.DataObject) -> None:
        process = self.process(data)
        if len(process.refs) >= 3:
            return  # few objects: so that more happens to each
        process.put(self.some_refs(data, process))
        self.network.carry_out(process)

    @rule(data=st.data())
    def call(self, data: st.DataObject) -> None:
        process = self.process(data)
        others = [other.name for other in self.network.alive if other is not process]
        if others:
            process.call(data.draw(st.sampled_from(others), "to"), self.some_refs(data, process))
            self.network.carry_out(process)

    @rule(data=st.data(), replied=st.booleans())
    def lend(self, data: st.DataObject, replied: bool) -> None:
        """A call that is sent and ends at once; its worker keeps what it was given."""
        process = self.process(data)
        others = [other for other in self.network.alive if other is not process]
        refs = list(dict.fromkeys(process.refs))
        if not others or not refs:
            return
        other = data.draw(st.sampled_from(others), "to")
        process.call(other.name, [data.draw(st.sampled_from(refs), "ref")])
        self.network.carry_out(process)
        if other.name in process.gone:
            return
        way = process.way_of_calls(other.name, dialer=True)
        self.deliver_channel((process.name, other.name, way))
        other.finish(other.running[-1], True, [])
        self.network.carry_out(other)
        if replied:
            self.deliver_channel((other.name, process.name, way))

    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        process = self.process(data)
        if process.running:
            running = data.draw(st.sampled_from(process.running), "call")
            # A result that holds itself is garbage that counting never frees: refs point to what is older.
            result = self.network.order.get(ids.object_id(running.caller.encode() * 8, running.seq), 0)
            refs = [e for e in self.some_refs(data, process) if self.network.order[e.id] < result]
            process.finish(running, data.draw(st.booleans(), "keep"), refs)
            self.network.carry_out(process)

    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        process = self.process(data)
        if process.refs:
            process.drop(data.draw(st.sampled_from(process.refs), "ref"))
            self.network.carry_out(process)

    @rule(data=st.data())
    def read(self, data: st.DataObject) -> None:
        process = self.process(data)
        if process.refs:
            process.read(data.draw(st.sampled_from(process.refs), "ref"))
            self.network.carry_out(process)

    # ------------------------------------------------------------------ the network

    @precondition(lambda self: self.network.waiting())
    @rule(data=st.data(), count=st.integers(1, 3))
    def deliver(self, data: st.DataObject, count: int) -> None:
        self.network.way = data.draw(st.sampled_from(WAYS), "way")
        key = data.draw(st.sampled_from(self.network.waiting()), "channel")
        for _ in range(count):
            if self.network.channels[key]:
                self.network.deliver(key)

    def deliver_channel(self, key: tuple[str, str, int]) -> None:
        while self.network.channels.get(key):
            self.network.deliver(key)

    @precondition(lambda self: self.network.waiting())
    @rule(data=st.data(), way=st.sampled_from(WAYS))
    def repeat(self, data: st.DataObject, way: int) -> None:
        """A message comes once more, later, perhaps by the other connection."""
        sender, to, came = data.draw(st.sampled_from(self.network.waiting()), "channel")
        message = self.network.channels[sender, to, came][0]
        if isinstance(message, REPEATABLE):
            self.network.send(sender, to, way, message)

    @precondition(lambda self: self.deaths and len(self.network.alive) > 1)
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        if data.draw(st.integers(0, 3), "rarely") == 0:
            self.network.die(self.process(data).name)

    # ------------------------------------------------------------------ what holds

    @invariant()
    def what_somebody_refers_to_is_there(self) -> None:
        for process in self.network.alive:
            for entry in process.table.entries.values():
                if (entry.local or entry.pins) and entry.owner_address not in self.network.dead:
                    assert entry.id not in self.network.freed - self.network.doubtful

    @invariant()
    def counts_are_exact(self) -> None:
        for process in self.network.alive:
            for entry in process.table.entries.values():
                assert entry.local == sum(ref is entry for ref in process.refs)
                assert entry.pins >= 0
                assert not entry.gone

    def deliver_everything(self) -> None:
        while True:
            waiting = self.network.waiting()
            if not waiting:
                return
            for key in waiting:
                self.network.deliver(key)

    def teardown(self) -> None:
        self.deliver_everything()
        for process in self.network.alive:
            assert not process.held_back, "a reply waits for a registration that is through"
            assert not process.acks, "a result was not acknowledged"
        while any(process.running for process in self.network.alive):
            for process in self.network.alive:
                for running in list(process.running):
                    process.finish(running, False, [])
                    self.network.carry_out(process)
            self.deliver_everything()
        for process in self.network.alive:
            for entry in list(process.refs):
                process.drop(entry)
            self.network.carry_out(process)
        self.deliver_everything()
        for process in self.network.alive:
            assert process.table.entries == {}
            assert not process.calls
            assert not process.table.commands


class BorrowingAndDyingMachine(BorrowingMachine):
    """The same, and processes die."""

    deaths = True


TestBorrowing = BorrowingMachine.TestCase
TestBorrowing.settings = effort(60)
TestBorrowingAndDying = BorrowingAndDyingMachine.TestCase
TestBorrowingAndDying.settings = effort(40)
