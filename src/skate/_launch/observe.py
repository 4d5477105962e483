"""Reads the state of a session for the command line. An observer is no driver, and no process starts for
it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from skate._base import errors, ids
from skate._base.clock import monotonic
from skate._launch import session
from skate._transport.connection import Connection
from skate._transport.dialing import dial
from skate._transport.reactor import Reactor
from skate._transport.requests import Requests
from skate._wire import control, node
from skate._wire.codec import PROTOCOL

#: The roles must answer within this time (seconds).
ANSWER_TIMEOUT_S = 10.0


def hello_to_node() -> node.Hello:
    """Return the hello of an observer to a daemon."""
    return node.Hello("observer", ids.new_worker_id(), os.getpid(), "", PROTOCOL, b"")


def hello_to_control() -> control.RegisterObserver:
    """Return the hello of an observer to a control store."""
    return control.RegisterObserver(os.getpid(), PROTOCOL)


def find(address: str | None) -> str:
    """Return the folder of a session: the named one, else the current one, else the newest.

    Raises:
        ConnectionError: no session runs.
    """
    if address and address != "auto":
        return address
    found = os.environ.get("SKATE_ADDRESS") or session.current() or next(iter(session.living()), None)
    if not found:
        raise ConnectionError(
            "no session of this user runs on this machine. Start one with `skate start --head`, or a program "
            "that calls init()."
        )
    return found


class Observer:
    """Asks the daemon and the control store of one session. Use as a context manager."""

    def __init__(self, session_dir: str) -> None:
        self.session_dir = session_dir
        self._reactor = Reactor("observer")
        self._requests = Requests(self._reactor, self._reactor.lock)
        try:
            with self._reactor.lock:
                self._node = self._connect("node.sock", {node.StateAnswer: self._answered})
                self._node.send(hello_to_node())
                self._control = self._connect("control.sock", {control.Answer: self._answered})
                self._control.send(hello_to_control())
        except OSError as error:
            self._reactor.close()
            raise ConnectionError(
                f"no session answers at {session_dir!r}: {error.strerror or error}"
            ) from None

    def _connect(self, name: str, handlers: Any) -> Connection:
        sock = dial(os.path.join(self.session_dir, name))
        return Connection(self._reactor, sock, handlers, lambda connection: self._requests.end_waits())

    def _answered(self, connection: Connection, message: Any) -> None:
        self._requests.answered(message)

    def _ask(self, connection: Connection, make: Callable[[int], Any]) -> Any:
        with self._reactor.lock:
            request = self._requests.add(make)
            connection.send(request.message)
            connection.flush()
        answer = self._requests.wait(request, monotonic() + ANSWER_TIMEOUT_S)
        if answer is None:
            raise errors.RaySystemError(
                f"the session at {self.session_dir} does not answer: "
                f"{connection.close_reason or f'nothing within {ANSWER_TIMEOUT_S:g} s'}"
            )
        return answer

    def ask_node(self, make: Callable[[int], Any]) -> Any:
        """Send a request to the node daemon and return its answer."""
        return self._ask(self._node, make)

    def ask_control(self, make: Callable[[int], Any]) -> bytes:
        """Send a request to the control store and return the answer's body.

        Raises:
            RuntimeError: the control store refused; the message says why.
        """
        answer: control.Answer = self._ask(self._control, make)
        if answer.error_type:
            raise RuntimeError(answer.error)
        return answer.data

    def close(self) -> None:
        """Close the connections."""
        with self._reactor.lock:
            self._node.abandon()
            self._control.abandon()
        self._reactor.close()

    def __enter__(self) -> Observer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
