"""Decides which messages one connection may carry, by its state and its peer's kind. Decisions only: no I/O,
no clock.

::

    AWAITING_HELLO --hello accepted--> READY --closed--> CLOSED
          |                              |                 ^
          | hello refused, any other     | a message that   |
          | message, garbage, timeout    | this kind of     |
          |                              | peer may not say |
          '------------------------------'--- Refused ------'

An accepted connection starts in AWAITING_HELLO; the acceptor decodes its service's hellos only. A hello that
is accepted names the peer's kind, and from the next frame on the acceptor decodes what that kind may say.
The acceptor sends every refusal, with a code, to the peer before the connection closes; a refused message
changes nothing else.
"""

from __future__ import annotations

import enum
from typing import Any

import msgspec
from msgspec import Struct

from skate._wire.services import Service

#: Peers of another protocol version are refused at their hello.
PROTOCOL = 2

#: Codes of refusals: a hello of another protocol version; a message before the hello, or a second hello; a
#: message that this kind of peer may not say, or a peer that is not served; bytes that are no message; no
#: hello in time; a peer that may come again later.
WRONG_PROTOCOL = "wrong_protocol"
WRONG_STATE = "wrong_state"
WRONG_PEER = "wrong_peer"
GARBLED = "garbled"
LATE = "late"
BUSY = "busy"


class Refused(Struct, array_like=True, frozen=True, tag=140):
    """Any process to its peer: this connection is refused and closes. Not answered, not repeated."""

    code: str
    #: A predicate whose subject is the refused process: "sent LeaseDemand before its hello".
    what: str


class WrongMessage(Exception):
    """Raised by a handler that changed nothing: the sender of a message got it wrong, and is refused.

    Args:
        what: the fault, in words that follow the name of the message: "for an extent that it does not hold".
        code: of the refusal.
    """

    def __init__(self, what: str, code: str = GARBLED) -> None:
        super().__init__(what)
        self.what = what
        self.code = code


class State(enum.Enum):
    """Names the stages of a connection's life."""

    AWAITING_HELLO = "AWAITING_HELLO"
    READY = "READY"
    CLOSED = "CLOSED"


class Handshake:
    """Tracks the state of one accepted connection."""

    __slots__ = ("service", "state", "kind")

    def __init__(self, service: Service) -> None:
        self.service = service
        self.state = State.AWAITING_HELLO
        #: The kind of the peer; empty before its hello.
        self.kind = ""

    def hello(self, message: Any) -> Refused | None:
        """Handle a hello. Return why it is refused; None: it is accepted, and ``kind`` is known."""
        kind = self.service.kind_of(message)
        if self.state is not State.AWAITING_HELLO or kind is None:
            return self.refuse(type(message))
        if message.protocol != PROTOCOL:
            what = f"speaks protocol {message.protocol}, {self.service.role} speaks protocol {PROTOCOL}"
            return self._closing(WRONG_PROTOCOL, what)
        if kind not in self.service.said:
            return self._closing(
                WRONG_PEER, f"sent a hello as {kind!r}, which {self.service.role} does not serve"
            )
        self.state, self.kind = State.READY, kind
        return None

    def is_allowed(self, message: type) -> bool:
        """Tell whether a message of this type may come next."""
        if self.state is State.AWAITING_HELLO:
            return message in self.service.hellos
        return self.state is State.READY and message in self.service.said[self.kind]

    def refuse(self, message: type) -> Refused:
        """Return why a message of this type is refused now; the caller closes the connection."""
        name = message.__name__
        if self.state is State.AWAITING_HELLO:
            return self._closing(WRONG_STATE, f"sent {name} before its hello")
        if self.state is State.CLOSED:
            return self._closing(WRONG_STATE, f"sent {name} after the end of the connection")
        if message in self.service.hellos:
            return self._closing(WRONG_STATE, f"sent {name} after its hello")
        return self._closing(
            WRONG_PEER, f"sent {name}, which a {self.kind} must not send to {self.service.role}"
        )

    def not_understood(self, body: bytes, error: Exception, messages: dict[int, type[Struct]]) -> Refused:
        """Return why a frame is refused that the decoder could not decode.

        Args:
            body: of the frame.
            error: what the decoder raised.
            messages: all types, by their tags.
        """
        kind = type_of(body, messages)
        if kind is None or self.is_allowed(kind):
            return self._closing(GARBLED, f"sent garbage: {error}")
        return self.refuse(kind)

    def overdue(self, seconds: float) -> Refused | None:
        """End the time for the hello. Return the refusal; None: the hello came in time."""
        if self.state is not State.AWAITING_HELLO:
            return None
        return self._closing(LATE, f"sent no hello within {seconds:g} s")

    def closed(self) -> None:
        """Record that the connection ended."""
        self.state = State.CLOSED

    def _closing(self, code: str, what: str) -> Refused:
        self.state = State.CLOSED
        return Refused(code, what)


def type_of(body: bytes, messages: dict[int, type[Struct]]) -> type[Struct] | None:
    """Return the message type that the body of a frame names; None: it names no known type."""
    try:
        fields = msgspec.msgpack.decode(body, type=list[msgspec.Raw])
        return messages.get(msgspec.msgpack.decode(fields[0], type=int))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, IndexError):
        return None
