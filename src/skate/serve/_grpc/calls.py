"""RPCs between the door and a replica, and errors as gRPC clients learn of them. Decisions only: no I/O, no
clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from skate.serve._messages import Route
from skate.serve._protocols.failures import cause_of
from skate.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    ReplicaUnavailableError,
    RequestCancelledError,
    RequestTimeoutError,
)

#: The name of the actor that answers gRPC, in the namespace of serve.
DOOR = "SERVE_GRPC"

Metadata = tuple[tuple[str, str | bytes], ...]
"""Keys, in lower case, and values, in order; those of keys that end in ``-bin`` are bytes."""

#: Longer details are cut (characters): they travel as a header, whose size clients limit.
_LONGEST_DETAILS = 4096
#: Codes that blame the server: a version whose requests end so is worse than one whose do not.
_SERVER_FAULTS = frozenset(
    ("UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS")
)
#: Errors of serve's own, and their codes.
_CODES = (
    (BackPressureError, "RESOURCE_EXHAUSTED"),
    (RequestTimeoutError, "DEADLINE_EXCEEDED"),
    (DeploymentUnavailableError, "UNAVAILABLE"),
    (ReplicaUnavailableError, "UNAVAILABLE"),
    (RequestCancelledError, "CANCELLED"),
)


@dataclass(frozen=True)
class Transport:
    """The connection that an RPC came by, as gRPC describes it.

    Args:
        peer: the client's address.
        identities, identity_key: of a client with TLS, if it showed who it is.
        auth: properties of its TLS connection.
    """

    peer: str = ""
    identities: tuple[bytes, ...] | None = None
    identity_key: str | None = None
    auth: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """An RPC on its way from the door to a replica, beside its message.

    Args:
        codec: the pickled pair of functions that read a message and write one; either may be None: bytes.
        stream: identifies the client's stream of messages at the door; 0: it has sent one message.
        metadata: of the client, without API keys.
        transport: the client.
    """

    codec: bytes
    stream: int
    metadata: Metadata = ()
    transport: Transport = Transport()


@dataclass(frozen=True)
class Outcome:
    """The end of an RPC.

    Args:
        code: the name of its status.
        details: a text for the client.
        trailing: metadata that follows the answer.
        compression: the name of a kind of compression; "": the server's own.
    """

    code: str = "OK"
    details: str = ""
    trailing: Metadata = ()
    compression: str = ""

    @property
    def http_status(self) -> int:
        """The status of HTTP that judges a version in the same way."""
        if self.code == "OK":
            return 200
        return 500 if self.code in _SERVER_FAULTS else 400


Item = tuple[bytes | None, Outcome | None]
"""An item of a replica's answer: a message; with the last one, or after it, the end."""


def outcome_of(raised: BaseException, *, is_death: bool = False) -> Outcome:
    """Return how an error ends an RPC.

    Args:
        raised: by serve, or by user code.
        is_death: it says that the replica is gone.

    Example:
        >>> outcome_of(KeyError("a")).code
        'INTERNAL'
    """
    error = cause_of(raised)
    code = "UNAVAILABLE" if is_death else "INTERNAL"
    code = next((name for kind, name in _CODES if isinstance(error, kind)), code)
    trailing: Metadata = ()
    if isinstance(error, BackPressureError) and error.retry_after_s is not None:
        # gRPC's own Retry-After: clients with a retry policy wait so long (proposal A6).
        trailing = (("grpc-retry-pushback-ms", str(max(0, round(error.retry_after_s * 1000)))),)
    return Outcome(code, cut(str(error) or type(error).__name__), trailing)


def cut(details: str) -> str:
    """Return details that fit into a header.

    Example:
        >>> cut("short")
        'short'
    """
    return details if len(details) <= _LONGEST_DETAILS else f"{details[:_LONGEST_DETAILS]}... (cut)"


def application_of(name: str, routes: Sequence[Route]) -> Route | str:
    """Return the route of the application that an RPC is for, or why there is none.

    Args:
        name: as its metadata have it; "": the only application.
        routes: all that there are.

    Example:
        >>> application_of("", [shop]) is shop
        True
    """
    if not name and len(routes) == 1:
        return routes[0]
    found = next((one for one in routes if one.app_name == name), None)
    if found is not None:
        return found
    what = f"Application {name!r} not found." if name else "Application metadata not set."
    known = ", ".join(sorted(one.app_name for one in routes)) or "none"
    return f"{what} Name one by the metadata key 'application'; there are: {known}."


def value_of(metadata: Metadata, *keys: str) -> str:
    """Return the last value of some keys, or ""."""
    found = ""
    for key, value in metadata:
        if key in keys and isinstance(value, str):
            found = value
    return found
