"""References between processes: what owners and borrowers say, and what a lost connection means.

The states are those of ``refs``. A closed connection is no death: a process that borrows from the process
behind it, or lends to it, dials it once more. A process that listens is alive, and one whose socket refuses
has ended.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from skate._base import errors
from skate._base.backoff import Backoff
from skate._base.clock import monotonic
from skate._serialize.exceptions import dump_error
from skate._transport.connection import Connection, Handler
from skate._wire import worker as wire
from skate._wire.handshake import BUSY
from skate._worker.objects.refs import PENDING, REGISTERING, UNREGISTERED, ObjectEntry
from skate._worker.process.peers import Peer, Peers

if TYPE_CHECKING:
    from skate._worker.core import Core

#: An object whose owner could not be reached for a while is asked for anew by who wants it so much later
#: (seconds).
_UNREACHED_KEPT = 1.0

_NOBODY = "nobody answers at its address"


class Borrowing:
    """The owner's and the borrower's side of references between processes. Under the process's lock."""

    def __init__(self, core: Core, peers: Peers) -> None:
        self._core = core
        self._peers = peers
        #: Told the id of each process that was connected and has ended. Under the lock.
        self.on_process_gone: list[Callable[[bytes], object]] = []
        #: By address to which connections were lost lately, or are refused.
        self._breaks: dict[str, Backoff] = {}

    def handlers(self) -> dict[type, Handler]:
        """Return what is done with the messages of owners and borrowers."""
        return {
            wire.GetObject: self._get_object,
            wire.ObjectValue: self._object_value,
            wire.ObjectLost: self._object_lost,
            wire.AddBorrower: self._add_borrower,
            wire.BorrowAck: self._borrow_ack,
            wire.RemoveBorrower: self._remove_borrower,
        }

    # ------------------------------------------------------------------ connections that end

    def connection_closed(self, connection: Connection) -> None:
        """Give up what was kept for the process, and find out whether it lives, if that matters here."""
        peer = connection.peer
        for kept in peer.acks.values():
            for entry in kept:
                self._core.refs.unpin(entry)
        peer.acks.clear()
        if peer.id and self._peers.connection_to(peer.address) is None:
            self._last_closed(peer, connection)

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
        if attempts is None or attempts.is_stale(now):
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
                self._peers.reach(address, self._resume, failed, peer.id)

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

        self._peers.reach(entry.owner_address, connected, failed)

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
        connection = self._peers.connection_to(entry.owner_address)
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
