"""DAGNode: one call of a graph that is described first and run later, as often as one likes.

``bind`` makes nodes; nodes in the arguments of other nodes (also inside lists, tuples and
dictionaries) are the edges. ``execute`` walks the graph in an order in which every node comes after
those that it needs, without recursion, so that chains may be as long as they like.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, TypeVar

from skate._graph import hooks

T = TypeVar("T")


class DAGNode:
    """A node of a graph. Made by ``bind``, not by hand.

    Example:
        >>> with InputNode() as number:
        ...     graph = square.bind(number)
        >>> skate.get(graph.execute(3))
        9
    """

    __module__ = "skate.dag.dag_node"

    def __init__(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: dict[str, Any],
        other_args_to_resolve: dict[str, Any] | None = None,
    ) -> None:
        self._bound_args = tuple(args)
        self._bound_kwargs = dict(kwargs)
        self._bound_options = dict(options)
        self._bound_other_args_to_resolve = dict(other_args_to_resolve or {})
        self._stable_uuid = uuid.uuid4().hex
        self._type_hint: Any = None
        self._compiled = False
        #: Results by the nodes' uuids, if the last ``execute`` was to keep them.
        self.cache_from_last_execute: dict[str, Any] = {}

    # ------------------------------------------------------------------ what it is made of

    def get_args(self) -> tuple[Any, ...]:
        """Return the positional arguments, nodes among them."""
        return self._bound_args

    def get_kwargs(self) -> dict[str, Any]:
        """Return a copy of the keyword arguments."""
        return dict(self._bound_kwargs)

    def get_options(self) -> dict[str, Any]:
        """Return a copy of the options that the call gets."""
        return dict(self._bound_options)

    def get_other_args_to_resolve(self) -> dict[str, Any]:
        """Return a copy of what else the node needs: the actor, the call before it, ..."""
        return dict(self._bound_other_args_to_resolve)

    def get_stable_uuid(self) -> str:
        """Return the node's own id, which copies of it keep."""
        return self._stable_uuid

    @property
    def type_hint(self) -> Any:
        """How the value is to travel between the processes of a compiled graph, if that was said."""
        return self._type_hint

    @type_hint.setter
    def type_hint(self, hint: Any) -> None:
        self._type_hint = hint

    def with_type_hint(self, hint: Any) -> DAGNode:
        """Set ``type_hint``; return the node."""
        self._type_hint = hint
        return self

    def with_tensor_transport(
        self,
        transport: Any = "auto",
        device: str = "default",
        _static_shape: bool = False,
        _direct_return: bool = False,
    ) -> DAGNode:
        """Say how tensors in the value travel in a compiled graph; return the node.

        Args:
            transport: "auto" or "shm": through shared memory, which is how everything travels here.
            device: "default" or "cpu".

        Raises:
            ValueError: a way that skate does not have, such as "nccl".
        """
        if transport not in ("auto", "shm") or device not in ("default", "cpu"):
            raise ValueError(
                f"skate's compiled graphs carry tensors through shared memory (transport 'auto' or 'shm', "
                f"device 'default' or 'cpu'), not by {transport!r} on {device!r}"
            )
        self._type_hint = {"transport": transport, "device": device, "static_shape": _static_shape,
                           "direct_return": _direct_return}  # fmt: skip
        return self

    # ------------------------------------------------------------------ running

    def execute(self, *args: Any, _ray_cache_refs: bool = False, **kwargs: Any) -> Any:
        """Run the graph up to this node as ordinary tasks and actor calls.

        Each node runs once, however many others use it. Actors of ``ActorClass.bind`` are started
        once in every ``execute``; those of handles are the same in all.

        Args:
            args, kwargs: what the graph's InputNode stands for.
            _ray_cache_refs: keep every node's result, for ``get_object_refs_from_last_execute``.

        Returns:
            The ref of this node's result (of an actor class: its handle; of a MultiOutputNode: a list).

        Example:
            >>> graph = add.bind(square.bind(2), square.bind(3))
            >>> skate.get(graph.execute())
            13
        """
        results: dict[str, Any] = {}

        def result_of(node: DAGNode) -> Any:
            return results[node._stable_uuid]

        for node in self._in_order():
            bound_args, bound_kwargs, others = node._substituted(result_of)
            results[node._stable_uuid] = node._execute_impl(bound_args, bound_kwargs, others, args, kwargs)
        self.cache_from_last_execute = results if _ray_cache_refs else {}
        return results[self._stable_uuid]

    def _execute_impl(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        others: dict[str, Any],
        input_args: tuple[Any, ...],
        input_kwargs: dict[str, Any],
    ) -> Any:
        """Run this node alone; the arguments have the results of other nodes in their places."""
        raise NotImplementedError(f"{type(self).__name__} cannot be executed")

    async def get_object_refs_from_last_execute(self) -> dict[str, Any]:
        """Return every node's result in the last ``execute(_ray_cache_refs=True)``, by the nodes' uuids."""
        return dict(self.cache_from_last_execute)

    def clear_cache(self) -> None:
        """Forget the results of the last ``execute``."""
        self.cache_from_last_execute = {}

    def experimental_compile(
        self,
        _submit_timeout: float | None = None,
        _buffer_size_bytes: int | None = None,
        enable_asyncio: bool = False,
        _max_inflight_executions: int | None = None,
        _max_buffered_results: int | None = None,
        _overlap_gpu_communication: bool | None = None,
        _default_communicator: Any = "create",
    ) -> Any:
        """Connect the graph's actors with each other, once, so that each execution costs little.

        Only methods of actors that run already (``handle.method.bind``) can be compiled.

        Args:
            _submit_timeout: seconds that ``execute`` waits for room; None: that of DAGContext. It waits
                only for executions whose refs were dropped.
            _buffer_size_bytes: shared memory of a buffer at first; larger values get larger ones.
            enable_asyncio: results are awaited: use ``execute_async``.
            _max_inflight_executions: how many may be under way or not taken.
            _max_buffered_results: how many results of earlier executions a ``get`` of a later one may
                leave behind it.
            _overlap_gpu_communication, _default_communicator: accepted; there is no such communication.

        Returns:
            The compiled graph, a ``skate.dag.compiled_dag_node.CompiledDAG``; ``teardown()`` ends it, and
            so does dropping it.

        Raises:
            ValueError: something in the graph cannot be compiled; the message names it.
            NotImplementedError: there are tasks in it; or the session has no processes (mode="inline").
            ActorDiedError: an actor of the graph is dead.

        Example:
            >>> with InputNode() as number:
            ...     graph = counter.add.bind(number)
            >>> compiled = graph.experimental_compile()
            >>> compiled.execute(1).get()
            1
        """
        if self._compiled:
            raise ValueError(
                f"{self!r} was compiled before: use what experimental_compile() returned, or describe the "
                "graph anew (also after a teardown)"
            )
        if hooks.compile_graph is None:
            raise NotImplementedError(
                f"{self!r} cannot be compiled: compiled graphs consist of methods of actors that run already"
            )
        compiled = hooks.compile_graph(
            self, _submit_timeout, _buffer_size_bytes, enable_asyncio, _max_inflight_executions,
            _max_buffered_results, _overlap_gpu_communication, _default_communicator,
        )  # fmt: skip
        self._compiled = True
        return compiled

    # ------------------------------------------------------------------ walking

    def _children(self) -> Iterator[DAGNode]:
        """Yield the nodes that this one needs, with repeats."""
        for part in (self._bound_args, self._bound_kwargs, self._bound_other_args_to_resolve):
            yield from nodes_in(part)

    def _in_order(self) -> list[DAGNode]:
        """Return this node and all that it needs, each once, those needed first."""
        done: dict[str, DAGNode] = {}
        stack: list[tuple[DAGNode, Iterator[DAGNode]]] = [(self, self._children())]
        open_: set[str] = {self._stable_uuid}
        while stack:
            node, children = stack[-1]
            for child in children:
                if child._stable_uuid not in done and child._stable_uuid not in open_:
                    open_.add(child._stable_uuid)
                    stack.append((child, child._children()))
                    break
            else:
                stack.pop()
                done[node._stable_uuid] = node
        return list(done.values())

    def _substituted(
        self, value_of: Callable[[DAGNode], Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any], dict[str, Any]]:
        """Return args, kwargs and the others with values in the places of nodes."""
        return (
            substitute(self._bound_args, value_of),
            substitute(self._bound_kwargs, value_of),
            substitute(self._bound_other_args_to_resolve, value_of),
        )

    def _copied(self, args: tuple[Any, ...], kwargs: dict[str, Any], others: dict[str, Any]) -> DAGNode:
        """Return a node like this one with other arguments; it keeps the uuid."""
        copied = self.__class__.__new__(self.__class__)
        copied.__dict__.update(self.__dict__)
        copied._bound_args, copied._bound_kwargs = args, kwargs
        copied._bound_other_args_to_resolve = others
        copied._compiled, copied.cache_from_last_execute = False, {}
        return copied

    def apply_recursive(self, fn: Callable[[DAGNode], T]) -> T:
        """Apply ``fn`` to every node, those needed first; what it returns takes their places.

        Args:
            fn: gets a copy of each node whose arguments are what ``fn`` made of the nodes in them.

        Returns:
            The result of ``fn`` for this node.
        """
        made: dict[str, T] = {}
        for node in self._in_order():
            parts = node._substituted(lambda child: made[child._stable_uuid])
            made[node._stable_uuid] = fn(node._copied(*parts))
        return made[self._stable_uuid]

    def traverse_and_apply(self, fn: Callable[[DAGNode], Any]) -> None:
        """Call ``fn`` with every node itself, once, those needed first."""
        for node in self._in_order():
            fn(node)

    def apply_functional(
        self,
        source_input_list: Any,
        predicate_fn: Callable[[Any], bool],
        apply_fn: Callable[[Any], Any],
    ) -> Any:
        """Return a copy of nested lists, tuples and dictionaries with some values replaced.

        Args:
            source_input_list: what to look through.
            predicate_fn: tells which values are to be replaced.
            apply_fn: makes the replacement.
        """
        return replace(source_input_list, predicate_fn, apply_fn)

    # ------------------------------------------------------------------ the rest

    @property
    def _title(self) -> str:
        """The name of the call of this node, for messages and drawings."""
        return type(self).__name__

    def __reduce__(self) -> NoReturn:
        raise ValueError(
            f"{self!r} is a node of a graph, not a value: it cannot be sent to another process. Nodes are "
            "replaced by their results as arguments of bind() and inside lists, tuples and dictionaries "
            "there, not inside other objects"
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._title}, {self._stable_uuid[:8]})"


def nodes_in(value: Any) -> Iterator[DAGNode]:
    """Yield the nodes in a value: itself, or inside lists, tuples and dictionaries."""
    if isinstance(value, DAGNode):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from nodes_in(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from nodes_in(item)


def substitute(value: Any, value_of: Callable[[DAGNode], Any]) -> Any:
    """Return the value with ``value_of(node)`` in the place of each node; parts without any are kept."""
    return replace(value, lambda item: isinstance(item, DAGNode), value_of)


def replace(value: Any, chosen: Callable[[Any], bool], made: Callable[[Any], Any]) -> Any:
    """Return nested lists, tuples and dictionaries with ``made(item)`` for each chosen item."""
    if chosen(value):
        return made(value)
    if isinstance(value, (list, tuple)):
        items = [replace(item, chosen, made) for item in value]
        if all(new is old for new, old in zip(items, value, strict=True)):
            return value
        if isinstance(value, list):
            return items
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    if isinstance(value, dict):
        changed = {key: replace(item, chosen, made) for key, item in value.items()}
        if all(changed[key] is item for key, item in value.items()):
            return value
        return changed
    return value
