"""Handles of deployments, and what their calls return."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import AsyncIterator, Generator, Iterator
from functools import partial
from typing import Any

from skate.engine.refs import ObjectRef
from skate.exceptions import GetTimeoutError, TaskCancelledError
from skate.serve import context
from skate.serve._broadcast import DeploymentBroadcastResponse
from skate.serve._client import client as clients
from skate.serve._client.call import Call, is_death
from skate.serve._left_out import refuse
from skate.serve._targets import DeploymentId
from skate.serve.exceptions import RayServeException, ReplicaUnavailableError, RequestCancelledError

__all__ = [
    "DeploymentBroadcastResponse",
    "DeploymentHandle",
    "DeploymentResponse",
    "DeploymentResponseGenerator",
]

#: Options of handles and their defaults.
_OPTIONS: dict[str, Any] = {
    "method_name": "__call__",
    "multiplexed_model_id": "",
    "stream": False,
    "session_id": "",
}
#: Ray's, which change nothing here, or are not built.
_IGNORED = ("_by_reference", "_prefer_local_routing", "request_serialization", "response_serialization")


def _settle(future: concurrent.futures.Future[Any], call: Call) -> None:
    """Give a thread's future the outcome of a call."""
    if not future.set_running_or_notify_cancel():
        return
    if call.error is not None:
        future.set_exception(call.error)
    else:
        future.set_result(call.value)


def _settle_here(future: asyncio.Future[Any], call: Call) -> None:
    """Give a future of the client's loop the outcome of a call."""
    if future.done():
        return
    if call.error is not None:
        future.set_exception(call.error)
    else:
        future.set_result(call.value)


def _sent(future: concurrent.futures.Future[Any], call: Call) -> None:
    """Give a thread's future the ref, or the generator of refs, of a call that was sent."""
    if not future.set_running_or_notify_cancel():
        return
    if call.ref is None and call.error is None and not call.is_cancelled:
        future.set_exception(RuntimeError("a local application has no refs: await the response"))
    elif call.ref is None:
        future.set_exception(call.error or RequestCancelledError(call.context.request_id))
    else:
        future.set_result(call.ref)


def _refuse_in_a_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(
        "Sync methods should not be called from within an `asyncio` event loop: they would block it. Use "
        "`await "
        "response` or `async for` instead."
    )


class _Response:
    """The common half of responses."""

    def __init__(self, call: Call, client: clients.Client) -> None:
        self._call = call
        self._client = client
        self._is_cancelled = False

    @property
    def request_id(self) -> str:
        """The request's id, as in logs and the header ``x-request-id``."""
        return self._call.context.request_id

    @property
    def by_reference(self) -> bool:
        """Whether results travel by reference: always, where they are passed on to other calls."""
        return True

    def cancel(self) -> None:
        """Cancel the request: if it waits, it never runs; if it runs in an ``async def``, that gets a
        CancelledError, and so do all calls that were made for it. Does nothing when it has ended."""
        self._is_cancelled = True
        self._client.do(self._call.cancel)

    def cancelled(self) -> bool:
        """Tell whether ``cancel`` was called."""
        return self._is_cancelled

    def _when_sent(self) -> concurrent.futures.Future[Any]:
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        self._client.do(self._call.when_sent, partial(_sent, future))
        return future

    def __reduce__(self) -> Any:
        raise RayServeException(
            f"`{type(self).__name__}` is not serializable: pass it as an argument of its own to another "
            "handle's "
            "remote(), which waits for its result; or await it and pass the result."
        )


class DeploymentResponse(_Response):
    """The result of a call that may still be under way. ``await`` it, or ask for its ``result()``.

    Passed as an argument to another handle's ``remote()`` it is replaced by its result, which goes there
    directly.

    Example:
        >>> response = handle.remote(3)
        >>> response.result()
        9
    """

    def __init__(self, call: Call, client: clients.Client) -> None:
        super().__init__(call, client)
        self._future: concurrent.futures.Future[Any] | None = None

    def _concurrent(self) -> concurrent.futures.Future[Any]:
        if self._future is None:
            future: concurrent.futures.Future[Any] = concurrent.futures.Future()
            self._future = future
            self._client.do(self._call.when_finished, partial(_settle, future))
        return self._future

    def result(self, *, timeout_s: float | None = None, _skip_asyncio_check: bool = False) -> Any:
        """Return the result; wait until it is there.

        Args:
            timeout_s: seconds to wait; None: for ever.

        Raises:
            GetTimeoutError: the time is up (a TimeoutError). The request goes on.
            RayTaskError: user code raised; also an instance of the exception's own type.
            RequestCancelledError: it was cancelled.
            BackPressureError: too many requests waited already.
            DeploymentUnavailableError: the deployment was deleted, or does not start.
            ReplicaUnavailableError: its replica ended while it ran.
            RuntimeError: called on an event loop.
        """
        if not _skip_asyncio_check:
            _refuse_in_a_loop()
        call = self._call
        try:
            if call.ticket is not None and not call.finished and self._client.has_thread:
                call.port.tickets.wait(call, timeout_s)
            if not call.finished:
                return self._concurrent().result(timeout_s)
        except GetTimeoutError:
            if call.finished:
                raise
            raise self._too_late(timeout_s) from None
        except concurrent.futures.TimeoutError:
            if call.finished:
                raise
            raise self._too_late(timeout_s) from None
        if call.error is not None:
            raise call.error
        return call.value

    def _too_late(self, timeout_s: float | None) -> GetTimeoutError:
        return GetTimeoutError(
            f"no result of request {self.request_id} came within {timeout_s} s; the request goes on"
        )

    async def _outcome(self) -> Any:
        call = self._call
        try:
            if not call.finished:
                is_here = self._client.is_here()
                if call.ticket is not None and (is_here or self._client.has_thread):
                    await call.port.tickets.wait_on_loop(call)
                if is_here and not call.finished:
                    future = self._client.loop.create_future()
                    call.when_finished(partial(_settle_here, future))
                    return await future
            if not call.finished:
                return await asyncio.wrap_future(self._concurrent())
        except asyncio.CancelledError:
            if not call.finished:
                self.cancel()
            raise
        if call.error is not None:
            raise call.error
        return call.value

    def __await__(self) -> Generator[Any, None, Any]:
        return self._outcome().__await__()

    async def _to_object_ref(self) -> Any:
        """Return the ref of the result, once the request was sent to a replica."""
        return await asyncio.wrap_future(self._when_sent())

    def _to_object_ref_sync(self) -> Any:
        """Return the ref of the result, once the request was sent to a replica."""
        return self._when_sent().result()


class DeploymentResponseGenerator(_Response):
    """The items of a streaming call, as they come. Iterate over it, by ``for`` or ``async for``.

    Example:
        >>> for word in handle.options(stream=True).remote("a prompt"):
        ...     print(word)
    """

    def __init__(self, call: Call, client: clients.Client) -> None:
        super().__init__(call, client)
        self._refs: Any = None

    def __await__(self) -> Generator[Any, None, Any]:
        raise TypeError(
            "`DeploymentResponseGenerator` cannot be awaited: it has several results. Use `async for` or "
            "`for`."
        )

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        _refuse_in_a_loop()
        if self._refs is None:
            self._refs = self._when_sent().result()
        ref = next(self._refs)
        try:
            return self._client.fetch(ref)
        except Exception as error:
            raise self._error(error)

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        try:
            if self._refs is None:
                self._refs = await asyncio.wrap_future(self._when_sent())
            ref = await self._refs.__anext__()
            return await self._client.fetch_async(ref)
        except asyncio.CancelledError:
            self.cancel()
            raise
        except StopAsyncIteration:
            raise
        except Exception as error:
            raise self._error(error)

    def _error(self, error: Exception) -> Exception:
        if is_death(error):
            return ReplicaUnavailableError(self._call.context.app_name, str(error))
        if self._is_cancelled or isinstance(error, TaskCancelledError):
            return RequestCancelledError(self.request_id)
        return error

    def result(self, *, timeout_s: float | None = None, _skip_asyncio_check: bool = False) -> Any:
        """Refuse: there are several results."""
        raise TypeError("`DeploymentResponseGenerator` has no single result: iterate over it with `for`.")


def _dependencies(arguments: tuple[Any, ...]) -> tuple[list[Call], list[ObjectRef[Any]]]:
    """Return what a call has to wait for: the calls of the responses among its arguments, and the refs that
    have no value yet.

    Raises:
        RayServeException: one is where it cannot be replaced by its result.
    """
    calls, refs = [], []
    for one in arguments:
        if isinstance(one, DeploymentResponse):
            calls.append(one._call)
        elif isinstance(one, ObjectRef):
            if one._is_pending:
                refs.append(one)
        elif isinstance(one, DeploymentResponseGenerator):
            raise RayServeException("a streaming response cannot be an argument: iterate over it")
        elif type(one) in (list, tuple, dict):
            inside = one.values() if type(one) is dict else one
            if any(isinstance(inner, _Response) for inner in inside):
                raise RayServeException(
                    "`DeploymentResponse` is not serializable: one lies inside of a list, tuple or dict. "
                    "Pass it as "
                    "an argument of its own, or await it and pass the result."
                )
    return calls, refs


class DeploymentHandle:
    """Calls a deployment from anywhere in the session: ``handle.remote(...)``, ``handle.method.remote(...)``.

    Handles can be passed on to tasks, actors and other deployments.

    Example:
        >>> handle = serve.run(Model.bind())
        >>> handle.predict.remote([1, 2]).result()
        0.7
    """

    #: The client that its calls go through; None: the process's.
    _caller: clients.Client | None = None

    def __init__(self, deployment_name: str, app_name: str, **options: Any) -> None:
        self.deployment_id = DeploymentId(deployment_name, app_name)
        self._options = {**_OPTIONS, **options}

    @property
    def deployment_name(self) -> str:
        """The deployment."""
        return self.deployment_id.name

    @property
    def app_name(self) -> str:
        """The application."""
        return self.deployment_id.app_name

    @property
    def is_initialized(self) -> bool:
        """True: a handle needs no preparation."""
        return True

    def options(self, **options: Any) -> DeploymentHandle:
        """Return a handle with other options.

        Args:
            method_name: the method that ``remote()`` calls.
            multiplexed_model_id: the model that the request is for: see ``serve.multiplexed``.
            stream: the method is a generator: ``remote()`` returns its items as they come.
            session_id: requests with the same one go to the same replica, as long as it can take them soon.

        Raises:
            TypeError: there is no such option, or a session_id is no str.

        Example:
            >>> handle.options(method_name="tokens", stream=True).remote("a prompt")
        """
        known = {key: value for key, value in options.items() if key in _OPTIONS}
        for name in options:
            if name not in _OPTIONS and name not in _IGNORED:
                raise TypeError(f"a handle has no option {name!r}; it has {', '.join(_OPTIONS)}")
        if not isinstance(known.get("session_id", ""), str):
            raise TypeError(f"session_id must be a str, got {known['session_id']!r}")
        return self._with(known)

    def _with(self, options: dict[str, Any]) -> DeploymentHandle:
        found = DeploymentHandle(self.deployment_name, self.app_name, **{**self._options, **options})
        found._caller = self._caller
        return found

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        """Call the deployment's method.

        Args:
            args, kwargs: the method's arguments. Responses of other calls among them are waited for and
                replaced by
                their results, ObjectRefs by their values.

        Returns:
            A DeploymentResponse, or a DeploymentResponseGenerator with ``stream=True``, at once.

        Raises:
            RayServeException: a response lies inside of a list or another structure.
        """
        options = self._options
        is_stream = options["stream"]
        sent = self._send(options["method_name"], "stream" if is_stream else "call", args, kwargs)
        return (DeploymentResponseGenerator if is_stream else DeploymentResponse)(*sent)

    def broadcast(self, method_name: str, *args: Any, **kwargs: Any) -> DeploymentBroadcastResponse:
        """Call a method of every replica that runs now: to empty a cache, or to load other weights.

        A replica runs it in one of its slots, after the requests that are there already. Queues and their
        limits do not count; a replica that starts later is not called.

        Args:
            method_name: the method.
            args, kwargs: its arguments, as for ``remote()``.

        Returns:
            The response, at once: see its ``results()``.

        Raises:
            RayServeException: a response lies inside of a list or another structure.

        Example:
            >>> handle.broadcast("reset_cache").results()
            [None, None]
        """
        sent = self._send(method_name, "broadcast", args, kwargs)
        return DeploymentBroadcastResponse(DeploymentResponse(*sent))

    def _send(
        self, method: str, entry: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Call, clients.Client]:
        """Have a call submitted, as a part of the request that this code runs for."""
        responses, refs = _dependencies((*args, *kwargs.values()))
        client = self._caller or clients.this_process()
        parent = context.request.get()
        call = Call(
            method,
            args,
            kwargs,
            context.RequestContext(
                parent.request_id or context.new_id(),
                "",
                self.app_name,
                self._options["multiplexed_model_id"],
                parent.deadline,
                parent.trace,
                self._options["session_id"],
            ),
            entry,
        )
        if parent is not context.NO_REQUEST:
            call.parent = parent
            if parent.children is None:
                parent.children = set()
            parent.children.add(call)
        if responses or refs:
            client.do(client.submit_after, self.deployment_id, call, responses, refs)
        elif not client.send(self.deployment_id, call):
            client.do(client.submit, self.deployment_id, call)
        return call, client

    def __getattr__(self, name: str) -> DeploymentHandle:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        if name in ("choose_replica", "dispatch"):
            raise refuse(f"DeploymentHandle.{name}")
        found = self._with({"method_name": name})
        self.__dict__[name] = found
        return found

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, DeploymentHandle)
            and other.deployment_id == self.deployment_id
            and other._options == self._options
        )

    def __hash__(self) -> int:
        return hash((self.deployment_id, *self._options.values()))

    def __repr__(self) -> str:
        return f"DeploymentHandle(deployment='{self.deployment_name}')"

    def __reduce__(self) -> Any:
        changed = {key: value for key, value in self._options.items() if value != _OPTIONS[key]}
        return _handle, (self.deployment_name, self.app_name, changed, self._caller)


def _handle(
    deployment_name: str, app_name: str, options: dict[str, Any], caller: clients.Client | None
) -> DeploymentHandle:
    found = DeploymentHandle(deployment_name, app_name, **options)
    found._caller = caller
    return found
