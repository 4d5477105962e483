"""ASGI applications as deployments: ``serve.ingress``."""

from __future__ import annotations

import asyncio
import copyreg
import inspect
import sys
from collections.abc import Callable, Iterator
from typing import Any

from skate.serve.exceptions import RayServeException

#: The attribute of a class that has its application.
_MARK = "__serve_asgi__"


def ingress(app: Any) -> Callable[..., type]:
    """Have an ASGI application answer a deployment's HTTP requests: FastAPI, Starlette, or any other.

    Methods of the class that are routes of the application (``@app.get("/")`` above a method) get the
    replica's instance as ``self``.

    Args:
        app: the application, or a function without parameters that returns it.

    Returns:
        A decorator for the class, below ``@serve.deployment``. Without a class, ``serve.ingress(app)()``, it
        returns one that has nothing but the application.

    Raises:
        ValueError: what is decorated is no class, or it has a ``__call__``.

    Example:
        >>> app = FastAPI()
        >>> @serve.deployment
        ... @serve.ingress(app)
        ... class Api:
        ...     @app.get("/double")
        ...     def double(self, x: int) -> int:
        ...         return 2 * x
    """

    def decorate(cls: type | None = None) -> type:
        cls = _only_the_application() if cls is None else cls
        if not inspect.isclass(cls):
            raise ValueError("@serve.ingress must be used with a class.")
        if any("__call__" in vars(base) for base in cls.__mro__[:-1]):
            raise ValueError(
                f"Classes passed to @serve.ingress may not have __call__ method: {cls.__name__} has one, and "
                "the "
                "application answers HTTP"
            )
        setattr(cls, _MARK, app)
        _make_picklable()
        _resolve_annotations(app, cls)
        return cls

    return decorate


def _only_the_application() -> type:
    class ASGIIngressDeployment:
        """Has no routes of its own."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.args, self.kwargs = args, kwargs

    return ASGIIngressDeployment


def _make_picklable() -> None:
    """Have parts of applications pickled by their contents, as plain pickle cannot load or save them.

    Starlette's ``app.state`` looks attributes up before there are any. Since FastAPI 0.137 the route that
    ``include_router`` adds has a lock.
    """
    starlette = sys.modules.get("starlette.datastructures")
    if starlette is not None:
        copyreg.pickle(starlette.State, lambda state: (type(state), (dict(state._state),)))
    included = getattr(sys.modules.get("fastapi.routing"), "_IncludedRouter", None)
    if included is not None:
        copyreg.pickle(included, _reduced)


def _reduced(included: Any) -> Any:
    facts = {name: getattr(included, name) for name in ("original_router", "include_context")}
    # As a state: its routes may lead back to it.
    return copyreg.__newobj__, (type(included),), facts, None, None, _include  # type: ignore[attr-defined]


def _include(included: Any, facts: dict[str, Any]) -> None:
    included.__init__(**facts)


def _resolve_annotations(app: Any, cls: type) -> None:
    """Have the methods that are routes keep what their annotations mean.

    A replica looks at them again, and has only those of their module's names that their code uses.
    """
    for function in _routed(app, cls):
        try:
            function.__signature__ = inspect.signature(function, eval_str=True)
        except (NameError, TypeError, SyntaxError):
            continue  # a name of an enclosing function: what does not need it works


def _routed(app: Any, cls: type) -> dict[Any, str]:
    """Return the functions of a class that are routes of an application, and their names."""
    functions = {
        function: name
        for base in reversed(cls.__mro__)
        for name, function in vars(base).items()
        if inspect.isfunction(function)
    }
    endpoints = [getattr(route, "endpoint", None) for _, _, route in _routes(getattr(app, "router", None))]
    return {one: functions[one] for one in endpoints if inspect.isfunction(one) and one in functions}


def _routes(router: Any) -> Iterator[tuple[list[Any], int, Any]]:
    """Yield the routes of a router, and of those that are included in it, with their lists and places."""
    routes = getattr(router, "routes", [])
    for index, route in enumerate(routes):
        if hasattr(route, "original_router"):
            yield from _routes(route.original_router)
        else:
            yield routes, index, route


def application_of(instance: Any) -> Any:
    """Return the ASGI application of an instance whose class ``ingress`` decorated; else None."""
    app = getattr(type(instance), _MARK, None)
    if app is None:
        return None
    if inspect.isfunction(app) and not inspect.signature(app).parameters:
        app = app()
    if hasattr(app, "routes") and hasattr(app, "router"):
        _bind_methods(app, instance)
    return app


def _bind_methods(app: Any, instance: Any) -> None:
    """Give the routes that are methods of the class the instance."""
    methods = _routed(app, type(instance))
    for routes, index, route in _routes(app.router):
        endpoint = getattr(route, "endpoint", None)
        if inspect.isfunction(endpoint) and endpoint in methods:
            routes[index] = _with_endpoint(route, getattr(instance, methods[endpoint]))


def _with_endpoint(route: Any, endpoint: Any) -> Any:
    """Return a route as this one that calls another function."""
    names = inspect.signature(type(route).__init__).parameters
    options = {
        name: getattr(route, name)
        for name in names
        if name not in ("self", "endpoint") and hasattr(route, name) and name != "kwargs"
    }
    return type(route)(endpoint=endpoint, **options)


class Lifespan:
    """The lifespan of an ASGI application: what it does before the first request and after the last.

    Args:
        app: the application.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self._messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        #: Kept by the application for its requests.
        self.state: dict[str, Any] = {}

    async def startup(self) -> None:
        """Have it start.

        Raises:
            RayServeException: it says that it cannot.
        """
        self._task = asyncio.get_running_loop().create_task(self._run())
        await self._messages.put({"type": "lifespan.startup"})
        answer = await self._answer()
        if answer is not None and answer["type"] == "lifespan.startup.failed":
            raise RayServeException(f"the application did not start: {answer.get('message', '')}")

    async def shutdown(self) -> None:
        """Have it end."""
        if self._task is None or self._task.done():
            return
        await self._messages.put({"type": "lifespan.shutdown"})
        await self._answer()

    async def _answer(self) -> dict[str, Any] | None:
        """Return its next message; None if it knows no lifespan."""
        assert self._task is not None
        waiting = asyncio.ensure_future(self._answers.get())
        await asyncio.wait([waiting, self._task], return_when=asyncio.FIRST_COMPLETED)
        if waiting.done():
            return waiting.result()
        waiting.cancel()
        return None

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        try:
            await self._app(scope, self._messages.get, self._answers.put)
        except Exception:
            return  # an application may know no lifespan: that is how it says so
