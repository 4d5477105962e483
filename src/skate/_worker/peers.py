"""Connections to other drivers and workers, and what is said on them about objects and borrowing."""

from __future__ import annotations

import os
import socket
from collections import deque
from typing import TYPE_CHECKING

from skate._base import errors
from skate._serialize.exceptions import dump_error
from skate._transport.connection import Connection, Handler, Listener, dial, listen
from skate._wire import worker as wire
from skate._wire.codec import PROTOCOL
from skate._worker.records import TaskRecord
from skate._worker.refs import PENDING, ObjectEntry

if TYPE_CHECKING:
    from collections.abc import Callable

    from skate._worker.core import Core
    from skate._worker.executor import Function
    from skate._worker.yielding import Outgoing


class Peer:
    """Another process, as known on one connection."""

    __slots__ = ("id", "address", "calls", "defined", "functions", "acks", "streams")

    def __init__(self) -> None:
        self.id = b""
        self.address = ""
        #: Our calls in flight there, by seq.
        self.calls: dict[int, TaskRecord] = {}
        #: Numbers of our functions that it has.
        self.defined: set[int] = set()
        #: Its functions that we have, by its numbers.
        self.functions: dict[int, Function] = {}
        #: Refs inside results (seq, -1) and items (seq, index) that it has not acknowledged: kept for it.
        self.acks: dict[tuple[int, int], list[ObjectEntry]] = {}
        #: Generators that run here for it, by seq.
        self.streams: dict[int, Outgoing] = {}

    def __repr__(self) -> str:
        return f"process {self.id.hex() or '(before its hello)'}"


class Peers:
    """All connections of this process to its likes. Everything runs under the core's lock."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._by_address: dict[str, Connection] = {}
        self._all: set[Connection] = set()
        self._listener: Listener | None = None
        #: Told the id of each process whose last connection ended. Under the lock.
        self.on_process_gone: list[Callable[[bytes], object]] = []
        #: Completed by the core with the handlers of calls and replies.
        self.handlers: dict[type, Handler] = {
            wire.PeerHello: self._hello,
            wire.GetObject: self._get_object,
            wire.ObjectValue: self._object_value,
            wire.ObjectLost: self._object_lost,
            wire.AddBorrower: self._add_borrower,
            wire.BorrowAck: self._borrow_ack,
            wire.RemoveBorrower: self._remove_borrower,
        }

    # ------------------------------------------------------------------ connections

    def listen(self) -> None:
        """Let others dial this process."""
        self._listener = Listener(self._core.reactor, listen(self._core.address), self._accept)

    def _accept(self, sock: socket.socket) -> None:
        connection = Connection(self._core.reactor, sock, self.handlers, self._closed)
        connection.peer = Peer()
        self._all.add(connection)

    def _hello(self, connection: Connection, message: wire.PeerHello) -> None:
        if message.protocol != PROTOCOL:
            connection.close(f"it speaks protocol {message.protocol}, this process {PROTOCOL}")
            return
        connection.peer.id = message.worker_id
        connection.peer.address = message.address
        self._by_address.setdefault(message.address, connection)

    def connect(self, address: str, worker_id: bytes = b"") -> Connection | None:
        """Return a connection to the process at this address, or None if nobody is there."""
        connection = self._by_address.get(address)
        if connection is not None:
            return connection
        try:
            sock = dial(address)
        except OSError:
            return None
        connection = Connection(self._core.reactor, sock, self.handlers, self._closed)
        peer = connection.peer = Peer()
        peer.address = address
        peer.id = worker_id or bytes.fromhex(os.path.basename(address))
        self._all.add(connection)
        self._by_address[address] = connection
        connection.send(wire.PeerHello(self._core.worker_id, self._core.address, PROTOCOL))
        return connection

    def _closed(self, connection: Connection) -> None:
        """A connection ended, and with Unix sockets that means: the process did."""
        core, peer = self._core, connection.peer
        self._all.discard(connection)
        if self._by_address.get(peer.address) is connection:
            del self._by_address[peer.address]
            for other in self._all:
                if other.peer.address == peer.address:
                    self._by_address[peer.address] = other
        for kept in peer.acks.values():
            for entry in kept:
                core.refs.unpin(entry)
        peer.acks.clear()
        if peer.id and peer.address not in self._by_address:
            core.refs.borrower_died(peer.id)
            for told in self.on_process_gone:
                told(peer.id)
            for entry in core.refs.owned_by(peer.address):
                self._owner_lost(entry, connection.close_reason)
        core.actors.disconnected(connection)
        if core.executor is not None:
            core.executor.caller_left(connection)
        core.drain()

    def _owner_lost(self, entry: ObjectEntry, reason: str) -> None:
        core = self._core
        core.refs.registered(entry.id, entry.epoch)
        if entry.kind == PENDING:
            error = errors.OwnerDiedError(entry.id.hex(), entry.owner_address, reason)
            core.fulfil(entry, wire.ERROR, dump_error(error))

    def close(self) -> None:
        """Close everything without telling anybody."""
        if self._listener is not None:
            self._listener.close()
        for connection in self._all:
            connection.abandon()
        self._all.clear()
        self._by_address.clear()

    @property
    def connections(self) -> set[Connection]:
        """Every open connection."""
        return self._all

    def adopt(self, connection: Connection) -> None:
        """Close a connection that is not ours with the others: when the process ends, and in its forks.

        Whoever made it gave it a Peer, and calls ``release_adopted`` in its on_close.
        """
        self._all.add(connection)

    def release_adopted(self, connection: Connection) -> None:
        """The connection is closed."""
        self._all.discard(connection)

    def forget_functions(self, numbers: deque[int]) -> None:
        """Remote functions of ours are gone: workers that have them need them no more."""
        while numbers:
            number = numbers.popleft()
            for connection in self._all:
                if number in connection.peer.defined:
                    connection.peer.defined.discard(number)
                    connection.send(wire.ForgetFunction(number))

    # ------------------------------------------------------------------ values

    def fetch(self, entry: ObjectEntry) -> None:
        """Ask the owner for the value, once."""
        if entry.fetching or entry.kind != PENDING or entry.owner_address is None:
            return
        entry.fetching = True
        connection = self.connect(entry.owner_address)
        if connection is None:
            self._owner_lost(entry, "nobody answers at its address")
            return
        connection.send(wire.GetObject(entry.id))

    def report_lost(self, entry: ObjectEntry, data: bytes) -> None:
        """Tell the owner that the object is not where it said; it sends the value that is made again."""
        assert entry.owner_address is not None
        entry.fetching = True
        connection = self.connect(entry.owner_address)
        if connection is None:
            self._owner_lost(entry, "nobody answers at its address")
            return
        connection.send(wire.ObjectLost(entry.id, data))

    def _object_lost(self, connection: Connection, message: wire.ObjectLost) -> None:
        entry = self._core.refs.entries.get(message.object_id)
        if entry is not None and entry.owner_address is None:
            self._core.recovery.missing(entry, message.data)
        self._get_object(connection, wire.GetObject(message.object_id))

    def _get_object(self, connection: Connection, message: wire.GetObject) -> None:
        core = self._core
        entry = core.refs.entries.get(message.object_id)
        if entry is None or entry.owner_address is not None:
            text = "its owner freed it: the last known ref was gone before this one asked"
            error = errors.ObjectLostError(message.object_id.hex(), core.address, text)
            connection.send(wire.ObjectValue(message.object_id, wire.ERROR, dump_error(error)))
            return

        def answer(ready: ObjectEntry) -> None:
            ready.exported = ready.asked = True
            connection.send(wire.ObjectValue(ready.id, ready.kind, ready.data))

        if entry.kind != PENDING:
            answer(entry)
        elif entry.dependents is None:
            entry.dependents = [answer]
        else:
            entry.dependents.append(answer)

    def _object_value(self, connection: Connection, message: wire.ObjectValue) -> None:
        entry = self._core.refs.entries.get(message.object_id)
        if entry is not None and entry.kind == PENDING:
            self._core.fulfil(entry, message.kind, message.data)

    # ------------------------------------------------------------------ borrowing

    def register(self, entry: ObjectEntry) -> None:
        """Tell the owner that we hold the ref; its acknowledgement comes back."""
        assert entry.owner_address is not None
        connection = self.connect(entry.owner_address)
        if connection is None:
            self._owner_lost(entry, "nobody answers at its address")
            return
        connection.send(wire.AddBorrower(entry.id, entry.epoch))

    def release(self, entry: ObjectEntry) -> None:
        """Tell the owner that we hold it no more."""
        assert entry.owner_address is not None
        connection = self._by_address.get(entry.owner_address)
        if connection is not None:
            connection.send(wire.RemoveBorrower(entry.id, entry.epoch))

    def _add_borrower(self, connection: Connection, message: wire.AddBorrower) -> None:
        alive = self._core.refs.add_borrower(message.object_id, connection.peer.id, message.epoch)
        connection.send(wire.BorrowAck(message.object_id, message.epoch, alive))

    def _borrow_ack(self, connection: Connection, message: wire.BorrowAck) -> None:
        core = self._core
        if not message.alive:
            entry = core.refs.entries.get(message.object_id)
            if entry is not None and entry.kind == PENDING:
                text = "its owner had freed it before this process could register as a borrower"
                error = errors.ObjectLostError(message.object_id.hex(), entry.owner_address, text)
                core.fulfil(entry, wire.ERROR, dump_error(error))
        core.refs.registered(message.object_id, message.epoch)

    def _remove_borrower(self, connection: Connection, message: wire.RemoveBorrower) -> None:
        self._core.refs.remove_borrower(message.object_id, connection.peer.id, message.epoch)
