"""The actor that answers gRPC: it finds the application, and passes requests on and answers back."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
import pickle
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from time import monotonic
from typing import Any

import grpc

from skate.actor import method as with_options
from skate.serve._client import client as clients
from skate.serve._client import watching
from skate.serve._client.call import Call, cancel_children, is_death
from skate.serve._folders import look_first_in
from skate.serve._grpc import api_service, calls, reflection, services
from skate.serve._grpc.calls import Metadata, Outcome, Request, Transport
from skate.serve._grpc.incoming import Incoming
from skate.serve._grpc.observed import Observed
from skate.serve._http import keys
from skate.serve._http.limits import BodyBudget
from skate.serve._messages import Route, Routes
from skate.serve._observing import metrics, requests, tracing
from skate.serve._observing.watcher import OBSERVING, Watcher
from skate.serve._targets import DeploymentId, GRPCTarget, HTTPTarget
from skate.serve.context import RequestContext, new_id
from skate.serve.exceptions import (
    AddressUnavailableError,
    DeploymentUnavailableError,
    RayServeException,
)

logger = logging.getLogger("skate.serve")

Write = Callable[[bytes], Awaitable[None]]


class Door(grpc.GenericRpcHandler):  # type: ignore[misc]
    """The door of gRPC.

    Args:
        target: the port and its services.
        http: the port of HTTP, whose address, TLS, API keys and limits hold here, too.
    """

    async def __init__(self, target: GRPCTarget, http: HTTPTarget) -> None:  # type: ignore[misc]
        self._target = target
        self._http = http
        self._loop = asyncio.get_running_loop()
        self._client = clients.Client(self._loop)
        clients.use(self._client)
        self._keys = http.keys
        self._bodies = BodyBudget(http.max_queued_body_bytes)
        self._routes: tuple[Route, ...] = ()
        #: The messages of clients that send streams, by the streams' numbers.
        self._incoming: dict[int, Incoming] = {}
        self._streams = 0
        self._observed = Observed()
        self._watcher = Watcher(calls.DOOR, partial(watching.facts, self._client))
        metrics.this.metrics.add_reader(partial(watching.gauges, self._client, calls.DOOR))
        self._services = services.Services()
        self._reflection: services.Services | None = None
        self._server: Any = None
        # An actor that the runtime starts anew opens by itself. As a part of no call: the RPCs would be that.
        self._opening = contextvars.Context().run(self._loop.create_task, self._open())
        self._opening.add_done_callback(_report)

    async def _open(self) -> None:
        look_first_in(self._target.path)
        self._services = services.Services([services.function_of(one) for one in self._target.functions])
        if self._target.enable_reflection:
            self._reflection = reflection.describing(self._services)
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", self._http.max_body_bytes or -1),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),  # another program's port is in use, not shared
            ]
        )
        self._server.add_generic_rpc_handlers((self,))
        try:
            _listen(self._server, self._address, self._http)
        except RuntimeError as error:
            raise AddressUnavailableError(
                f"serve cannot listen for gRPC on {self._address}: {error}. Another program may use the "
                "port: choose one by serve.start(grpc_options={'port': ...}), 0 for any"
            ) from None
        first = asyncio.Event()

        def changed(table: Routes) -> None:
            self._routes = table.routes
            self._keys = table.keys or self._keys
            first.set()

        self._client.watch(("routes",), changed)
        await first.wait()
        await self._server.start()

    # ------------------------------------------------------------------ what others ask

    async def open(self) -> None:
        """Return when gRPC is answered.

        Raises:
            RayServeException: a service cannot be found.
            RuntimeError: the address is in use.
        """
        await asyncio.shield(self._opening)

    async def address(self) -> str:
        """Return where gRPC is answered: host and port."""
        return self._address

    @property
    def _address(self) -> str:
        host = self._http.host
        return f"[{host}]:{self._target.port}" if ":" in host else f"{host}:{self._target.port}"

    async def messages(self, stream: int) -> tuple[list[bytes], bool]:
        """Return messages that a client has sent, once there are some, and whether they are the last."""
        found = self._incoming.get(stream)
        return await found.take() if found is not None else ([], True)

    @with_options(concurrency_group=OBSERVING)  # type: ignore[untyped-decorator]
    async def observe(self, what: str, *args: Any) -> Any:
        """See ``Watcher.answer``."""
        return self._watcher.answer(what, *args)

    async def close(self, grace_s: float) -> None:
        """Answer no more; requests that are under way have so many seconds."""
        await self._server.stop(grace_s)
        self._client.close()

    # ------------------------------------------------------------------ which method

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        """See ``grpc.GenericRpcHandler``; called for each RPC."""
        path = details.method
        metadata: Metadata | None = tuple((key, value) for key, value in details.invocation_metadata)
        if self._keys is not None:
            metadata = admitted(self._keys, metadata or ())
            if metadata is None and path != api_service.HEALTHZ:
                return grpc.stream_stream_rpc_method_handler(_refuse)
        if path in (api_service.LIST_APPLICATIONS, api_service.HEALTHZ):
            return grpc.unary_unary_rpc_method_handler(partial(self._own, path))
        found = self._services.method(details)
        if found is None:
            return self._reflection.handler(details) if self._reflection is not None else None
        answer = partial(self._answer, found, metadata or ())
        if found.is_request_stream:
            if found.is_answer_stream:
                return grpc.stream_stream_rpc_method_handler(answer)
            return grpc.stream_unary_rpc_method_handler(answer)
        if found.is_answer_stream:
            return grpc.unary_stream_rpc_method_handler(answer)
        return grpc.unary_unary_rpc_method_handler(answer)

    async def _own(self, path: str, _: bytes, __: Any) -> bytes:
        """Answer for Ray's own service, whose questions are empty."""
        if path == api_service.HEALTHZ:
            return api_service.health("success")
        return api_service.applications(one.app_name for one in self._routes)

    # ------------------------------------------------------------------ requests

    async def _answer(
        self, rpc: services.Method, metadata: Metadata, sent: Any, context: Any
    ) -> bytes | None:
        """Answer an RPC. ``sent`` is the client's message, or an iterator over its messages."""
        began = monotonic()
        route = calls.application_of(calls.value_of(metadata, "application"), self._routes)
        request_id = calls.value_of(metadata, "request_id", "x-request-id") or new_id()
        end = Outcome("CANCELLED")
        try:
            if isinstance(route, str):
                end = Outcome("NOT_FOUND", route)
                message = None
            else:
                message, end = await self._serve(rpc, metadata, sent, context, route, request_id)
        finally:
            self._observed.ended(rpc.path, route, request_id, end.code, began)
        trailing = end.trailing
        if not any(key == "request_id" for key, _ in trailing):
            trailing = (("request_id", request_id), *trailing)
        if end.code != "OK":
            await context.abort(grpc.StatusCode[end.code], end.details, trailing)
        context.set_trailing_metadata(trailing)
        if end.details:
            context.set_details(end.details)
        if end.compression:
            context.set_compression(grpc.Compression[end.compression])
        return message

    async def _serve(
        self,
        rpc: services.Method,
        metadata: Metadata,
        sent: Any,
        context: Any,
        route: Route,
        request_id: str,
    ) -> tuple[bytes | None, Outcome]:
        """Have a replica answer, within the time that there is; return the last message and the end.

        Raises:
            CancelledError: the client has gone.
        """
        limit = self._limit_s(context)
        found = RequestContext(
            request_id,
            "",
            route.app_name,
            calls.value_of(metadata, "multiplexed_model_id"),
            trace=tracing.parse(calls.value_of(metadata, "traceparent")),
            session_id=calls.value_of(metadata, "session_id"),
        )
        late = None
        is_late = False
        task = asyncio.current_task()
        assert task is not None
        if limit is not None:
            found.deadline = self._loop.time() + limit

            def expire() -> None:
                nonlocal is_late
                is_late = True
                task.cancel()

            late = self._loop.call_at(found.deadline, expire)
        incoming = None
        if rpc.is_request_stream:
            self._streams += 1
            incoming = self._incoming[self._streams] = Incoming(sent)
        number = self._streams if incoming is not None else 0
        size = 0 if incoming is not None else len(sent)
        try:
            self._bodies.take(size)
            try:
                request = Request(rpc.codec, number, metadata, self._transport(context))
                # Pickled here: the runtime's own pickler looks at each object that it meets.
                arguments = pickle.dumps(request), b"" if incoming is not None else sent
                write = context.write if rpc.is_answer_stream else None
                return await self._relay(rpc.name, arguments, route, found, write)
            finally:
                self._bodies.give(size)
        except asyncio.CancelledError:
            cancel_children(found)
            if not is_late:
                raise
            return None, Outcome("DEADLINE_EXCEEDED", f"Request {request_id} timed out after {limit:g}s.")
        except Exception as error:
            cancel_children(found)
            end = calls.outcome_of(error, is_death=is_death(error))
            if end.code == "INTERNAL":
                logger.error("request %s of %s failed", request_id, route.app_name, exc_info=error)
            return None, end
        finally:
            if late is not None:
                late.cancel()
            if incoming is not None:
                del self._incoming[number]
                incoming.close()

    async def _relay(
        self,
        method: str,
        arguments: tuple[bytes, bytes],
        route: Route,
        context: RequestContext,
        write: Write | None,
    ) -> tuple[bytes | None, Outcome]:
        """Send a request to a replica, and pass the answer on, as it comes."""
        name = DeploymentId(route.ingress, route.app_name)
        if route.unavailable:
            requests.count_shed(name, "unavailable")
            raise DeploymentUnavailableError(name, route.unavailable)
        call = Call(method, arguments, {}, context, "rpc" if write is None else "rpc_stream")
        call.parent = context
        context.children = {call}
        over: asyncio.Future[None] = self._loop.create_future()

        def done(_: Call) -> None:
            if not over.done():
                over.set_result(None)

        (call.when_finished if write is None else call.when_sent)(done)
        self._client.submit(name, call)
        await over
        message: bytes | None = None
        end: Outcome | None = None
        if write is None and call.error is None:
            message, end = call.value
        elif call.ref is not None and call.error is None:
            async for ref in call.ref:
                message, end = await ref
                if end is None and write is not None:
                    await _written(write, message or b"")
        if end is None:
            raise call.error or RayServeException(f"the answer of request {context.request_id} has no end")
        return message, end

    def _limit_s(self, context: Any) -> float | None:
        """Return the time that an RPC has: the client's, or the server's if that is less (seconds)."""
        limits = [
            one for one in (context.time_remaining(), self._target.request_timeout_s) if one is not None
        ]
        return min((one for one in limits if math.isfinite(one)), default=None)

    def _transport(self, context: Any) -> Transport:
        if self._http.tls is None:
            return Transport(context.peer())
        identities = context.peer_identities()
        return Transport(
            context.peer(),
            None if identities is None else tuple(identities),
            context.peer_identity_key(),
            dict(context.auth_context()),
        )


async def _written(write: Write, message: bytes) -> None:
    """Have a client take a message.

    Raises:
        CancelledError: it has gone, which gRPC says by errors that are not public.
    """
    try:
        await write(message)
    except Exception as error:
        raise asyncio.CancelledError from error


def _report(opening: asyncio.Task[None]) -> None:
    """Write down why the door does not open: if it was started anew, no program asks for that."""
    if not opening.cancelled() and (error := opening.exception()) is not None:
        logger.error("serve does not answer gRPC: %s", error)


def _listen(server: Any, address: str, http: HTTPTarget) -> None:
    """Have a server listen.

    Raises:
        RuntimeError: the address is in use.
    """
    files = http.tls
    if files is None:
        server.add_insecure_port(address)
        return
    with open(files.keyfile, "rb") as file:
        key = file.read()
    with open(files.certfile, "rb") as file:
        chain = file.read()
    authorities = None
    if files.ca_certs is not None:
        with open(files.ca_certs, "rb") as file:
            authorities = file.read()
    credentials = grpc.ssl_server_credentials([(key, chain)], authorities, authorities is not None)
    server.add_secure_port(address, credentials)


def admitted(known: Any, metadata: Metadata) -> Metadata | None:
    """Return metadata without their API key; None: they have none that is right."""
    headers = [
        (key.encode(), value.encode("latin-1") if isinstance(value, str) else value)
        for key, value in metadata
    ]
    found = keys.admitted(known, headers)
    if found is None:
        return None
    return tuple(
        (key.decode(), value if key.endswith(b"-bin") else value.decode("latin-1")) for key, value in found
    )


async def _refuse(_: AsyncIterator[bytes], context: Any) -> None:
    text = "Unauthorized: send an API key as metadata: 'authorization: Bearer KEY', or 'x-api-key: KEY'."
    await context.abort(grpc.StatusCode.UNAUTHENTICATED, text)
