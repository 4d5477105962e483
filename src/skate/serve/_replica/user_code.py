"""Loads and runs the user's class or function in a replica."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import pickle
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from skate.serve._asgi import Lifespan, application_of
from skate.serve._folders import look_first_in
from skate.serve._observing.frames import users_part
from skate.serve._targets import DeploymentId, DeploymentTarget
from skate.serve.context import ReplicaRank, request
from skate.serve.exceptions import RayServeException


class UserCode:
    """One instance of the user's class, or the user's function.

    Args:
        target: the deployment.
    """

    def __init__(self, target: DeploymentTarget) -> None:
        self._name = target.name
        self._target = target
        self._threads = ThreadPoolExecutor(target.settings.max_ongoing_requests, "skate-serve-handler")
        #: The instance, or the function.
        self.servable: Any = None
        #: The ASGI application that takes its HTTP requests; None: its ``__call__`` does.
        self.asgi: Any = None
        self._lifespan: Lifespan | None = None
        #: Method to (function, whether it runs on the loop).
        self._methods: dict[str, tuple[Callable[..., Any], bool]] = {}

    async def construct(self) -> None:
        """Load the class and make the instance."""
        look_first_in(self._target.path)
        await self.make(*pickle.loads(self._target.code))

    async def make(self, made: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Make the instance of a class; a function is taken as it is."""
        if not inspect.isclass(made):
            self.servable = made
            return
        if inspect.iscoroutinefunction(made.__init__):
            instance = made.__new__(made)
            await _construct(made.__init__, (instance, *args), kwargs)
        else:
            instance = _construct(made, args, kwargs)
        self.servable = instance
        self.asgi = application_of(instance)
        if self.asgi is not None:
            self._lifespan = Lifespan(self.asgi)
            await self._lifespan.startup()

    @property
    def lifespan_state(self) -> dict[str, Any]:
        """State that the lifespan of its ASGI application keeps for all requests."""
        return {} if self._lifespan is None else self._lifespan.state

    @property
    def takes_rank(self) -> bool:
        """Whether the instance's ``reconfigure`` has a parameter ``rank``."""
        if inspect.isroutine(self.servable) or not hasattr(self.servable, "reconfigure"):
            return False
        return "rank" in inspect.signature(self.servable.reconfigure).parameters

    @functools.cached_property
    def takes_request(self) -> bool:
        """Whether what answers HTTP has a parameter: as in Ray, one without any gets no request."""
        function, _ = self.method("__call__")
        try:
            return bool(inspect.signature(function).parameters)
        except ValueError:
            return True  # compiled code does not say

    async def reconfigure(self, user_config: Any, rank: ReplicaRank) -> None:
        """Give the user's configuration to the instance, and its rank if it takes that.

        Raises:
            RayServeException: it has no method ``reconfigure``.
        """
        takes_rank = self.takes_rank
        if user_config is None and not takes_rank:
            return
        if not hasattr(self.servable, "reconfigure"):
            raise RayServeException(
                f"user_config specified but deployment {self._name} missing reconfigure method: define "
                "`def reconfigure(self, user_config)` in its class"
            )
        extra = {"rank": rank} if takes_rank else {}
        await self._maybe_await(self.servable.reconfigure(user_config, **extra))

    async def check_health(self) -> None:
        """Run the user's health check, if there is one. It raises if the instance cannot serve."""
        if inspect.isclass(self.servable):
            return
        check = getattr(self.servable, "check_health", None)
        if check is not None and not inspect.isfunction(self.servable):
            await self._maybe_await(check())

    def has(self, method: str) -> bool:
        """Tell whether the instance has a method by which it says something of itself."""
        return not inspect.isroutine(self.servable) and hasattr(self.servable, method)

    async def ask(self, method: str) -> Any:
        """Return what such a method says."""
        return await self._maybe_await(getattr(self.servable, method)())

    def resize(self, threads: int) -> None:
        """Run so many plain functions at a time from now on."""
        self._threads._max_workers = threads

    async def destroy(self) -> None:
        """Let the instance clean up: the lifespan's end, then ``__del__``."""
        if self._lifespan is not None:
            await self._lifespan.shutdown()
        delete = getattr(type(self.servable), "__del__", None)
        if delete is not None and not inspect.isfunction(self.servable):
            await self._maybe_await(delete(self.servable))
            # Python calls it at the end of the process, too.
            type(self.servable).__del__ = lambda self: None
        self._threads.shutdown(wait=False, cancel_futures=True)

    # ------------------------------------------------------------------ calls

    def method(self, name: str) -> tuple[Callable[..., Any], bool]:
        """Return a method, and whether it runs on the loop rather than in a thread.

        Raises:
            RayServeException: there is none of that name.
        """
        found = self._methods.get(name)
        if found is None:
            found = self._methods[name] = self._find_method(name)
        return found

    def _find_method(self, name: str) -> tuple[Callable[..., Any], bool]:
        servable = self.servable
        if name == "__call__":
            function = servable if callable(servable) else None
            # The function, not the method: a batched one says of itself how it runs.
            code = servable if inspect.isroutine(servable) else _written(type(servable), "__call__")
        else:
            function = None if inspect.isroutine(servable) else getattr(servable, name, None)
            code = function
        if not callable(function):
            known = [
                one
                for one in dir(servable)
                if not one.startswith("_") and callable(getattr(servable, one, None))
            ]
            raise RayServeException(
                f"Tried to call a method '{name}' that does not exist. Available methods: {known} "
                "(deployment "
                f"{self._name})"
            )
        code = inspect.unwrap(code) if code is not None else None
        runs_on_loop = (
            inspect.iscoroutinefunction(code)
            or inspect.isasyncgenfunction(code)
            or inspect.iscoroutinefunction(function)
            or getattr(code, "__serve_async__", False)
            or getattr(function, "__serve_async__", False)
        )
        return function, runs_on_loop

    async def call(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a method and return its result, which may be a generator."""
        function, runs_on_loop = self.method(name)
        if runs_on_loop:
            result = _invoke(function, args, kwargs)
            return await result if inspect.isawaitable(result) else result
        result = await self._in_thread(functools.partial(function, *args, **kwargs))
        return await result if inspect.isawaitable(result) else result

    async def items(self, result: Any) -> AsyncIterator[Any]:
        """Yield the items of a generator; a plain one runs in a thread.

        Raises:
            TypeError: it is none.
        """
        if inspect.isasyncgen(result) or hasattr(result, "__aiter__"):
            request.get().stream = result
            try:
                async for item in result:
                    yield item
            finally:
                if hasattr(result, "aclose"):
                    await result.aclose()
        elif inspect.isgenerator(result):
            over = object()
            try:
                while (item := await self._in_thread(functools.partial(next, result, over))) is not over:
                    yield item
            finally:
                result.close()
        else:
            raise TypeError(
                f"the method of deployment {self._name} was called with `stream=True`, but it is no "
                "generator: it "
                f"returned {type(result).__name__}"
            )

    async def _in_thread(self, function: Callable[[], Any]) -> Any:
        """Run a plain function in a thread, as part of this request. It cannot be interrupted: a cancelled
        request ends when it returns."""
        run = contextvars.copy_context().run
        future = asyncio.get_running_loop().run_in_executor(self._threads, run, _no_stop_iteration, function)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            if not future.cancelled():
                future.exception()
            raise
        except Exception as error:  # without the frames of the pool: see _serialize/tracebacks.py
            raise error.with_traceback(users_part(error.__traceback__))

    async def _maybe_await(self, value: Any) -> Any:
        return await value if inspect.isawaitable(value) else value


def _construct(made: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a class or its constructor. By this function's name, errors about the arguments have no frames."""
    return made(*args, **kwargs)


def _invoke(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a method: see ``_construct``."""
    return function(*args, **kwargs)


def _written(cls: type, name: str) -> Any:
    """Return what the class or a base class has under this name; None: nothing."""
    return next((vars(base)[name] for base in cls.__mro__ if name in vars(base)), None)


def _no_stop_iteration(function: Callable[[], Any]) -> Any:
    """Run a function; a StopIteration of its own, which no future can hold, becomes a RuntimeError."""
    context = request.get()
    context.thread = threading.get_ident()
    try:
        return function()
    except StopIteration as error:
        raise RuntimeError("the handler raised StopIteration") from error
    finally:
        context.thread = 0


def checked_result(result: Any, method: str, name: DeploymentId) -> Any:
    """Return the result of a call that is no stream. By this function's name, its error has no frames.

    Raises:
        TypeError: it is a generator.
    """
    if inspect.isgenerator(result) or inspect.isasyncgen(result):
        raise TypeError(
            f"the method {method!r} of deployment {name.name} is a generator: call it by "
            "`handle.options(stream=True)`"
        )
    return result
