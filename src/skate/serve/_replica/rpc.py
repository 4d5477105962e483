"""Runs user code for an RPC that the door passed on."""

from __future__ import annotations

import inspect
import logging
import pickle
from collections.abc import AsyncIterator, Callable
from functools import lru_cache
from typing import Any

from skate import api
from skate.serve._grpc.calls import DOOR, Item, Metadata, Outcome, Request, cut, outcome_of
from skate.serve._replica.user_code import UserCode
from skate.serve._targets import NAMESPACE
from skate.serve.context import RequestContext
from skate.serve.exceptions import gRPCStatusError
from skate.serve.grpc_util import RayServegRPCContext, gRPCInputStream

logger = logging.getLogger("skate.serve")


class _AtDoor:
    """The state of an RPC as its context begins with it: the methods of gRPC's ``ServicerContext``."""

    def __init__(self, request: Request, request_id: str) -> None:
        self._request, self._request_id = request, request_id

    def auth_context(self) -> dict[str, Any]:
        return self._request.transport.auth

    def code(self) -> None:
        return None

    def details(self) -> str:
        return ""

    def invocation_metadata(self) -> Metadata:
        return self._request.metadata

    def peer(self) -> str:
        return self._request.transport.peer

    def peer_identities(self) -> tuple[bytes, ...] | None:
        return self._request.transport.identities

    def peer_identity_key(self) -> str | None:
        return self._request.transport.identity_key

    def trailing_metadata(self) -> Metadata:
        return (("request_id", self._request_id),)


class Running:
    """An RPC that runs here.

    Args:
        code: the user's.
        method: of the user's object.
        head: the RPC: a pickled ``Request``.
        message: of the client, unless it sends a stream of them.
        context: the request, as all have it.
    """

    def __init__(
        self, code: UserCode, method: str, head: bytes, message: bytes, context: RequestContext
    ) -> None:
        self._code, self._method, self._message, self._context = code, method, message, context
        self._request: Request = pickle.loads(head)
        self._grpc_context = RayServegRPCContext(_AtDoor(self._request, context.request_id))
        self._read: Callable[[bytes], Any] = bytes
        self._write: Callable[[Any], bytes] = bytes
        #: The user's object has the method.
        self._is_there = False
        #: How it ended, as a status of HTTP, and the exception if that blames the server.
        self.status = 200
        self.error: Exception | None = None

    async def one(self) -> Item:
        """Run it, and return its answer, which is one message."""
        try:
            result = await self._result()
            if inspect.isgenerator(result) or inspect.isasyncgen(result):
                raise TypeError(
                    f"{self._method!r} is a generator, but the service says that it answers with one message"
                )
            return self._write(result), self._end()
        except Exception as error:
            return None, self._failed(error)

    async def stream(self) -> AsyncIterator[Item]:
        """Run it, and yield its answer: messages as they come, then the end."""
        try:
            async for item in self._code.items(await self._result()):
                yield self._write(item), None
            end = self._end()
        except Exception as error:
            end = self._failed(error)
        yield None, end

    async def _result(self) -> Any:
        """Return what the method returns."""
        function, _ = self._code.method(self._method)
        self._is_there = True
        self._read, self._write = _codec(self._request.codec)
        if self._request.stream:
            argument: Any = gRPCInputStream(_messages(self._request.stream, self._read))
        else:
            argument = self._read(self._message)
        kwargs = {"grpc_context": self._grpc_context} if _takes_context(function) else {}
        return await self._code.call(self._method, (argument,), kwargs)

    def _end(self) -> Outcome:
        """Return the end of an RPC whose method has returned."""
        found = self._grpc_context
        kind = found._compression
        return self._ended(
            Outcome(
                _name_of(found.code()) or "OK",
                cut(found.details() or ""),
                tuple(found.trailing_metadata()),
                "" if kind is None else str(getattr(kind, "name", kind)),
            )
        )

    def _failed(self, error: Exception) -> Outcome:
        """Return the end of an RPC whose method has raised: as its context says, else as the error does."""
        found, end = self._grpc_context, outcome_of(error)
        code, details = _name_of(found.code()), found.details()
        if code and code != "OK":
            # The client sees the code that was set; others see why the method raised.
            error = gRPCStatusError(error, found.code(), details or None)
            end = Outcome(code, cut(details or end.details))
        elif not self._is_there:
            end = Outcome("UNIMPLEMENTED", end.details)
        end = self._ended(Outcome(end.code, end.details, (*found.trailing_metadata(), *end.trailing)))
        if self.status >= 500:
            self.error = error
            logger.error("request %s failed in %s", self._context.request_id, self._method, exc_info=error)
        return end

    def _ended(self, end: Outcome) -> Outcome:
        self.status = end.http_status
        return end


def _name_of(code: Any) -> str:
    """Return the name of a ``grpc.StatusCode``, or of its number; "": none was set."""
    if not code:
        return ""
    if isinstance(code, int):
        import grpc

        return next((one.name for one in grpc.StatusCode if one.value[0] == code), "UNKNOWN")
    return str(code.name)


@lru_cache(maxsize=1024)
def _codec(pickled: bytes) -> tuple[Callable[[bytes], Any], Callable[[Any], bytes]]:
    """Return the functions that read and write the messages of a method."""
    read, write = pickle.loads(pickled)
    return read or bytes, write or bytes


def _takes_context(function: Any) -> bool:
    """Tell whether a method has a parameter ``grpc_context``."""
    if not (inspect.isroutine(function) or inspect.isclass(function)):
        function = type(function).__call__
    try:
        return "grpc_context" in inspect.signature(function).parameters
    except ValueError:  # it is not written in Python
        return False


async def _messages(stream: int, read: Callable[[bytes], Any]) -> AsyncIterator[Any]:
    """Yield the messages of a client, which the door holds until they are asked for."""
    door = api.get_actor(DOOR, namespace=NAMESPACE)
    is_over = False
    while not is_over:
        found, is_over = await door.messages.remote(stream)
        for one in found:
            yield read(one)
