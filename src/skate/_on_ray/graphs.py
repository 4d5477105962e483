"""Compiled graphs on a Ray cluster: Ray's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from skate._base.errors import RayChannelError
from skate._on_ray.errors import Translating
from skate._on_ray.refs import home, native
from skate.engine.refs import ObjectRef

if TYPE_CHECKING:
    from skate._on_ray.refs import Actor
    from skate.engine.interface import ActorInfo, BuiltGraph, GraphBuilder, GraphSettings


class RayGraphBuilder:
    """Makes one of Ray's compiled graphs. See GraphBuilder for what the methods do.

    Args:
        handle_of: returns Ray's handle in one of skate's.
    """

    def __init__(self, handle_of: Callable[[ActorInfo], Actor]) -> None:
        from ray import dag

        self._dag: Any = dag
        self._handle_of = handle_of

    def inputs(self, count: int) -> list[Any]:
        """See GraphBuilder."""
        with self._dag.InputNode() as whole:
            return [whole] if count == 1 else [whole[place] for place in range(count)]

    def call(self, actor: ActorInfo, method: str, num_returns: int, args: tuple[Any, ...]) -> list[Any]:
        """See GraphBuilder."""
        bound = getattr(self._handle_of(actor).handle, method)
        with Translating():
            given = [home.ray.get(native(one)) if type(one) is ObjectRef else one for one in args]
        if num_returns > 1:
            return list(bound.options(num_returns=num_returns).bind(*given))
        return [bound.bind(*given)]

    def build(self, outputs: Sequence[Any], settings: GraphSettings) -> BuiltGraph:
        """See GraphBuilder."""
        with Translating():
            return RayGraph(
                self._dag.MultiOutputNode(list(outputs)).experimental_compile(
                    _submit_timeout=settings.submit_timeout,
                    _buffer_size_bytes=settings.buffer_size,
                    enable_asyncio=settings.enable_asyncio,
                    _max_inflight_executions=settings.max_inflight,
                    _max_buffered_results=settings.max_buffered,
                )
            )


class RayGraph:
    """One of Ray's compiled graphs. See BuiltGraph for what the methods do.

    Args:
        compiled: Ray's.
    """

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled

    def begin(self, values: Sequence[Any]) -> list[Any]:
        """See BuiltGraph."""
        self._check()
        with Translating():
            return list(self._compiled.execute(*values))

    async def begin_async(self, values: Sequence[Any]) -> list[Any]:
        """See BuiltGraph."""
        self._check()
        with Translating():
            return list(await self._compiled.execute_async(*values))

    def _check(self) -> None:
        """Raise if Ray has torn it down: an execution would end this process."""
        if self._compiled.is_teardown:
            raise RayChannelError("the compiled graph has ended: an actor of it has died")

    def take(self, result: Any, timeout: float | None) -> Any:
        """See BuiltGraph."""
        with Translating():
            return result.get(timeout=-1 if timeout is None else timeout)

    async def take_async(self, result: Any) -> Any:
        """See BuiltGraph."""
        with Translating():
            return await result

    def end(self) -> None:
        """See BuiltGraph."""
        self._compiled.teardown()


if TYPE_CHECKING:
    _makes: Callable[[Any], GraphBuilder] = RayGraphBuilder
