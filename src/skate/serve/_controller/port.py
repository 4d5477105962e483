"""The port: its listening socket, and HTTP as long as no replica answers it."""

from __future__ import annotations

import asyncio
import errno
import itertools
import logging
import socket
from collections.abc import Callable, Sequence
from typing import Any

from skate.serve._client.client import Client
from skate.serve._http.sharing import CONTROLLER_DOOR, Door, Doors, door_path, get_listener, listen
from skate.serve._messages import Routes
from skate.serve._targets import ApiKeys, HTTPTarget
from skate.serve.exceptions import AddressUnavailableError

logger = logging.getLogger("skate.serve")

#: Between two looks whether a front that is leaving still has connections, or two tries to listen (seconds).
_POLL_S = 0.05
#: How long a controller that is restarted tries to get the port again (seconds).
_REOPEN_S = 10.0

_fronts = itertools.count(1)


async def _unused(scope: Any, receive: Any, send: Any) -> None:
    """Stand for the entrance."""


def _advice(error: OSError) -> str:
    """Return what to do about an address that cannot be had."""
    if error.errno == errno.EADDRINUSE:
        return (
            "Another program uses the port: choose one by --port of `skate serve run`, or "
            "serve.start(http_options={'port': ...}), 0 for any"
        )
    if error.errno == errno.EACCES:
        return "Ports below 1024 need rights of their own: choose another one, 0 for any"
    return "The host has to be an address of this machine, such as 127.0.0.1; 0.0.0.0 is all of them"


class Port:
    """The port in the controller.

    Args:
        folder: where processes pass sockets to each other.
        client: of this process.
        spawn: starts a coroutine that nobody waits for.
    """

    def __init__(self, folder: str, client: Client, spawn: Callable[[Any], None]) -> None:
        self._folder = folder
        self._client = client
        self._spawn = spawn
        #: Where it is; None: it is not open.
        self.options: HTTPTarget | None = None
        #: API keys; None: there are none. They stay when the port is closed: some connections still end.
        self.keys: ApiKeys | None = None
        self._listener: socket.socket | None = None
        self._door: Door | None = None
        self._front: Any = None
        self._routes = Routes(0)
        #: Fronts that replicas took over from.
        self._leaving: list[Any] = []
        #: Replicas that take connections, and the way to them.
        self._others: list[str] = []
        self._doors = Doors(folder)

    def open(self, options: HTTPTarget) -> HTTPTarget:
        """Listen; return where.

        Raises:
            AddressUnavailableError: the address is in use, or cannot be had.
            RuntimeError: a middleware cannot be made.
        """
        if options.middlewares is not None:
            from skate.serve._http.middlewares import layered

            layered(_unused, options.middlewares)  # it raises here, rather than in each replica
        try:
            listener = listen(options.host, options.port)
        except OSError as error:
            raise AddressUnavailableError(
                f"serve cannot listen on {options.host}:{options.port}: {error.strerror}. {_advice(error)}"
            ) from None
        return self._opened(listener, options)

    async def reopen(self, options: HTTPTarget, holders: Sequence[str]) -> None:
        """Get the listening socket from a replica: this controller replaces one that has died.

        Args:
            options: of the port.
            holders: replicas that may have it.
        """
        until = self._client.loop.time() + _REOPEN_S
        while True:
            found = (get_listener(self._folder, door) for door in holders)
            listener = next((one for one in found if one is not None), None)
            try:
                self._opened(listener or listen(options.host, options.port), options)
            except OSError as error:  # one that has it does not answer: its process is stopped, or ends
                if self._client.loop.time() > until:
                    logger.error(
                        "HTTP is not answered: serve cannot listen on %s:%d any more: %s. Call serve.start() "
                        "when the address is free",
                        options.host,
                        options.port,
                        error.strerror,
                    )
                    return
                await asyncio.sleep(_POLL_S)
            else:
                return

    def _opened(self, listener: socket.socket, options: HTTPTarget) -> HTTPTarget:
        self._listener = listener
        self.options = HTTPTarget(**{**options.__dict__, "port": listener.getsockname()[1]})
        self.keys = options.keys
        self._door = Door(door_path(self._folder, CONTROLLER_DOOR), listener, self._adopt)
        return self.options

    def change_keys(self, keys: ApiKeys) -> HTTPTarget:
        """Admit requests with these keys only; return where HTTP is answered."""
        assert self.options is not None
        self.keys = keys
        self.options = HTTPTarget(**{**self.options.__dict__, "keys": keys})
        return self.options

    def _adopt(self, connection: socket.socket, data: bytes) -> None:
        """Take a connection of a replica that knew no other one; by now there may be some."""
        if self._front is None and any(self._doors.give(door, connection, data) for door in self._others):
            connection.close()  # this process's descriptor of it
            return
        if self._front is None:
            self._open_front()
        if self._front is None:
            connection.close()
        else:
            self._front.server.adopt(connection, data)

    def answer(self, routes: Routes, has_doors: bool, is_awaited: bool) -> None:
        """Answer HTTP here as long as no replica does and none is about to.

        Args:
            routes: as they are now.
            has_doors: replicas take connections.
            is_awaited: some soon will.
        """
        if self.options is None or self._listener is None:
            return
        self._routes = routes
        self._others = [door for route in routes.routes for door in route.doors]
        for front in self._leaving:
            front.routes_changed(routes)
        if self._front is not None:
            self._front.routes_changed(routes)
            if has_doors:
                front, self._front = self._front, None
                front.drain()
                self._spawn(self._close_front(front))
        elif not has_doors and not is_awaited:
            self._open_front()

    def _open_front(self) -> None:
        from skate.serve._http.entrance import Entrance

        assert self.options is not None
        assert self._listener is not None
        name = f"{CONTROLLER_DOOR}-front{next(_fronts)}"
        try:
            self._front = Entrance(name, self._folder, self.options, self._client)
        except RuntimeError:
            # A middleware could be made when the port was opened. Nothing may pass it: connections wait.
            logger.exception("the controller cannot answer HTTP until a replica does")
            return
        self._front.routes_changed(self._routes)
        self._front.open(self._listener.dup())

    async def _close_front(self, front: Any) -> None:
        """Pass its connections on as they become idle, then end it. Requests that waited for a first replica
        may take their time.
        """
        self._leaving.append(front)
        while not front.has_left() or front.server.connections():
            await asyncio.sleep(_POLL_S)
        self._leaving.remove(front)
        front.close()

    def close(self) -> None:
        """Listen no more."""
        self.options = None
        self._doors.close()
        for one in (self._front, *self._leaving, self._door, self._listener):
            if one is not None:
                one.close()
        self._front = self._door = self._listener = None
