"""This process's connection to the node daemon: messages, and requests that wait for an answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from skate._base import errors
from skate._base.hooks import unset
from skate._transport.connection import Connection, Handler
from skate._transport.reactor import Waiter
from skate._transport.requests import Requests
from skate._transport.streams import Stream
from skate._wire import node, services
from skate._worker.process.context import ProcessContext


class DaemonLink:
    """Sends messages to the node daemon, and matches its answers with the threads that wait for them."""

    def __init__(self, context: ProcessContext) -> None:
        self._context = context
        #: None before the process is connected.
        self.connection: Connection | None = None
        #: Sends a message, which leaves with the next flush. Under the lock. Bound at ``attach``.
        self.send: Callable[[Any], None] = self._unconnected
        #: Sends what is queued. Under the lock.
        self.flush: Callable[[], None] = self._unconnected
        #: The daemon's answer to the hello; and notified when it is here.
        self.welcome: node.Welcome | None = None
        self.welcomed = Waiter()
        #: Notified when the daemon has sent its last message to a driver that leaves.
        self.left = Waiter()
        #: Called with lines that workers print (drivers).
        self.on_log: Callable[[node.LogLines], None] = unset
        #: Called with news of breakpoints (drivers).
        self.on_stop: Callable[[node.Stopped | node.Resumed], None] = unset
        #: Called once, under the lock, when the connection ends, with the reason. Set by Core.
        self.on_lost: Callable[[str], None] = unset
        self._requests = Requests(context.reactor, context.locked)

    def _unconnected(self, *_: Any) -> None:
        raise errors.RaySystemError("this process is not connected to its node daemon")

    def connect(self, sock: Stream, handlers: dict[type, Handler], hello: node.Hello) -> None:
        """Say hello to the daemon. Under the lock.

        Args:
            sock: the stream to it.
            handlers: the handlers of other parts for its messages.
            hello: the first message.
        """
        heard = services.NODE.heard[self._context.kind]
        handlers = {
            message: handler
            for message, handler in {**self.handlers(), **handlers}.items()
            if message in heard
        }
        connection = Connection(self._context.reactor, sock, handlers, self._closed, receives_fds=True)
        connection.peer = "the node daemon"
        self.attach(connection)
        self.send(hello)
        self.flush()

    def handlers(self) -> dict[type, Handler]:
        """Return the handlers of this class, by type of message."""
        return {
            node.Welcome: self._welcome,
            node.StateAnswer: self._answered,
            node.LogLines: lambda c, m: self.on_log(m),
            node.Stopped: lambda c, m: self.on_stop(m),
            node.Resumed: lambda c, m: self.on_stop(m),
            node.Shutdown: lambda c, m: self.left.notify(),
        }

    def _welcome(self, connection: Connection, message: node.Welcome) -> None:
        self.welcome = message
        self._context.node_id = message.node_id
        self.welcomed.notify()

    def _closed(self, connection: Connection) -> None:
        self._requests.end_waits()
        self.on_lost(connection.close_reason)

    def attach(self, connection: Connection) -> None:
        """Use this connection from now on. Under the lock."""
        self.connection = connection
        self.send, self.flush = connection.send, connection.flush

    @property
    def is_open(self) -> bool:
        """Whether messages reach the daemon."""
        return self.connection is not None and not self.connection.closed

    def request(self, make: Callable[[int], Any], unclaimed: Callable[[Any], None] | None = None) -> Any:
        """Send the daemon a request and wait for the answer. Not under the lock.

        Args:
            make: returns the message, given the number of the request.
            unclaimed: called under the lock with an answer that came although the wait was interrupted.

        Raises:
            LocalRayletDiedError: the session is lost.
        """
        context = self._context
        with context.locked:
            context.check_usable()
            request = self._requests.add(make)
            self.send(request.message)
            self.flush()
        answer = self._requests.wait(request, unclaimed=unclaimed)
        if answer is None:
            context.check_usable()
            assert self.connection is not None
            raise errors.RaySystemError(f"{self.connection.peer} is gone: {self.connection.close_reason}")
        return answer

    def answered(self, message: Any) -> bool:
        """Hand an answer to the thread that waits for it; tell whether one does. Under the lock."""
        return self._requests.answered(message)

    def _answered(self, connection: Connection, message: Any) -> None:
        self._requests.answered(message)
