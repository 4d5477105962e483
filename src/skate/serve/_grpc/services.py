"""Services of users: from ``add_XServicer_to_server`` functions to their methods."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from skate import cloudpickle
from skate.serve.exceptions import RayServeException


@dataclass(frozen=True)
class Method:
    """A method of a service.

    Args:
        path: ``/package.Service/Method``.
        name: of the method that answers it.
        codec: see ``Request``.
        is_request_stream, is_answer_stream: whether the client sends, and gets, any number of messages.
    """

    path: str
    name: str
    codec: bytes
    is_request_stream: bool
    is_answer_stream: bool


def function_of(path: str) -> Callable[[Any, Any], object]:
    """Return the function that an import path names.

    Args:
        path: ``module.function``, or ``module:function``.

    Raises:
        RayServeException: there is none.
    """
    module, _, name = path.replace(":", ".").rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise RayServeException(
            f"{path!r} in grpc_servicer_functions cannot be imported: {error}. It takes the import path of a "
            "function such as user_pb2_grpc.add_ModelServicer_to_server, whose module every process finds"
        ) from error
    if not callable(found):
        raise RayServeException(f"{path!r} in grpc_servicer_functions is no function: {found!r:.80}")
    return found  # type: ignore[no-any-return]


class Services:
    """The services that functions register, as the server that they register them at.

    Args:
        functions: generated ``add_XServicer_to_server``, or others that do the same.

    Raises:
        RayServeException: one cannot be called.
    """

    def __init__(self, functions: Sequence[Callable[[Any, Any], object]] = ()) -> None:
        self._handlers: list[Any] = []
        self._found: dict[str, Method] = {}
        for one in functions:
            try:
                one(_Placeholder(), self)
            except Exception as error:
                raise RayServeException(
                    f"{getattr(one, '__name__', one)!r} in grpc_servicer_functions raised "
                    f"{type(error).__name__}: {error}"
                ) from error

    @property
    def names(self) -> list[str]:
        """The names of the services."""
        return sorted(one.service_name() for one in self._handlers if hasattr(one, "service_name"))

    def add_generic_rpc_handlers(self, handlers: Sequence[Any]) -> None:
        """See ``grpc.aio.Server``."""
        self._handlers.extend(handlers)

    def add_registered_method_handlers(self, service_name: str, method_handlers: dict[str, Any]) -> None:
        """See ``grpc.aio.Server``: generated code names the same methods a second time."""

    def handler(self, details: grpc.HandlerCallDetails) -> Any:
        """Return what was registered for a method, or None."""
        found = (one.service(details) for one in self._handlers)
        return next((one for one in found if one is not None), None)

    def method(self, details: grpc.HandlerCallDetails) -> Method | None:
        """Return a method, or None."""
        path = details.method
        known = self._found.get(path)
        if known is None and (handler := self.handler(details)) is not None:
            codec = cloudpickle.dumps((handler.request_deserializer, handler.response_serializer))
            known = self._found[path] = Method(
                path,
                path.rpartition("/")[2],
                codec,
                handler.request_streaming,
                handler.response_streaming,
            )
        return known


class _Placeholder:
    """A servicer with every method: none of them is ever called."""

    def __getattr__(self, name: str) -> Any:
        return None
