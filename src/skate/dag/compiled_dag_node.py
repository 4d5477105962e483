"""Provides CompiledDAG, a graph whose actors are connected with each other once, for all executions.

::

    driver (member 0) ── input ──► actor 1 ── value ──► actor 2 ──┐
       ▲                              └─────── value ──► actor 3 ─┤
       └───────────────────────── outputs ────────────────────────┘

Two members that exchange values have one socket; large values go through shared memory that is reused
(``_memory``). Each actor runs its steps in a fixed order as values arrive (``_schedule``,
``_program``). The driver numbers executions and keeps their results (``_executions``, ``_driver``).
No daemon, no object store and no reference counts are involved.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from skate._graph.input_node import DAGInputData, InputAttributeNode, InputNode, whole_input
from skate._starting import connected_engine
from skate.dag import _compile
from skate.dag._driver import Graph
from skate.dag._elsewhere import GraphElsewhere
from skate.dag._plan import Plan
from skate.dag._results import CompiledDAGFuture, CompiledDAGRef
from skate.dag.context import DAGContext
from skate.engine.interface import GraphSettings

if TYPE_CHECKING:
    from skate._graph.node import DAGNode

_GRAPH_ID_SIZE = 16


class CompiledDAG:
    """A compiled graph. ``DAGNode.experimental_compile`` makes it and describes the arguments.

    ``teardown()`` ends it; it also ends when it and all refs that it returned are dropped.
    """

    def __init__(
        self,
        submit_timeout: float | None = None,
        buffer_size_bytes: int | None = None,
        enable_asyncio: bool = False,
        max_inflight_executions: int | None = None,
        max_buffered_results: int | None = None,
        overlap_gpu_communication: bool | None = None,
        default_communicator: Any = "create",
    ) -> None:
        context = DAGContext.get_current()
        self._enable_asyncio = enable_asyncio
        self._submit_timeout = context.submit_timeout if submit_timeout is None else submit_timeout
        self._get_timeout = context.get_timeout
        self._teardown_timeout = context.teardown_timeout
        self._buffer_size = _positive(
            "_buffer_size_bytes",
            context.buffer_size_bytes if buffer_size_bytes is None else buffer_size_bytes,
        )
        self._max_inflight = _positive(
            "_max_inflight_executions",
            context.max_inflight_executions if max_inflight_executions is None else max_inflight_executions,
        )
        self._max_buffered = _positive(
            "_max_buffered_results",
            context.max_buffered_results if max_buffered_results is None else max_buffered_results,
        )
        self._id = os.urandom(_GRAPH_ID_SIZE)
        self._root: DAGNode
        self._graph: Graph | GraphElsewhere
        self._plan: Plan
        #: One argument in, one result out: see ``Graph.begin_one``.
        self._is_simple = False

    def _connect(self, root: DAGNode) -> None:
        engine = connected_engine()
        builder = engine.graph_builder()
        core: Any = engine.compiled_graphs() if builder is None else None
        plan = _compile.plan_of(root, self._id, self._buffer_size)
        here = engine.running().actor
        me = here.info.actor_id if here is not None else None
        for handle in plan.actors:
            if handle._info.actor_id == me:
                raise ValueError(
                    f"{handle!r} is the actor that compiles the graph, and would wait for itself: compile it "
                    "in another process, or call the method directly"
                )
        self._root, self._plan = root, plan
        if core is None:
            assert builder is not None
            self._graph = GraphElsewhere(builder, plan, self._settings())
            return
        self._graph = graph = Graph(engine, core, plan, self._id, self._max_inflight, self._max_buffered)
        graph.connect()
        source = plan.sources[0] if len(plan.sources) == 1 else None
        self._is_simple = (
            plan.takes == "one"
            and not plan.is_list
            and not self._enable_asyncio
            and source is not None
            and not source.kept
        )

    def _settings(self) -> GraphSettings:
        return GraphSettings(
            self._submit_timeout,
            self._buffer_size,
            self._enable_asyncio,
            self._max_inflight,
            self._max_buffered,
        )

    def get_id(self) -> str:
        """Return the graph's own id in hex."""
        return self._id.hex()

    @property
    def is_teardown(self) -> bool:
        """Tell whether it has ended."""
        return self._graph.has_ended

    # ------------------------------------------------------------------ executing

    def execute(self, *args: Any, **kwargs: Any) -> Any:
        """Run the graph once.

        Args:
            args, kwargs: the values of the graph's InputNode. No ObjectRefs.

        Returns:
            A CompiledDAGRef; a list of them for a MultiOutputNode. Each is to be ``get`` once, or dropped.

        Raises:
            RayCgraphCapacityExceeded: the most executions are running or not taken.
            RayChannelTimeoutError: executions whose refs were dropped did not end in time.
            RayChannelError: the graph was torn down.
            ActorDiedError, ActorUnavailableError: an actor of it died.
            TypeError, ValueError: the arguments do not fit the graph's inputs.

        Example:
            >>> compiled.execute(1).get()
            2
        """
        if self._is_simple and len(args) == 1 and not kwargs:
            assert isinstance(self._graph, Graph)
            begun = self._graph.begin_one(args[0])
            if begun is not None:
                return CompiledDAGRef(self, begun)
        if self._enable_asyncio:
            raise ValueError("the graph was compiled with enable_asyncio=True: use execute_async()")
        self._check_arguments(args, kwargs)
        execution = self._graph.begin(lambda: self._values(args, kwargs), self._submit_timeout)
        if not self._plan.is_list:
            return CompiledDAGRef(self, execution)
        return [CompiledDAGRef(self, execution, place) for place in range(len(self._plan.outputs))]

    async def execute_async(self, *args: Any, **kwargs: Any) -> Any:
        """Run the graph once, from a coroutine.

        Args:
            args, kwargs: as with ``execute``.

        Returns:
            A CompiledDAGFuture, to be awaited once; a list of them for a MultiOutputNode.

        Raises:
            ValueError: it was compiled without ``enable_asyncio=True``.
            RayCgraphCapacityExceeded, RayChannelError, ...: as with ``execute``.

        Example:
            >>> future = await compiled.execute_async(1)
            >>> await future
            2
        """
        if not self._enable_asyncio:
            raise ValueError("the graph was compiled without enable_asyncio=True: use execute()")
        self._check_arguments(args, kwargs)
        execution = await self._graph.begin_async(lambda: self._values(args, kwargs), self._submit_timeout)
        if not self._plan.is_list:
            return CompiledDAGFuture(self, execution, None)
        return [CompiledDAGFuture(self, execution, None, place) for place in range(len(self._plan.outputs))]

    def _check_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        takes = self._plan.takes
        if takes == "parts":
            return
        expected = 1 if takes == "one" else 0
        if len(args) != expected or kwargs:
            names = f" and {', '.join(kwargs)}" if kwargs else ""
            raise ValueError(
                f"the graph takes {expected} positional argument{'s' if expected != 1 else ''} in execute(), "
                f"got {len(args)}{names}: use inp[0], inp[1] or inp.name of the InputNode for several"
            )

    def _values(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
        """Return the values of the plan's sources."""
        values: list[Any] = []
        for source in self._plan.sources:
            node = source.node
            if node is None:
                values.append(None)
            elif isinstance(node, InputNode):
                values.append(args[0])
            else:
                assert isinstance(node, InputAttributeNode)
                values.append(node.value_in(whole_input(args, kwargs) if args or kwargs else DAGInputData()))
        return values

    # ------------------------------------------------------------------ the end

    def teardown(self, kill_actors: bool = False) -> None:
        """End the graph. Its actors stay, and take ordinary calls as before.

        Threads that wait for a result get RayChannelError; results that have arrived can still be taken. A
        running step is not interrupted.

        Args:
            kill_actors: also end the actors.

        Raises:
            RayChannelTimeoutError: an actor did not hang up within DAGContext.teardown_timeout.

        Example:
            >>> compiled.teardown()
        """
        graph = self._graph
        hung_up = graph.end(self._teardown_timeout)
        if kill_actors:
            engine = connected_engine()
            for handle in self._plan.actors:
                engine.kill_actor(handle._info.actor_id, True)
        elif not hung_up:
            from skate.exceptions import RayChannelTimeoutError

            raise RayChannelTimeoutError(
                f"not every actor hung up within {self._teardown_timeout:g} s of the teardown. Nothing can "
                "be executed any more; `skate stack` shows what the actors do"
            )

    def __del__(self) -> None:
        # On any thread, at any bytecode: only system calls. The rest happens when the actors hang up.
        graph = getattr(self, "_graph", None)
        if graph is not None:
            graph.abandoned = True
            graph.half_close()

    # ------------------------------------------------------------------ the rest

    def visualize(
        self,
        filename: str = "compiled_graph",
        format: str = "png",
        view: bool = False,
        channel_details: bool = False,
    ) -> str:
        """Draw the graph.

        Args:
            filename: the file to write, without its ending.
            format: "dot" and "ascii" need nothing; "png", "svg", "pdf" need Graphviz's ``dot``.
            view: open the file.
            channel_details: label each edge with the way of its values.

        Returns:
            The drawing's source in the DOT language; for "ascii" the text itself.

        Raises:
            RuntimeError: there is no ``dot``.
        """
        from skate.dag import vis_utils

        return vis_utils.draw(self._root, filename, format, view=view, details=channel_details)

    def __repr__(self) -> str:
        return f"CompiledDAG({self._id.hex()})"


def _positive(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
    return value
