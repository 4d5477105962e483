"""The objects that deployments get with RPCs: the context, and the stream of a client's messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    import grpc

__all__ = ["RayServegRPCContext", "gRPCInputStream"]

T = TypeVar("T")


class gRPCInputStream(AsyncIterator[T], Generic[T]):
    """The messages that a client sends in a stream, as they come.

    Args:
        request_iterator: yields them.
        cancel_event: set once no more will come although the client has not ended the stream.

    Example:
        >>> async def Total(self, messages: gRPCInputStream):
        ...     return Sum(value=sum([one.value async for one in messages]))
    """

    def __init__(
        self, request_iterator: AsyncIterator[T], *, cancel_event: asyncio.Event | None = None
    ) -> None:
        self._messages = request_iterator
        self._cancelled = cancel_event or asyncio.Event()
        self._is_exhausted = False

    def __aiter__(self) -> gRPCInputStream[T]:
        return self

    async def __anext__(self) -> T:
        if self._is_exhausted or self._cancelled.is_set():
            self._is_exhausted = True
            raise StopAsyncIteration
        try:
            return await self._messages.__anext__()
        except StopAsyncIteration:
            self._is_exhausted = True
            raise

    def is_cancelled(self) -> bool:
        """Tell whether the stream was broken off.

        Example:
            >>> messages.is_cancelled()
            False
        """
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """Take no more messages.

        Example:
            >>> messages.cancel()
        """
        self._cancelled.set()

    @property
    def is_exhausted(self) -> bool:
        """Whether the last message was taken."""
        return self._is_exhausted


class RayServegRPCContext:
    """The context of an RPC, for methods that have a parameter ``grpc_context``.

    Args:
        grpc_context: gRPC's own ``ServicerContext``, or what has the same methods.

    Example:
        >>> def Predict(self, request, grpc_context):
        ...     if not request.text:
        ...         grpc_context.set_code(grpc.StatusCode.INVALID_ARGUMENT)
        ...         grpc_context.set_details("text is empty")
        ...         return Answer()
    """

    def __init__(self, grpc_context: Any) -> None:
        self._auth_context: Mapping[str, Any] = grpc_context.auth_context()
        self._code: Any = grpc_context.code()
        self._details: str = grpc_context.details()
        self._invocation_metadata: list[tuple[str, Any]] = [
            (key, value) for key, value in grpc_context.invocation_metadata() or ()
        ]
        self._peer: str = grpc_context.peer()
        self._peer_identities: Any = grpc_context.peer_identities()
        self._peer_identity_key: str | None = grpc_context.peer_identity_key()
        self._trailing_metadata: list[tuple[str, Any]] = [
            (key, value) for key, value in grpc_context.trailing_metadata() or ()
        ]
        self._compression: Any = None

    def _last(self, key: str) -> Any:
        return dict(self._invocation_metadata).get(key)

    def request_id(self) -> str | None:
        """Return the client's metadata ``request_id``, or None.

        Example:
            >>> grpc_context.request_id()
        """
        return self._last("request_id")  # type: ignore[no-any-return]

    def application(self) -> str | None:
        """Return the client's metadata ``application``, or None.

        Example:
            >>> grpc_context.application()
        """
        return self._last("application")  # type: ignore[no-any-return]

    def multiplexed_model_id(self) -> str | None:
        """Return the client's metadata ``multiplexed_model_id``, or None.

        Example:
            >>> grpc_context.multiplexed_model_id()
        """
        return self._last("multiplexed_model_id")  # type: ignore[no-any-return]

    def traceparent(self) -> str | None:
        """Return the client's metadata ``traceparent``, or None.

        Example:
            >>> grpc_context.traceparent()
        """
        return self._last("traceparent")  # type: ignore[no-any-return]

    def tracestate(self) -> str | None:
        """Return the client's metadata ``tracestate``, or None.

        Example:
            >>> grpc_context.tracestate()
        """
        return self._last("tracestate")  # type: ignore[no-any-return]

    def invocation_metadata(self) -> list[tuple[str, Any]]:
        """Return the client's metadata, without its API key.

        Example:
            >>> dict(grpc_context.invocation_metadata())["language"]
            'de'
        """
        return self._invocation_metadata

    def peer(self) -> str:
        """Return the client's address.

        Example:
            >>> grpc_context.peer()
            'ipv4:127.0.0.1:53412'
        """
        return self._peer

    def peer_identities(self) -> Any:
        """Return the identities of a client that showed some by TLS, as bytes; else None.

        Example:
            >>> grpc_context.peer_identities()
        """
        return self._peer_identities

    def peer_identity_key(self) -> str | None:
        """Return which property of ``auth_context`` has the identities, or None.

        Example:
            >>> grpc_context.peer_identity_key()
        """
        return self._peer_identity_key

    def auth_context(self) -> Mapping[str, Any]:
        """Return the properties of the TLS connection; without TLS there is none.

        Example:
            >>> grpc_context.auth_context()
            {}
        """
        return self._auth_context

    def code(self) -> Any:
        """Return the status code that was set, or None.

        Example:
            >>> grpc_context.code()
        """
        return self._code

    def details(self) -> str:
        """Return the details that were set, or "".

        Example:
            >>> grpc_context.details()
            ''
        """
        return self._details

    def trailing_metadata(self) -> list[tuple[str, Any]]:
        """Return the metadata that will follow the answer.

        Example:
            >>> grpc_context.trailing_metadata()
            [('request_id', '6f2c...')]
        """
        return self._trailing_metadata

    def set_code(self, code: grpc.StatusCode) -> None:
        """Set the status that the RPC ends with.

        Args:
            code: gRPC's.

        Example:
            >>> grpc_context.set_code(grpc.StatusCode.NOT_FOUND)
        """
        self._code = code

    def set_details(self, details: str) -> None:
        """Set the text beside the status.

        Args:
            details: ASCII travels best.

        Example:
            >>> grpc_context.set_details("there is no such model")
        """
        self._details = details

    def set_compression(self, compression: grpc.Compression) -> None:
        """Have the answer compressed, if it is one message rather than a stream.

        Args:
            compression: gRPC's.

        Example:
            >>> grpc_context.set_compression(grpc.Compression.Gzip)
        """
        self._compression = compression

    def set_trailing_metadata(self, trailing_metadata: Sequence[tuple[str, Any]]) -> None:
        """Set metadata that follow the answer; the request's id stays beside them.

        Args:
            trailing_metadata: keys in lower case, and values: a text, or bytes if the key ends in "-bin".

        Example:
            >>> grpc_context.set_trailing_metadata([("tokens", "17")])
        """
        given = list(trailing_metadata)
        ids = [one for one in self._trailing_metadata if one[0] == "request_id"]
        self._trailing_metadata = given if any(key == "request_id" for key, _ in given) else [*ids, *given]
