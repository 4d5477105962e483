"""Accepts connections: a peer can say nothing but its hello until that has been checked.

The gate costs nothing per message: before the hello, the connection has a decoder and a table of handlers for
hellos alone; the hello swaps both for those of the peer's kind (see ``_wire.handshake``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from skate._transport.connection import Connection, Handler
from skate._transport.reactor import Reactor
from skate._transport.streams import Stream
from skate._wire.framing import MAX_HELLO
from skate._wire.handshake import Handshake
from skate._wire.services import Service

#: A connection without a hello is dropped after this time (seconds). Long: a busy machine may stop a process
#: between its dial and its hello, and a half-open connection costs one descriptor only.
HELLO_TIMEOUT_S = 60.0


class Acceptor:
    """Makes connections of accepted sockets. All methods run under the reactor's lock.

    Args:
        reactor: of this process.
        service: the messages that this role takes, by kind of peer.
        handlers: the handler of each message, hellos included. It may be completed until the first hello
            arrives. A hello's handler runs when the handshake accepted it; it may still call
            ``connection.refuse``.
        on_close: called once for each connection, whether or not it said hello.
        timeout: seconds until a connection without a hello is dropped.
    """

    def __init__(
        self,
        reactor: Reactor,
        service: Service,
        handlers: Mapping[type, Handler],
        on_close: Callable[[Connection], None],
        timeout: float = HELLO_TIMEOUT_S,
    ) -> None:
        self._reactor = reactor
        self._service = service
        self._handlers = handlers
        self._on_close = on_close
        self._timeout = timeout
        self._hellos: dict[type, Handler] = dict.fromkeys(service.hellos, self._hello)
        #: By kind of peer.
        self._tables: dict[str, Mapping[type, Handler]] = {}
        #: Connections that did not say hello yet.
        self._waiting: dict[Connection, None] = {}

    def accept(self, sock: Stream, peer: Any, *, patient: bool = False) -> Connection:
        """Serve a process that connected.

        Args:
            sock: its stream.
            peer: the role's record of the peer.
            patient: the peer may take any time for its hello (a lifeline).
        """
        connection = Connection(self._reactor, sock, self._hellos, self._closed, largest=MAX_HELLO)
        connection.peer = peer
        connection.handshake = Handshake(self._service)
        self._waiting[connection] = None
        if not patient:
            connection.hello_timer = self._reactor.call_later(
                self._timeout, lambda: self._overdue(connection)
            )
        return connection

    def _hello(self, connection: Connection, message: Any) -> None:
        handshake = connection.handshake
        assert handshake is not None
        refused = handshake.hello(message)
        if refused is not None:
            connection.refuse(refused)
            return
        self._greeted(connection)
        connection.serve(self._table(handshake.kind))
        self._handlers[type(message)](connection, message)

    def _table(self, kind: str) -> Mapping[type, Handler]:
        table = self._tables.get(kind)
        if table is None:
            said = self._service.said[kind]
            table = {message: handler for message, handler in self._handlers.items() if message in said}
            self._tables[kind] = table
        return table

    def _overdue(self, connection: Connection) -> None:
        assert connection.handshake is not None
        refused = connection.handshake.overdue(self._timeout)
        if refused is not None:
            connection.refuse(refused)

    def _greeted(self, connection: Connection) -> None:
        self._waiting.pop(connection, None)
        if connection.hello_timer is not None:
            connection.hello_timer.cancel()
            connection.hello_timer = None

    def _closed(self, connection: Connection) -> None:
        self._greeted(connection)
        assert connection.handshake is not None
        connection.handshake.closed()
        self._on_close(connection)

    def close(self) -> None:
        """Drop the connections that have not said hello, without a message."""
        for connection in list(self._waiting):
            self._greeted(connection)
            connection.abandon()
