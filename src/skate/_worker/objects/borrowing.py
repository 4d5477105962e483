"""Exchanges the messages of owners and borrowers, and finds out what a lost connection means for them.

The states are those of ``refs``. A closed connection is no death: a process that borrows from its peer, or
owns what the peer borrows, dials it once more. A process that listens is alive, and one whose socket refuses
has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from skate._base import errors, ids
from skate._base.backoff import Backoff
from skate._base.clock import monotonic
from skate._base.hooks import unset
from skate._serialize.exceptions import dump_error
from skate._transport.connection import Connection, Handler
from skate._wire import worker as wire
from skate._wire.handshake import BUSY
from skate._worker.objects.refs import (
    PENDING,
    REGISTERED,
    REGISTERING,
    UNREGISTERED,
    ObjectEntry,
    RefTable,
    discarding_entry,
)
from skate._worker.process.context import ProcessContext
from skate._worker.process.peers import Peer, Peers

#: An owner that could not be reached is dialled again, on request, after this time (seconds).
_UNREACHED_RETRY_S = 1.0

_NO_ANSWER = "no process answers at its address"


class Borrowing:
    """The owner's and the borrower's side of references between processes. Under the process's lock."""

    def __init__(self, context: ProcessContext, peers: Peers, refs: RefTable) -> None:
        self._context = context
        self._reactor = context.reactor
        self._peers = peers
        self._refs = refs
        #: Called with an owned object that a borrower did not find where its location says. Set by Core.
        self.on_missing: Callable[[ObjectEntry, bytes], None] = unset
        #: Called under the lock with the id of each process that was connected and has ended.
        self.on_process_gone: list[Callable[[bytes], object]] = []
        #: By address: attempts to reach a process to which connections were lost lately, or are refused.
        self._breaks: dict[str, Backoff] = {}

    def handlers(self) -> dict[type, Handler]:
        """Return the handlers of messages from owners and borrowers."""
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
        """Unpin what the process had not acknowledged, and find out whether it lives, if that matters."""
        peer = connection.peer
        for kept in peer.acks.values():
            for entry in kept:
                self._refs.unpin(entry)
        peer.acks.clear()
        if peer.id and self._peers.connection_to(peer.address) is None:
            self._last_closed(peer, connection)

    def _last_closed(self, peer: Peer, connection: Connection) -> None:
        """Find out whether a process lives to which no connection is left."""
        refs, address, reason = self._refs, peer.address, connection.close_reason
        owned = refs.owned_by(address)
        if self._context.dead_reason or self._reactor.is_stopped:
            return

        def matters() -> bool:
            """Tell whether a part of this process must know whether the other one lives."""
            return bool(refs.owned_by(address) or self.on_process_gone or refs.is_lending_to(peer.id))

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
            refs.borrower_died(peer.id)
            for callback in self.on_process_gone:
                callback(peer.id)
            for entry in refs.owned_by(address):
                self._owner_lost(entry, why)

        def failed(shortage: str) -> None:
            if not shortage:
                gone(reason)
                return
            # Whether it lives is not known: waits for its objects end with an error, and may be repeated;
            # the objects that it borrows stay.
            self._not_reached(refs.owned_by(address), f"this process {shortage}")
            self._reactor.call_later(_UNREACHED_RETRY_S, redial)

        def redial() -> None:
            if matters():
                self._peers.reach(address, self._resume, failed, peer.id)

        if pause is None:
            gone(f"connections to it break again and again ({reason})")
        elif pause:
            self._reactor.call_later(pause, redial)
        else:
            redial()

    def _resume(self, connection: Connection) -> None:
        """Repeat the messages that a living process may have missed when its connection was lost."""
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
        """End waits for objects whose owner could not be reached, with an error.

        Whether the owner lives is not known, so the error is not final: a later request dials again.
        """
        for entry in entries:
            if entry.borrow_state == REGISTERING:
                self._refs.registered(entry.id, entry.epoch)  # replies wait for it, and must not for ever
            if entry.kind != PENDING or not entry.fetching:
                continue
            entry.fetching = False
            error = dump_error(errors.ObjectFetchTimedOutError(entry.id.hex(), entry.owner_address, reason))
            self._refs.fulfil(entry, wire.ERROR, error)
            self._reactor.call_later(
                _UNREACHED_RETRY_S,
                lambda entry=entry, error=error: self._forget_error(entry, error),  # type: ignore[misc]
            )

    def _forget_error(self, entry: ObjectEntry, error: bytes) -> None:
        if entry.kind == wire.ERROR and entry.data is error and not entry.gone:
            self._refs.await_again(entry)

    def _to_owner(
        self, entry: ObjectEntry, message: Callable[[], wire.GetObject | wire.AddBorrower | wire.ObjectLost]
    ) -> None:
        """Send a message to an object's owner, unless the entry is gone before the owner can be reached."""
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
                self._owner_lost(entry, _NO_ANSWER)

        self._peers.reach(entry.owner_address, connected, failed)

    # ------------------------------------------------------------------ values

    def fetch(self, entry: ObjectEntry) -> None:
        """Ask the owner for the value, once."""
        if entry.fetching or entry.kind != PENDING or entry.owner_address is None:
            return
        entry.fetching = True
        self._to_owner(entry, lambda: wire.GetObject(entry.id))

    def report_lost(self, entry: ObjectEntry, data: bytes) -> None:
        """Tell the owner that an object is not at its location; the owner sends the value later."""
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
            ready.mark_exported()
            ready.mark_retrieved()
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
        """Tell the owner that this process holds the ref; the owner acknowledges that."""
        self._to_owner(entry, lambda: wire.AddBorrower(entry.id, entry.epoch))

    def release(self, entry: ObjectEntry) -> None:
        """Tell the owner that this process holds the ref no more."""
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
        """Register with the owners of the refs inside results, then release the sender's hold on them.

        Refs inside a return that the call does not have are taken and dropped.
        """
        registered = _send_after(len(contained), connection, acknowledgement)
        for index, object_id, owner_address in contained:
            outer = returns[index] if 0 <= index < len(returns) else discarding_entry()
            if owner_address == self._context.address:
                inner = self._refs.entries.get(object_id)
                if inner is not None:
                    self._refs.contain(outer, [inner])
                registered()
                continue
            inner = self._refs.borrow(object_id, owner_address)
            self._refs.pin(inner)  # until it is registered, whatever becomes of the result
            self._refs.contain(outer, [inner])

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
        """Unpin the refs that ``keep_until_acknowledged`` pinned."""
        for entry in connection.peer.acks.pop((message.seq, message.index), ()):
            self._refs.unpin(entry)

    def settle(self, connection: Connection, reply: wire.Reply, received: Sequence[ObjectEntry]) -> bool:
        """Register as a borrower of the refs that came with a call's arguments and are still held.

        The reply names the refs that the caller owns, which registers this process with it. For refs of
        third parties the reply waits until their owners have acknowledged: the caller protects those refs
        until it has the reply.

        Returns:
            False if the reply is sent here, now or later; True if the caller of this method is to send it.
        """
        caller = connection.peer.id
        borrowed: list[tuple[bytes, int]] = []
        third_party: list[ObjectEntry] = []
        for entry in {id(entry): entry for entry in received}.values():
            if entry.gone or entry.owner_address is None or entry.borrow_state == REGISTERED:
                continue
            if ids.owner_of(entry.id) == caller:
                borrowed.append(self._refs.piggyback(entry))
            else:
                third_party.append(entry)
        if borrowed:
            reply = wire.Reply(
                reply.seq, reply.kind, reply.data, reply.microseconds, reply.more, borrowed, reply.contained
            )
        if not third_party:
            if borrowed:
                connection.send(reply)
                connection.flush()
            return not borrowed
        registered = _send_after(len(third_party), connection, reply)
        for entry in third_party:
            self._refs.register(entry, registered)
        return False


def _send_after(
    count: int, connection: Connection, message: wire.Reply | wire.ReplyAck
) -> Callable[[], None]:
    """Return a function that sends the message at its call of this number."""
    missing = count

    def registered() -> None:
        nonlocal missing
        missing -= 1
        if not missing:
            connection.send(message)

    return registered
