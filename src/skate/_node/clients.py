"""The processes that are connected to the daemon, by their worker id."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from skate._transport.connection import Connection


class Client:
    """A connected process, before and after its hello."""

    connection: Connection

    def __init__(self, is_lifeline: bool) -> None:
        #: The daemon ends when this connection does: it is the one of the driver that started the daemon.
        self.is_lifeline = is_lifeline
        self.id = b""
        #: "driver", "worker" or "observer"; empty before the hello.
        self.kind = ""
        #: The driver (or detached actor) whose job this process works for.
        self.job = b""
        #: The worker pool key of tasks that it submits without naming a runtime environment.
        self.pool = b""
        self.pid = 0
        #: Where its own listening socket is.
        self.address = ""
        #: When it said hello (seconds since 1970).
        self.since = 0.0
        #: Segments whose descriptor it has; written by the object service.
        self.segments: set[int] = set()

    def __repr__(self) -> str:
        return f"{self.kind or 'unknown process'} {self.id.hex()}"


class Clients:
    """Every driver and worker that said hello and has not hung up."""

    def __init__(self) -> None:
        self._by_id: dict[bytes, Client] = {}

    def add(self, client: Client) -> None:
        """Register a client after its hello."""
        self._by_id[client.id] = client

    def remove(self, client: Client) -> bool:
        """Forget a client that hung up. False: it was not registered."""
        if self._by_id.get(client.id) is not client:
            return False
        del self._by_id[client.id]
        return True

    def get(self, client_id: bytes) -> Client | None:
        """Return the client with this id, if it is connected."""
        return self._by_id.get(client_id)

    def send(self, client_id: bytes, message: Any) -> bool:
        """Send a message to a client. False: it is not connected, and the message is dropped."""
        client = self._by_id.get(client_id)
        if client is None:
            return False
        client.connection.send(message)
        return True

    def drivers(self) -> list[Client]:
        """Return the connected drivers."""
        return [client for client in self._by_id.values() if client.kind == "driver"]

    def ids(self) -> list[bytes]:
        """Return the ids of all clients, in the order in which they said hello."""
        return list(self._by_id)

    def __contains__(self, client_id: bytes) -> bool:
        return client_id in self._by_id

    def __iter__(self) -> Iterator[Client]:
        return iter(list(self._by_id.values()))
