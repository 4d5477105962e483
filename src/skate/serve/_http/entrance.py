"""The ASGI application that all HTTP of a process goes through: routes, ids, deadlines, errors."""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from skate.serve._client.call import Call, cancel_children, is_death
from skate.serve._client.client import Client
from skate.serve._client.port import Port
from skate.serve._http import keys, relaying, scrape
from skate.serve._http.bodies import WaitingBody
from skate.serve._http.failures import answer_to
from skate.serve._http.limits import BodyBudget
from skate.serve._http.middlewares import layered
from skate.serve._http.observed import SENDING, WEBSOCKET, Observed
from skate.serve._http.protocol import Connection, answer, refuse
from skate.serve._http.responses import TEXT
from skate.serve._http.routes import RouteTable, path_of
from skate.serve._http.server import HTTPServer
from skate.serve._http.sharing import CONTROLLER_DOOR, Door, Doors, door_path
from skate.serve._http.websockets import WebSocket, is_goodbye
from skate.serve._messages import Route, Routes
from skate.serve._observing import requests, tracing
from skate.serve._router.draw import is_drawn
from skate.serve._targets import DeploymentId, HTTPTarget
from skate.serve.context import RequestContext, new_id, request
from skate.serve.exceptions import DeploymentUnavailableError

_CONTENT_TYPE = b"content-type"


class Here(Protocol):
    """The replica in this process, as what runs requests."""

    #: Its deployment.
    name: DeploymentId

    def begin_here(self) -> bool:
        """Take a slot, if one is free."""

    def end_here(self) -> None:
        """Give back the slot of ``begin_here``."""

    async def run_http(self, scope: Any, receive: Any, send: Any, context: RequestContext) -> None:
        """Run user code for a request, and answer."""


class Entrance:
    """Accepts HTTP for all applications.

    Args:
        door: identifies this process among those that accept.
        folder: where their Unix sockets are.
        options: of the port.
        client: of this process.
        here: the replica in this process; None in the controller, which accepts when no replica does.
    """

    def __init__(
        self, door: str, folder: str, options: HTTPTarget, client: Client, here: Here | None = None
    ) -> None:
        self.door = door
        self._folder = folder
        self._options = options
        self._client = client
        self._here = here
        self.routes = RouteTable()
        self._doors = Doors(folder)
        self._door: Door | None = None
        self._listener: socket.socket | None = None
        self._keys = options.keys
        self._bodies = BodyBudget(options.max_queued_body_bytes)
        self.observed = Observed(layered(self, options.middlewares))
        self.server = HTTPServer(self.observed, options, self._pass_on)
        self._next = 0
        self.is_draining = False

    # ------------------------------------------------------------------ life

    def open(self, listener: socket.socket) -> None:
        """Accept connections."""
        self._listener = listener
        self._door = Door(door_path(self._folder, self.door), listener, self.server.adopt)
        self.server.accept(listener)

    def routes_changed(self, table: Routes) -> None:
        """The controller has other routes."""
        self.routes = RouteTable(table.routes)
        self._keys = table.keys or self._keys
        self._doors.retain({door for route in table.routes for door in route.doors})
        if self.is_draining:
            self.pass_idle_connections()

    def drain(self) -> None:
        """Accept no more, and pass connections on as soon as they are idle.

        The door stays open: a controller that is restarted may get the listening socket from nobody else.
        """
        self.is_draining = True
        self.server.stop_accepting()
        self.server.end_secure()
        self.pass_idle_connections()

    def close_door(self) -> None:
        """Take no connection from other processes any more. Those that were sent come yet."""
        if self._door is not None:
            self._door.close()
            self._door = None

    def pass_idle_connections(self) -> None:
        """Pass on the connections that have no request under way."""
        for one in self.server.connections():
            if isinstance(one, Connection) and not one.is_busy:
                self._pass_on(one, b"")

    def has_left(self) -> bool:
        """Pass on what can be; tell whether nothing is left here that this process must not close.

        A connection that no other process takes at the moment is kept. One of TLS stays here until its client
        has closed it, which ``drain`` has asked for with its next answer: an idle one counts for nothing, but
        for one that has just come.
        """
        self.pass_idle_connections()
        kept = [
            one
            for one in self.server.connections()
            if not isinstance(one, Connection) or one.is_busy or not one.is_secure or one.is_awaited
        ]
        return not kept and not self.server.is_beginning

    def close(self) -> None:
        """Close every connection."""
        self.close_door()
        self._doors.close()
        self.server.close()
        if self._listener is not None:
            self._listener.close()

    # ------------------------------------------------------------------ connections

    def _pass_on(self, connection: Connection, data: bytes) -> bool:
        """Pass a connection on if its next request is for another application, or if this process ends."""
        if connection.is_secure:
            return False
        if self.is_draining:
            doors = [door for route in self._ordered(data) for door in route.doors if door != self.door]
            if not doors and self._here is not None:
                doors = [CONTROLLER_DOOR]
        elif not data or self._is_ours(self.routes.only):
            return False
        else:
            path = path_of(data)
            route = self.routes.match(path) if path is not None else None
            if route is None or self._is_ours(route):
                return False
            doors = list(route.doors)
        if not doors:
            return False
        self._next += 1
        for offset in range(len(doors)):
            door = doors[(self._next + offset) % len(doors)]
            if self._doors.give(door, connection.socket, data):
                connection.leave()
                self.observed.handed_over(self.is_draining)
                return True
        return False

    def _ordered(self, data: bytes) -> list[Route]:
        """Return the routes, the one first that the next request is for, or that is likely."""
        path = path_of(data) if data else None
        first = self.routes.match(path) if path is not None else None
        if first is None and self._here is not None:
            first = next((one for one in self.routes.routes if self._is_ours(one)), None)
        return sorted(self.routes.routes, key=lambda one: one is not first)

    def _is_ours(self, route: Route | None) -> bool:
        here = self._here
        return (
            here is not None
            and route is not None
            and (route.ingress == here.name.name and route.app_name == here.name.app_name)
        )

    # ------------------------------------------------------------------ requests

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """See ASGI."""
        path = scope["path"]
        is_http = scope["type"] == "http"
        if self._keys is not None and not (is_http and path == "/-/healthz"):
            headers = keys.admitted(self._keys, scope["headers"])
            if headers is None:
                await refuse(scope, receive, send, 401, keys.REFUSAL, keys.CHALLENGE)
                return
            scope["headers"] = headers
        if is_http and path.startswith("/-/"):
            await self._own(receive.__self__, path)
            return
        route = self.routes.match(path)
        if route is None:
            await refuse(scope, receive, send, 404, self._not_found(scope, path))
            return
        context, timeout = self._context(scope, route)
        if is_http:
            send.routed(scope["method"], route, context)
        else:
            scope.pop(SENDING).routed(WEBSOCKET, route, context)
        root = "" if route.prefix == "/" else route.prefix
        scope["root_path"] = self._options.root_path + root
        if self._options.root_path:
            scope["path"] = self._options.root_path + path
        token = request.set(context)
        try:
            if is_http:
                await self._http(scope, receive, send, route, context, timeout)
            else:
                await self._websocket(scope, receive, send, route, context)
        finally:
            request.reset(token)

    def _context(self, scope: Any, route: Route) -> tuple[RequestContext, float | None]:
        """Return what a request says of itself in its headers, and its time limit (seconds)."""
        request_id = model_id = trace = session_id = ""
        timeout = self._options.request_timeout_s
        for name, value in scope["headers"]:
            if name == b"x-request-id":
                request_id = value.decode("latin-1")
            elif name in (b"serve_multiplexed_model_id", b"serve-multiplexed-model-id"):
                model_id = value.decode("latin-1")
            elif name == b"traceparent":
                trace = tracing.parse(value.decode("latin-1"))
            elif name == b"x-session-id":
                session_id = value.decode("latin-1")
            elif name == b"x-request-timeout-seconds":
                try:
                    timeout = float(value)
                except ValueError:
                    continue
        if timeout is not None and not 0 < timeout < math.inf:
            timeout = None
        context = RequestContext(
            request_id or new_id(),
            route.prefix,
            route.app_name,
            model_id,
            trace=trace,
            session_id=session_id,
        )
        if timeout is not None and scope["type"] == "http":  # a WebSocket has no time limit
            context.deadline = self._client.loop.time() + timeout
        return context, timeout

    async def _http(
        self,
        scope: Any,
        receive: Any,
        send: Any,
        route: Route,
        context: RequestContext,
        timeout: float | None,
    ) -> None:
        cycle = receive.__self__
        task = asyncio.current_task()
        assert task is not None
        cycle.on_disconnect = task.cancel
        if cycle.disconnected or cycle.response_complete:
            return
        late = None
        is_late = False
        if timeout is not None:

            def expire() -> None:
                nonlocal is_late
                is_late = True
                task.cancel()

            late = self._client.loop.call_at(context.deadline, expire)
        try:
            await self._serve(scope, receive, send, route, context)
        except asyncio.CancelledError:
            cancel_children(context)
            if is_late:
                self._say(cycle, context, 408, f"Request {context.request_id} timed out after {timeout:g}s.")
            elif not cycle.disconnected:
                self._say(cycle, context, 503, "The replica ended while it had this request.")
        except Exception as error:
            cancel_children(context)
            self._say(cycle, context, *answer_to(error, context, route))
        finally:
            if late is not None:
                late.cancel()
            cycle.on_disconnect = None

    def _find(self, route: Route, context: RequestContext) -> tuple[Port, bool]:
        """Return the port of a request, and whether it has a slot here, as one is free.

        Raises:
            DeploymentUnavailableError: nothing can run it.
        """
        here = self._here
        ingress = route.ingress
        if route.canary is not None and is_drawn(context.request_id, route.canary[1]):
            ingress, here = route.canary[0], None
        if here is None or not self._is_ours(route):
            port = self._client.port(DeploymentId(ingress, route.app_name))
            if route.unavailable:
                requests.count_shed(port.name, "unavailable")
                raise DeploymentUnavailableError(port.name, route.unavailable)
            return port, False
        port = self._client.port(here.name, hosted=True)
        may_run = port.choosing.is_indifferent(context, self.door)
        return port, may_run and not port.router.queued and here.begin_here()

    async def _serve(
        self, scope: Any, receive: Any, send: Any, route: Route, context: RequestContext
    ) -> None:
        """Run a request here if a slot is free or becomes free, else at another replica."""
        port, has_begun = self._find(route, context)
        here = self._here
        if has_begun:
            assert here is not None
            started = self._client.loop.time()
            try:
                await here.run_http(scope, receive, send, context)
            finally:
                here.end_here()
                port.forecast.served(self._client.loop.time() - started)
            return
        refusal = port.refusal(context)
        if refusal is not None:  # before its body is read
            raise refusal
        with WaitingBody(self._bodies) as body:
            await body.read(scope, receive)
            for is_last in (False, True):
                call = Call("", (relaying.head_of(scope, context), body.bytes), {}, context, "http")
                if await self._turn(port, call):
                    assert here is not None
                    try:
                        await here.run_http(scope, body.replayed(receive), send, context)
                    finally:
                        port.finished_here(call)
                    return
                try:
                    await relaying.relay(call, receive.__self__, send, context)
                    return
                except asyncio.CancelledError:
                    port.cancel(call)
                    raise
                except Exception as error:
                    is_lost = is_death(error) and not receive.__self__.response_started
                    if is_last or not is_lost or not (port.is_idempotent or relaying.may_repeat(scope)):
                        raise

    async def _turn(self, port: Any, call: Call) -> bool:
        """Wait until a request may run: True: here, and it has a slot; False: it was sent elsewhere, or
        refused."""
        begun: asyncio.Future[bool] = self._client.loop.create_future()

        def begin_here() -> None:
            if begun.done():
                port.finished_here(call)  # it was cancelled while it waited
            else:
                begun.set_result(True)

        def sent(_: Call) -> None:
            if not begun.done():
                begun.set_result(False)

        call.begin_here = begin_here
        call.when_sent(sent)
        port.submit(call)
        try:
            return await begun
        except asyncio.CancelledError:
            if begun.cancelled() or not begun.result():
                port.cancel(call)
            else:
                port.finished_here(call)
            raise

    async def _websocket(
        self, scope: Any, receive: Any, send: Any, route: Route, context: RequestContext
    ) -> None:
        """Run a WebSocket here if a slot is free or becomes free, else pass its messages on."""
        client = WebSocket(receive, send)
        try:
            port, has_begun = self._find(route, context)
            if has_begun:
                assert self._here is not None
                await self._run_websocket(scope, client, context, self._here.end_here)
                return
            key = new_id()
            call = Call("", (relaying.head_of(scope, context), key), {}, context, "websocket")
            turn = await client.while_there(self._turn(port, call))
            if turn:
                await self._run_websocket(scope, client, context, partial(port.finished_here, call))
            elif turn is not None:
                try:
                    await client.relay(call, key, port.actor_of(call))
                except BaseException:
                    port.cancel(call)
                    raise
        except Exception as error:
            if is_goodbye(error):
                return
            status, text, extra = answer_to(error, context, route)
            if client.is_accepted:
                await client.close(1012 if status == 502 else 1011, text)
            else:
                await refuse(scope, receive, client.send, status, text, *extra)
        finally:
            client.end()

    async def _run_websocket(
        self, scope: Any, client: WebSocket, context: RequestContext, end: Callable[[], None]
    ) -> None:
        assert self._here is not None
        try:
            await self._here.run_http(scope, client.receive, client.send, context)
        finally:
            cancel_children(context)
            end()

    # ------------------------------------------------------------------ answers of our own

    async def _own(self, cycle: Any, path: str) -> None:
        if path == "/-/healthz":
            answer(cycle, 200, [(_CONTENT_TYPE, TEXT)], b"success")
        elif path == "/-/routes":
            from skate.serve._http.responses import JSON, body_of

            routes = {one.prefix: one.app_name for one in self.routes.routes}
            answer(cycle, 200, [(_CONTENT_TYPE, JSON)], body_of(routes)[1])
        elif path == "/-/metrics":
            answer(cycle, *await scrape.page())
        else:
            answer(cycle, 404, [(_CONTENT_TYPE, TEXT)], f"Path '{path}' not found.".encode())

    def _not_found(self, scope: Any, path: str) -> str:
        host = next(
            (value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "localhost"
        )
        return f"Path '{path}' not found. Ping http://{host}/-/routes for available routes."

    def _say(
        self,
        cycle: Any,
        context: RequestContext,
        status: int,
        text: str,
        extra: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        """Answer in place of user code; if that has begun an answer, break it off."""
        if cycle.response_started:
            if not cycle.response_complete:
                cycle.transport.close()
            return
        headers = [(_CONTENT_TYPE, TEXT), (b"x-request-id", context.request_id.encode("latin-1")), *extra]
        answer(cycle, status, headers, text.encode())
