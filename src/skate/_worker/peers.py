"""Connections to other drivers and workers, and what is said on them about objects and borrowing."""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from skate._base import descriptors, errors
from skate._base.backoff import Backoff
from skate._base.clock import monotonic
from skate._serialize.exceptions import dump_error
from skate._transport.acceptor import Acceptor
from skate._transport.connection import Connection, Handler, Listener
from skate._transport.dialing import dial_now, listen
from skate._wire import services
from skate._wire import worker as wire
from skate._wire.handshake import BUSY, PROTOCOL, WRONG_PEER, Refused
from skate._worker.records import TaskRecord
from skate._worker.refs import PENDING, REGISTERING, UNREGISTERED, ObjectEntry

if TYPE_CHECKING:
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


#: An object whose owner could not be reached for a while is asked for anew by who wants it so much later
#: (seconds).
_UNREACHED_KEPT = 1.0

_NOBODY = "nobody answers at its address"


class _Waiting(NamedTuple):
    """Somebody who wants a connection, while none can be made."""

    then: Callable[[Connection], None]
    failed: Callable[[str], None]


class Peers:
    """All connections of this process to its likes. Everything runs under the core's lock.

    A closed connection is no death. Who borrows from, or lends to, the process behind it dials it once more:
    a process that listens is alive, and one whose socket refuses has ended.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._by_address: dict[str, Connection] = {}
        self._all: set[Connection] = set()
        self._listener: Listener | None = None
        #: Told the id of each process that was connected and has ended. Under the lock.
        self.on_process_gone: list[Callable[[bytes], object]] = []
        #: By address that cannot be dialled at the moment: who waits for that.
        self._dials: dict[str, list[_Waiting]] = {}
        #: By address to which connections were lost lately, or are refused.
        self._breaks: dict[str, Backoff] = {}
        #: Completed by the core with the handlers of calls and replies.
        self.handlers: dict[type, Handler] = {
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
        core = self._core
        acceptor = Acceptor(
            core.reactor, services.PROCESS, {wire.PeerHello: self._hello, **self.handlers}, self._closed
        )

        def accept(sock: socket.socket) -> None:
            self._all.add(acceptor.accept(sock, Peer()))

        self._listener = Listener(
            core.reactor, listen(core.address), accept, self._cannot_accept, refuses=True
        )

    def _cannot_accept(self, error: OSError) -> None:
        self._core.warn(
            f"process {self._core.pid} {descriptors.explain(error)}. "
            "Other processes cannot call it before that"
        )

    def _hello(self, connection: Connection, message: wire.PeerHello) -> None:
        if os.path.basename(message.address) != message.worker_id.hex():
            what = f"says that its id is {message.worker_id.hex()!r} and its address {message.address!r}"
            connection.refuse(Refused(WRONG_PEER, what))
            return
        connection.peer.id = message.worker_id
        connection.peer.address = message.address
        self._by_address.setdefault(message.address, connection)

    def reach(
        self,
        address: str,
        then: Callable[[Connection], None],
        failed: Callable[[str], None],
        worker_id: bytes = b"",
    ) -> None:
        """Call ``then`` with a connection to the process at this address: now, if that can be, or later.

        Args:
            address: its socket.
            then: called once, under the lock, unless ``failed`` is.
            failed: called once if it cannot be reached: with an empty text if nobody listens there, else
            with why
                this process could not dial for ``backoff.PATIENCE`` seconds ("has no file descriptors left:
                ...").
            worker_id: of that process, if it is not the name of its socket.
        """
        connection = self._by_address.get(address)
        if connection is None:
            waiting = self._dials.get(address)
            if waiting is not None:
                waiting.append(_Waiting(then, failed))
                return
            try:
                connection = self._dial(address, worker_id)
            except OSError as error:
                if not descriptors.is_transient(error):
                    failed("")
                    return
                self._dials[address] = [_Waiting(then, failed)]
                self._dial_later(address, worker_id, Backoff(monotonic()), error)
                return
        then(connection)

    def _dial(self, address: str, worker_id: bytes) -> Connection:
        sock = dial_now(address)
        connection = Connection(self._core.reactor, sock, self.handlers, self._closed)
        peer = connection.peer = Peer()
        peer.address = address
        peer.id = worker_id or bytes.fromhex(os.path.basename(address))
        self._all.add(connection)
        self._by_address[address] = connection
        connection.send(wire.PeerHello(self._core.worker_id, self._core.address, PROTOCOL))
        return connection

    def _dial_later(self, address: str, worker_id: bytes, attempts: Backoff, error: OSError) -> None:
        """There is no descriptor, or the listener's queue is full: try again, for a while."""
        pause = attempts.again(monotonic())
        if pause is None:
            shortage = descriptors.explain(error)
            for one in self._dials.pop(address):
                one.failed(shortage)
            return

        def attempt() -> None:
            try:
                connection = self._by_address.get(address) or self._dial(address, worker_id)
            except OSError as again:
                if descriptors.is_transient(again):
                    self._dial_later(address, worker_id, attempts, again)
                else:
                    for one in self._dials.pop(address):
                        one.failed("")
                return
            for one in self._dials.pop(address):
                one.then(connection)

        self._core.reactor.call_later(pause, attempt)

    def _closed(self, connection: Connection) -> None:
        """A connection ended."""
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
            self._last_closed(peer, connection)
        core.actors.disconnected(connection)
        core.normal.disconnected(connection)
        if core.executor is not None:
            core.executor.caller_left(connection)
        core.drain()

    def _last_closed(self, peer: Peer, connection: Connection) -> None:
        """No connection to that process is left: it ended, or only the connection did."""
        core, address, reason = self._core, peer.address, connection.close_reason
        owned = core.refs.owned_by(address)
        if core.dead_reason or core.reactor.stopped:
            return

        def matters() -> bool:
            """Whether anybody here wants to know what became of the process."""
            return bool(core.refs.owned_by(address) or self.on_process_gone or core.refs.lends_to(peer.id))

        if not matters():
            return
        if connection.refused is not None and connection.refused.code == BUSY:
            self._not_reached(owned, reason)
            return
        now = monotonic()
        attempts = self._breaks.get(address)
        if attempts is None or attempts.stale(now):
            attempts = self._breaks[address] = Backoff(now)
            pause: float | None = 0.0
        else:
            pause = attempts.again(now)

        def gone(why: str) -> None:
            self._breaks.pop(address, None)
            core.refs.borrower_died(peer.id)
            for told in self.on_process_gone:
                told(peer.id)
            for entry in core.refs.owned_by(address):
                self._owner_lost(entry, why)
            core.drain()

        def failed(shortage: str) -> None:
            if not shortage:
                gone(reason)
                return
            # Whether it lives nobody can tell: what it lent is asked for anew by who wants it, what it
            # borrows stays.
            self._not_reached(core.refs.owned_by(address), f"this process {shortage}")
            core.reactor.call_later(_UNREACHED_KEPT, again)

        def again() -> None:
            if matters():
                self.reach(address, self._resume, failed, peer.id)

        if pause is None:
            gone(f"connections to it break again and again ({reason})")
        elif pause:
            core.reactor.call_later(pause, again)
        else:
            again()

    def _resume(self, connection: Connection) -> None:
        """A process whose connection was lost lives: say again what it may have missed. Repeats do no
        harm."""
        for entry in self._core.refs.owned_by(connection.peer.address):
            if entry.borrow_state != UNREGISTERED:
                connection.send(wire.AddBorrower(entry.id, entry.epoch))
            if entry.kind == PENDING and entry.fetching:
                connection.send(wire.GetObject(entry.id))

    def _owner_lost(self, entry: ObjectEntry, reason: str) -> None:
        core = self._core
        core.refs.registered(entry.id, entry.epoch)
        if entry.kind == PENDING:
            error = errors.OwnerDiedError(entry.id.hex(), entry.owner_address, reason)
            core.fulfil(entry, wire.ERROR, dump_error(error))

    def _not_reached(self, entries: list[ObjectEntry], reason: str) -> None:
        """Nobody knows what became of the owner, since this process could not talk to it: whoever waits is
        told.

        Not for good: who asks later tries again.
        """
        core = self._core
        for entry in entries:
            if entry.borrow_state == REGISTERING:
                core.refs.registered(entry.id, entry.epoch)  # replies wait for it; they shall not, for ever
            if entry.kind != PENDING or not entry.fetching:
                continue
            entry.fetching = False
            error = dump_error(errors.ObjectFetchTimedOutError(entry.id.hex(), entry.owner_address, reason))
            core.fulfil(entry, wire.ERROR, error)
            core.reactor.call_later(
                _UNREACHED_KEPT,
                lambda entry=entry, error=error: self._forget_error(entry, error),  # type: ignore[misc]
            )

    def _forget_error(self, entry: ObjectEntry, error: bytes) -> None:
        if entry.kind == wire.ERROR and entry.data is error and not entry.gone:
            entry.kind, entry.data = PENDING, b""

    def _to_owner(
        self, entry: ObjectEntry, message: Callable[[], wire.GetObject | wire.AddBorrower | wire.ObjectLost]
    ) -> None:
        """Say something to an object's owner, unless the entry is gone by the time that it can be reached."""
        assert entry.owner_address is not None

        def connected(connection: Connection) -> None:
            if not entry.gone:
                connection.send(message())

        def failed(shortage: str) -> None:
            if entry.gone:
                return
            if shortage:
                self._not_reached([entry], f"its owner could not be reached, because this process {shortage}")
            else:
                self._owner_lost(entry, _NOBODY)

        self.reach(entry.owner_address, connected, failed)

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
        self._to_owner(entry, lambda: wire.GetObject(entry.id))

    def report_lost(self, entry: ObjectEntry, data: bytes) -> None:
        """Tell the owner that the object is not where it said; it sends the value that is made again."""
        entry.fetching = True
        self._to_owner(entry, lambda: wire.ObjectLost(entry.id, data))

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
        self._breaks.pop(connection.peer.address, None)
        entry = self._core.refs.entries.get(message.object_id)
        if entry is not None and entry.kind == PENDING:
            self._core.fulfil(entry, message.kind, message.data)

    # ------------------------------------------------------------------ borrowing

    def register(self, entry: ObjectEntry) -> None:
        """Tell the owner that we hold the ref; its acknowledgement comes back."""
        self._to_owner(entry, lambda: wire.AddBorrower(entry.id, entry.epoch))

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
        self._breaks.pop(connection.peer.address, None)
        if not message.alive:
            entry = core.refs.entries.get(message.object_id)
            if entry is not None and entry.kind == PENDING:
                text = "its owner had freed it before this process could register as a borrower"
                error = errors.ObjectLostError(message.object_id.hex(), entry.owner_address, text)
                core.fulfil(entry, wire.ERROR, dump_error(error))
        core.refs.registered(message.object_id, message.epoch)

    def _remove_borrower(self, connection: Connection, message: wire.RemoveBorrower) -> None:
        self._core.refs.remove_borrower(message.object_id, connection.peer.id, message.epoch)
