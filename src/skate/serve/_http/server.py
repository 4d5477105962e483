"""The HTTP server of a process: its connections, accepted here or taken from other processes."""

from __future__ import annotations

import asyncio
import logging
import socket
from email.utils import formatdate
from importlib.util import find_spec
from typing import Any

from uvicorn.config import Config
from uvicorn.server import ServerState

from skate.serve._http.protocol import Connection, PassOn
from skate.serve._http.tls import context_of
from skate.serve._targets import HTTPTarget

logger = logging.getLogger("skate.serve")

#: Those with which uvicorn speaks WebSocket.
_WEBSOCKET_PACKAGES = ("websockets", "wsproto")
#: So many connections are accepted at a time: others that listen get some, too.
_ACCEPTED = 32
#: When no descriptor is left, the next try to accept is made after this time (seconds).
_RETRY_S = 1.0


def _websocket(**options: Any) -> asyncio.Protocol:
    """Make uvicorn's protocol of a WebSocket. Its library is loaded with the first one: most replicas have
    none, and would pay for it at their start."""
    from uvicorn.protocols.websockets.auto import AutoWebSocketsProtocol

    return AutoWebSocketsProtocol(**options)  # type: ignore[misc]


class HTTPServer:
    """Accepts connections from a listening socket, and from other processes.

    Args:
        app: the ASGI application.
        options: of the port.
        pass_on: see ``PassOn``.
    """

    def __init__(self, app: Any, options: HTTPTarget, pass_on: PassOn) -> None:
        ws: Any = _websocket if any(map(find_spec, _WEBSOCKET_PACKAGES)) else "none"
        self._config = Config(
            app,
            http=Connection,
            loop="none",
            lifespan="off",
            ws=ws,
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            root_path="",
        )
        self._config.load()
        self._options = options
        self.state = ServerState()
        self._loop = asyncio.get_running_loop()
        attributes = {"pass_on": staticmethod(pass_on), "options": options}
        self._kind = type("Connection", (Connection,), attributes)
        self._listener: socket.socket | None = None
        #: Begins to listen again, after no descriptor was left.
        self._retry: asyncio.TimerHandle | None = None
        #: Arguments for connections that begin here, for TLS; and whether those end after their next answer.
        self._tls: dict[str, Any] = {}
        self._ends_secure = False
        self._adopting: set[asyncio.Task[None]] = set()
        self._clock: asyncio.TimerHandle | None = None
        self._tick()

    def _make(self) -> Any:
        return self._kind(self._config, self.state, {}, self._loop)

    def _tick(self) -> None:
        self.state.default_headers = [(b"date", formatdate(usegmt=True).encode())]
        now = self._loop.time()
        for one in self.connections():
            if isinstance(one, Connection):
                one.check(now)
        self._clock = self._loop.call_later(1.0, self._tick)

    def accept(self, listener: socket.socket) -> None:
        """Accept connections from a copy of this socket."""
        if self._listener is not None:
            return
        if self._options.tls is not None:
            self._tls = {
                "ssl": context_of(self._options.tls),
                "ssl_handshake_timeout": self._options.header_timeout_s or None,
            }
        self._listener = listener.dup()
        self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        # asyncio's own server drops what it accepted in the moment in which it is closed.
        assert self._listener is not None
        for _ in range(_ACCEPTED):
            try:
                connection, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return  # another process was faster, or the client gave up
            except OSError as error:
                logger.error("no connection can be accepted for %g s: %s", _RETRY_S, error)
                self._loop.remove_reader(self._listener)
                self._retry = self._loop.call_later(_RETRY_S, self._accept_again)
                return
            connection.setblocking(False)
            self.adopt(connection, **self._tls)

    def _accept_again(self) -> None:
        if self._listener is not None:
            self._loop.add_reader(self._listener, self._accept)

    def stop_accepting(self) -> None:
        """Accept no more. The socket's queue is shared: other processes take what waits in it."""
        if self._retry is not None:
            self._retry.cancel()
        if self._listener is not None:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    def end_secure(self) -> None:
        """Have the connections end that cannot be passed on, those too whose handshake is under way."""
        self._ends_secure = True
        for one in self.connections():
            if isinstance(one, Connection) and one.is_secure:
                one.end()

    def adopt(self, connection: socket.socket, data: bytes = b"", **tls: Any) -> None:
        """Go on with a connection, of another process or one that has just come.

        Args:
            connection: its socket.
            data: what another process has read from it.
            tls: arguments of ``connect_accepted_socket``.
        """
        protocol = self._make()

        async def connect() -> None:
            try:
                await self._loop.connect_accepted_socket(lambda: protocol, connection, **tls)
            except OSError:  # of TLS, too: the client does not speak it
                connection.close()
                return
            protocol.begin(data)
            if self._ends_secure and protocol.is_secure:
                protocol.end()

        task = self._loop.create_task(connect())
        self._adopting.add(task)
        task.add_done_callback(self._adopting.discard)

    @property
    def is_beginning(self) -> bool:
        """Whether a connection was accepted or taken that is not among ``connections`` yet."""
        return bool(self._adopting)

    def connections(self) -> list[Any]:
        """Return all connections, WebSockets too."""
        return list(self.state.connections)

    def close(self) -> None:
        """Close everything."""
        self.stop_accepting()
        if self._clock is not None:
            self._clock.cancel()
        for one in self.connections():
            transport = getattr(one, "transport", None)
            if transport is not None:
                transport.close()
