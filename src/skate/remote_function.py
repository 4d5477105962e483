"""RemoteFunction: what ``@remote`` makes of a function."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from types import FunctionType
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from skate import options as _options
from skate._base.code_flags import CO_ASYNC_GENERATOR, CO_COROUTINE, code_flags
from skate._base.parameters import parameters_of
from skate._graph import hooks
from skate._starting import connected_engine
from skate.engine import connection
from skate.engine.interface import Engine, Submit
from skate.engine.refs import ObjectRef

if TYPE_CHECKING:
    from typing_extensions import ParamSpec

    P = ParamSpec("P")
else:
    from typing import ParamSpec

    P = ParamSpec("P")

R = TypeVar("R")

#: The attributes that a remote function has of the function below it.
_COPIED = ("__module__", "__qualname__", "__doc__", "__annotations__")


class RemoteFunction(Generic[P, R]):
    """A function that runs as a task in a worker process.

    Made by ``@skate.remote``. Call ``.remote(...)``: it returns at once with an ObjectRef. Arguments
    that are ObjectRefs are waited for and replaced by their values; refs inside other arguments stay
    refs.
    """

    def __init__(self, function: Callable[P, R], given: dict[str, Any]) -> None:
        flags = code_flags(function)
        self._name = name = _name_of(function)
        if flags & (CO_COROUTINE | CO_ASYNC_GENERATOR):
            of = getattr(function, "__qualname__", name)
            raise ValueError(
                f"'async def' should not be used for remote tasks, and {of} is an async function. You can "
                "wrap the async function with `asyncio.run(f())`; async methods belong to actors"
            )
        _options.check(given, _options.TASK_OPTIONS, "a remote function")
        self._function = function
        self._given = given
        self._options = _options.task_options(given)
        self._parameters = found = parameters_of(function)
        self._least, self._most = found.least, found.most
        self._engine: Engine | None = None
        self._submit: Submit
        for attribute in _COPIED:
            if hasattr(function, attribute):
                setattr(self, attribute, getattr(function, attribute))
        self.__name__ = name
        self.__wrapped__ = function
        if isinstance(function, FunctionType):
            for attribute, value in vars(function).items():
                self.__dict__.setdefault(attribute, value)  # its own are no function's business

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse: a remote function is not called directly."""
        name = self._name
        raise TypeError(
            f"Remote functions cannot be called directly. Instead of running '{name}()', try "
            f"'{name}.remote()': it runs as a task. Or call the plain function below the decorator"
        )

    def remote(self, /, *args: P.args, **kwargs: P.kwargs) -> ObjectRef[R]:
        """Run the function as a task.

        Args:
            args, kwargs: the function's arguments. Values are pickled now; refs are passed on.

        Returns:
            The ref of the result; a list of refs if ``num_returns`` is above 1; None if it is 0; an
            ObjectRefGenerator if the function is a generator.

        Raises:
            TypeError: the function does not take these arguments; or one cannot be pickled: the message
                names the path to the culprit.

        Example:
            >>> @skate.remote
            ... def add(a, b):
            ...     return a + b
            >>> skate.get(add.remote(1, 2))
            3
        """
        if kwargs or not self._least <= len(args) <= self._most:
            self._parameters.check(self._name, args, kwargs)
        if connection.engine is not self._engine or self._engine is None:
            self._bind()
        return self._submit(args, kwargs)  # type: ignore[no-any-return]

    def _bind(self) -> None:
        found = connected_engine()
        self._submit = found.bind_function(self._function, self._name, self._options)
        self._engine = found

    def bind(self, /, *args: Any, **kwargs: Any) -> Any:
        """Return a node of a graph that calls the function when the graph is executed. See ``skate.dag``.

        Args:
            args, kwargs: the function's arguments; nodes among them are replaced by their results.

        Example:
            >>> skate.get(add.bind(1, add.bind(2, 3)).execute())
            6
        """
        from skate._graph.function_node import FunctionNode

        return FunctionNode(self._function, args, kwargs, self._given, _remote=self)

    def options(self, **task_options: Any) -> RemoteFunction[P, R]:
        """Return the same function with other options.

        Args:
            task_options: any option of ``@skate.remote`` for functions.

        Example:
            >>> add.options(num_cpus=2, name="big addition").remote(1, 2)
        """
        return RemoteFunction(self._function, {**self._given, **task_options})

    def _remote(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **task_options: Any
    ) -> Any:
        """Run the function with other options: ``options(**task_options).remote(*args, **kwargs)`` in one."""
        chosen: Any = self.options(**task_options) if task_options else self
        return chosen.remote(*(args or ()), **(kwargs or {}))

    def __reduce__(self) -> tuple[Any, ...]:
        return RemoteFunction, (self._function, self._given)

    def __repr__(self) -> str:
        return f"RemoteFunction({self.__module__}.{getattr(self, '__qualname__', self._name)})"


def _name_of(function: Any) -> str:
    """Return what people call it; an object that is called has no name but its class's."""
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__name__", None)
    return name if isinstance(name, str) else type(function).__name__


hooks.make_remote = RemoteFunction
