"""Defines the results of executions of compiled graphs."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

if TYPE_CHECKING:
    from skate.dag._driver import Graph
    from skate.dag._elsewhere import GraphElsewhere


class Executed(Protocol):
    """The compiled graph to which a result belongs."""

    _graph: Graph | GraphElsewhere
    _get_timeout: float

    def get_id(self) -> str:
        """Return the graph's own id in hex."""


class _Output:
    """One output of one execution, taken once."""

    __slots__ = ("_dag", "_execution", "_place", "_taken")

    def __init__(self, dag: Executed, execution_index: int, channel_index: int | None = None) -> None:
        self._dag = dag
        self._execution = execution_index
        self._place = channel_index or 0
        self._taken = False

    def _check(self, how: str) -> None:
        if self._taken:
            raise ValueError(
                f"the result of execution {self._execution} was taken already: {how} gives it once, and "
                "nothing keeps it afterwards"
            )

    @property
    def state_id(self) -> str:
        """The name of the execution for ``skate.util.state.why`` and ``skate why``."""
        return f"{self._dag.get_id()}:{self._execution}"

    def __del__(self) -> None:
        # On any thread, at any bytecode: only append.
        if not self._taken:
            self._dag._graph.dropped.append((self._execution, self._place))

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"{self!r} belongs to the process that executed the graph, and cannot be sent to another one: "
            "get() it and send the value"
        )

    def __copy__(self) -> NoReturn:
        self.__reduce__()

    def __deepcopy__(self, memo: Any) -> NoReturn:
        self.__reduce__()

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self._dag.get_id()}, execution={self._execution}, output={self._place})"
        )


class CompiledDAGRef(_Output):
    """A result of a compiled graph, ready or not. ``get`` and ``skate.get(ref)`` return it, once."""

    __module__ = "skate.experimental.compiled_dag_ref"

    __slots__ = ()

    def get(self, timeout: float | None = None) -> Any:
        """Wait for the result and return it.

        Large numpy arrays and other buffers in it are read-only views of shared memory, which is reused
        when nothing refers to them any more.

        Args:
            timeout: seconds; None: DAGContext.get_timeout; 0: do not wait; -1: no limit.

        Raises:
            RayChannelTimeoutError: it was not ready in time; ``get`` may be called again.
            RayTaskError: a method raised; also an instance of the exception's own type.
            ActorDiedError, ActorUnavailableError: an actor of the graph died, and the graph with it.
            RayChannelError: the graph was torn down.
            RayCgraphCapacityExceeded: too many results of earlier executions are not taken.
            ValueError: it was called before.

        Example:
            >>> compiled.execute(1).get(timeout=5)
            2
        """
        if self._taken:
            self._check("get()")
        if timeout is None:
            timeout = self._dag._get_timeout
        elif timeout < 0:
            if timeout != -1:
                raise ValueError(f"timeout takes seconds, or -1 to wait without a limit, got {timeout!r}")
            timeout = None
        value = self._dag._graph.take(self._execution, self._place, timeout)
        self._taken = True
        return self._dag._graph.decode(value)

    def __skate_get__(self, timeout: float | None) -> Any:
        return self.get(timeout)


class CompiledDAGFuture(_Output):
    """A result of a compiled graph, which can be awaited once.

    Example:
        >>> await (await compiled.execute_async(1))
        2
    """

    __module__ = "skate.experimental.compiled_dag_ref"

    __slots__ = ()

    def __init__(
        self, dag: Executed, execution_index: int, fut: Any, channel_index: int | None = None
    ) -> None:
        super().__init__(dag, execution_index, channel_index)

    def __await__(self) -> Generator[Any, None, Any]:
        self._check("await")
        return self._result().__await__()

    async def _result(self) -> Any:
        value = await self._dag._graph.take_async(self._execution, self._place)
        self._taken = True
        return self._dag._graph.decode(value)
