"""Connections to other drivers and workers: dialled, accepted, closed."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from skate._base import descriptors
from skate._base.backoff import Backoff
from skate._base.clock import monotonic
from skate._transport.acceptor import Acceptor
from skate._transport.connection import Connection, Handler, Listener
from skate._transport.streams import Stream
from skate._wire import services
from skate._wire import worker as wire
from skate._wire.handshake import PROTOCOL, WRONG_PEER, Refused
from skate._worker.process.context import ProcessContext


class Peer:
    """Another process, as known on one connection. Some fields belong to other packages, as noted."""

    __slots__ = ("id", "address", "defined", "functions", "acks", "streams")

    def __init__(self) -> None:
        self.id = b""
        self.address = ""
        #: Numbers of our functions that it has.
        self.defined: set[int] = set()
        #: Of ``execution``: its functions that we have, by its numbers.
        self.functions: dict[int, Any] = {}
        #: Of ``objects.borrowing``: entries of the refs inside results (seq, -1) and items (seq, index) that
        #: it has not acknowledged. They are pinned for it.
        self.acks: dict[tuple[int, int], list[Any]] = {}
        #: Of ``execution``: generators that run here for it, by seq.
        self.streams: dict[int, Any] = {}

    def __repr__(self) -> str:
        return f"process {self.id.hex() or '(before its hello)'}"


class _Waiting(NamedTuple):
    """The callbacks of a part that waits for a connection, while none can be made."""

    then: Callable[[Connection], None]
    failed: Callable[[str], None]


class Peers:
    """All connections of this process to other drivers and workers. Under the process's lock."""

    def __init__(self, context: ProcessContext) -> None:
        self._context = context
        self._by_address: dict[str, Connection] = {}
        #: Every open connection, the oldest first.
        self._all: dict[Connection, None] = {}
        self._listener: Listener | None = None
        #: Called, in this order and under the lock, when a connection has ended.
        self.on_closed: list[Callable[[Connection], None]] = []
        #: By address that cannot be dialled at the moment: the callbacks that wait for that.
        self._dials: dict[str, list[_Waiting]] = {}
        #: The other parts' handlers of messages from other processes: filled by Core.
        self.handlers: dict[type, Handler] = {}

    # ------------------------------------------------------------------ connections

    def listen(self) -> None:
        """Let other processes dial this one."""
        context = self._context
        acceptor = Acceptor(
            context.reactor, services.PROCESS, {wire.PeerHello: self._hello, **self.handlers}, self._closed
        )

        def accept(sock: Stream) -> None:
            self._all[acceptor.accept(sock, Peer())] = None

        listening = context.reactor.listen(context.address)
        self._listener = Listener(context.reactor, listening, accept, self._cannot_accept, refuses=True)

    def _cannot_accept(self, error: OSError) -> None:
        self._context.warn(
            f"process {self._context.pid} {descriptors.explain(error)}. "
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
            failed: called once if it cannot be reached: with an empty text if no process listens there, else
                with why this process could not dial for ``backoff.RETRY_TIMEOUT_S`` s ("has no file
                descriptors left: ...").
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
            except ValueError:  # this can be the address of no process: a peer made it up
                failed("")
                return
            except OSError as error:
                if not descriptors.is_transient(error):
                    failed("")
                    return
                self._dials[address] = [_Waiting(then, failed)]
                self._dial_later(address, worker_id, Backoff(monotonic()), error)
                return
        then(connection)

    def _dial(self, address: str, worker_id: bytes) -> Connection:
        peer_id = worker_id or bytes.fromhex(os.path.basename(address))
        reactor = self._context.reactor
        connection = Connection(reactor, reactor.dial(address), self.handlers, self._closed)
        peer = connection.peer = Peer()
        peer.address = address
        peer.id = peer_id
        self._all[connection] = None
        self._by_address[address] = connection
        connection.send(wire.PeerHello(self._context.worker_id, self._context.address, PROTOCOL))
        return connection

    def _dial_later(self, address: str, worker_id: bytes, attempts: Backoff, error: OSError) -> None:
        """Dial again for a while: there is no descriptor, or the listener's queue is full."""
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

        self._context.reactor.call_later(pause, attempt)

    def _closed(self, connection: Connection) -> None:
        """Forget a connection that ended, and call ``on_closed``."""
        peer = connection.peer
        self._all.pop(connection, None)
        if self._by_address.get(peer.address) is connection:
            del self._by_address[peer.address]
            for other in self._all:
                if other.peer.address == peer.address:
                    self._by_address[peer.address] = other
        for callback in self.on_closed:
            callback(connection)

    def drain(self, worker_id: bytes) -> None:
        """Read the messages that a process had sent before it ended."""
        for connection in list(self._all):
            if connection.peer.id == worker_id:
                connection.drain()

    def connection_to(self, address: str) -> Connection | None:
        """Return the open connection to the process at this address, if there is one."""
        return self._by_address.get(address)

    def close(self) -> None:
        """Close everything without calling ``on_closed``."""
        if self._listener is not None:
            self._listener.close()
        for connection in self._all:
            connection.abandon()
        self._all.clear()
        self._by_address.clear()

    @property
    def connections(self) -> list[Connection]:
        """Every open connection, the oldest first."""
        return list(self._all)

    def adopt(self, connection: Connection) -> None:
        """Close another part's connection with the others: when the process ends, and in its forks.

        That part gave it a Peer, and calls ``release_adopted`` in its on_close.
        """
        self._all[connection] = None

    def release_adopted(self, connection: Connection) -> None:
        """Forget an adopted connection, which is closed."""
        self._all.pop(connection, None)

    def forget_functions(self, numbers: deque[int]) -> None:
        """Have workers forget remote functions of this process that are gone."""
        while numbers:
            number = numbers.popleft()
            for connection in self._all:
                if number in connection.peer.defined:
                    connection.peer.defined.discard(number)
                    connection.send(wire.ForgetFunction(number))
