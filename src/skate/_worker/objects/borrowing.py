"""References between processes: what owners and borrowers say, and what a lost connection means.

The states are those of ``refs``. A closed connection is no death: a process that borrows from the process
behind it, or lends to it, dials it once more. A process that listens is alive, and one whose socket refuses
has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from skate._base import errors, ids
from skate._base.backoff import Backoff
from skate._base.clock import monotonic
from skate._serialize.exceptions import dump_error
from skate._transport.connection import Connection, Handler
from skate._wire import worker as wire
from skate._wire.handshake import BUSY
from skate._worker.objects.refs import PENDING, REGISTERED, REGISTERING, UNREGISTERED, ObjectEntry, RefTable
from skate._worker.process.context import ProcessContext
from skate._worker.process.peers import Peer, Peers

#: An object whose owner could not be reached for a while is asked for anew by who wants it so much later
#: (seconds).
_UNREACHED_KEPT = 1.0

_NOBODY = "nobody answers at its address"


class Borrowing:
    """The owner's and the borrower's side of references between processes. Under the process's lock."""

    def __init__(self, context: ProcessContext, peers: Peers, refs: RefTable) -> None:
        self._context = context
        self._reactor = context.reactor
        self._peers = peers
        self._refs = refs
        #: Called with an owned object that a borrower did not find where its location says. Set by Core.
        self.on_missing: Callable[[ObjectEntry, bytes], None] = _nothing
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
                self._refs.unpin(entry)
        peer.acks.clear()
        if peer.id and self._peers.connection_to(peer.address) is None:
            self._last_closed(peer, connection)

    def _last_closed(self, peer: Peer, connection: Connection) -> None:
        """No connection to that process is left: it ended, or only the connection did."""
        refs, address, reason = self._refs, peer.address, connection.close_reason
        owned = refs.owned_by(address)
        if self._context.dead_reason or self._reactor.stopped:
            return

        def matters() -> bool:
            """Whether anybody here wants to know what became of the process."""
            return bool(refs.owned_by(address) or self.on_process_gone or refs.lends_to(peer.id))

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
            refs.borrower_died(peer.id)
            for told in self.on_process_gone:
                told(peer.id)
            for entry in refs.owned_by(address):
                self._owner_lost(entry, why)

        def failed(shortage: str) -> None:
            if not shortage:
                gone(reason)
                return
            # Whether it lives nobody can tell: what it lent is asked for anew by who wants it, what it
            # borrows stays.
            self._not_reached(refs.owned_by(address), f"this process {shortage}")
            self._reactor.call_later(_UNREACHED_KEPT, again)

        def again() -> None:
            if matters():
                self._peers.reach(address, self._resume, failed, peer.id)

        if pause is None:
            gone(f"connections to it break again and again ({reason})")
        elif pause:
            self._reactor.call_later(pause, again)
        else:
            again()

    def _resume(self, connection: Connection) -> None:
        """A process whose connection was lost lives: say again what it may have missed. Repeats do no
        harm."""
        for entry in self._refs.owned_by(connection.peer.address):
            if entry.borrow_state != UNREGISTERED:
                connection.send(wire.AddBorrower(entry.id, entry.epoch))
            if entry.kind == PENDING and entry.fetching:
                connection.send(wire.GetObject(entry.id))

    def _owner_lost(self, entry: ObjectEntry, reason: str) -> None:
        self._refs.registered(entry.id, entry.epoch)
        if entry.kind == PENDING:
            error = errors.OwnerDiedError(entry.id.hex(), entry.owner_address, reason)
            self._refs.fulfil(entry, wire.ERROR, dump_error(error))

    def _not_reached(self, entries: list[ObjectEntry], reason: str) -> None:
        """Nobody knows what became of the owner, since this process could not talk to it: whoever waits is
        told.

        Not for good: who asks later tries again.
        """
        for entry in entries:
            if entry.borrow_state == REGISTERING:
                self._refs.registered(entry.id, entry.epoch)  # replies wait for it; they shall not, for ever
            if entry.kind != PENDING or not entry.fetching:
                continue
            entry.fetching = False
            error = dump_error(errors.ObjectFetchTimedOutError(entry.id.hex(), entry.owner_address, reason))
            self._refs.fulfil(entry, wire.ERROR, error)
            self._reactor.call_later(
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
        entry = self._refs.entries.get(message.object_id)
        if entry is not None and entry.owner_address is None:
            self.on_missing(entry, message.data)
        self._get_object(connection, wire.GetObject(message.object_id))

    def _get_object(self, connection: Connection, message: wire.GetObject) -> None:
        entry = self._refs.entries.get(message.object_id)
        if entry is None or entry.owner_address is not None:
            text = "its owner freed it: the last known ref was gone before this one asked"
            error = errors.ObjectLostError(message.object_id.hex(), self._context.address, text)
            connection.send(wire.ObjectValue(message.object_id, wire.ERROR, dump_error(error)))
            return

        def answer(ready: ObjectEntry) -> None:
            ready.exported = ready.asked = True
            connection.send(wire.ObjectValue(ready.id, ready.kind, ready.data))

        if entry.kind != PENDING:
            answer(entry)
        else:
            self._refs.when_ready(entry, answer)

    def _object_value(self, connection: Connection, message: wire.ObjectValue) -> None:
        self._breaks.pop(connection.peer.address, None)
        entry = self._refs.entries.get(message.object_id)
        if entry is not None and entry.kind == PENDING:
            self._refs.fulfil(entry, message.kind, message.data)

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
        alive = self._refs.add_borrower(message.object_id, connection.peer.id, message.epoch)
        connection.send(wire.BorrowAck(message.object_id, message.epoch, alive))

    def _borrow_ack(self, connection: Connection, message: wire.BorrowAck) -> None:
        self._breaks.pop(connection.peer.address, None)
        if not message.alive:
            entry = self._refs.entries.get(message.object_id)
            if entry is not None and entry.kind == PENDING:
                text = "its owner had freed it before this process could register as a borrower"
                error = errors.ObjectLostError(message.object_id.hex(), entry.owner_address, text)
                self._refs.fulfil(entry, wire.ERROR, dump_error(error))
        self._refs.registered(message.object_id, message.epoch)

    def _remove_borrower(self, connection: Connection, message: wire.RemoveBorrower) -> None:
        self._refs.remove_borrower(message.object_id, connection.peer.id, message.epoch)

    # ------------------------------------------------------------------ refs inside results

    def take_contained(
        self,
        connection: Connection,
        contained: list[tuple[int, bytes, str]],
        returns: Sequence[ObjectEntry],
        acknowledgement: wire.ReplyAck,
    ) -> None:
        """Register with the owners of the refs inside results, then release the sender's hold on them."""
        missing = len(contained)

        def registered() -> None:
            nonlocal missing
            missing -= 1
            if not missing:
                connection.send(acknowledgement)

        for index, object_id, owner_address in contained:
            if owner_address == self._context.address:
                inner = self._refs.entries.get(object_id)
                if inner is not None:
                    self._refs.contain(returns[index], [inner])
                registered()
                continue
            inner = self._refs.borrow(object_id, owner_address)
            self._refs.pin(inner)  # until it is registered, whatever becomes of the result
            self._refs.contain(returns[index], [inner])

            def done(entry: ObjectEntry = inner) -> None:
                self._refs.unpin(entry)
                registered()

            self._refs.register(inner, done)

    def keep_until_acknowledged(
        self, connection: Connection, number: tuple[int, int], entries: list[ObjectEntry]
    ) -> None:
        """Pin the refs inside a result (seq, -1) or an item (seq, index) until the receiver has registered
        with their owners."""
        if connection.closed:
            return
        for entry in entries:
            self._refs.pin(entry)
        connection.peer.acks[number] = entries

    def acknowledged(self, connection: Connection, message: wire.ReplyAck) -> None:
        """End what ``keep_until_acknowledged`` began."""
        for entry in connection.peer.acks.pop((message.seq, message.index), ()):
            self._refs.unpin(entry)

    def settle(self, connection: Connection, reply: wire.Reply, received: Sequence[ObjectEntry]) -> bool:
        """See to the refs that came with a call's arguments and are still held, before its reply.

        Those of the caller are named in the reply, which registers this process with it. For others the reply
        waits until their owners have acknowledged: the caller protects them until it has the reply.

        Returns:
            False if the reply is sent here, now or later; True if the caller of this method is to send it.
        """
        caller = connection.peer.id
        borrowed: list[tuple[bytes, int]] = []
        third: list[ObjectEntry] = []
        for entry in {id(entry): entry for entry in received}.values():
            if entry.gone or entry.owner_address is None or entry.borrow_state == REGISTERED:
                continue
            if ids.owner_of(entry.id) == caller:
                borrowed.append(self._refs.piggyback(entry))
            else:
                third.append(entry)
        if borrowed:
            reply = wire.Reply(
                reply.seq, reply.kind, reply.data, reply.microseconds, reply.more, borrowed, reply.contained
            )
        if not third:
            if borrowed:
                connection.send(reply)
                connection.flush()
            return not borrowed
        missing = len(third)

        def registered() -> None:
            nonlocal missing
            missing -= 1
            if not missing:
                connection.send(reply)

        for entry in third:
            self._refs.register(entry, registered)
        return False


def _nothing(entry: ObjectEntry, location: bytes) -> None:
    pass
