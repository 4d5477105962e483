"""ClassNode and ClassMethodNode: actors and their methods in graphs."""

from __future__ import annotations

import itertools
from typing import Any

from skate._graph import hooks
from skate._graph.constants import (
    BIND_INDEX_KEY,
    IS_CLASS_METHOD_OUTPUT_KEY,
    PARENT_CLASS_NODE_KEY,
    PREV_CLASS_METHOD_CALL_KEY,
)
from skate._graph.node import DAGNode


class ClassNode(DAGNode):
    """An actor that each ``execute`` of the graph starts. Made by ``ActorClass.bind``.

    ``node.method.bind(...)`` makes nodes of its methods. They run in the order in which they were
    bound: a method waits for those bound before it, and an ``execute`` of it runs them too.

    Example:
        >>> counter = Counter.bind(10)
        >>> counter.add.bind(1)
        >>> skate.get(counter.add.bind(2).execute())
        13
    """

    __module__ = "skate.dag.class_node"

    def __init__(
        self,
        cls: type,
        cls_args: tuple[Any, ...],
        cls_kwargs: dict[str, Any],
        cls_options: dict[str, Any],
        other_args_to_resolve: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(cls_args, cls_kwargs, cls_options, other_args_to_resolve)
        self._body = cls
        self._actor_class = (
            None if hooks.make_actor_class is None else hooks.make_actor_class(cls, self._bound_options)
        )
        #: The method bound last.
        self._last_call: ClassMethodNode | None = None

    def _execute_impl(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        others: dict[str, Any],
        input_args: tuple[Any, ...],
        input_kwargs: dict[str, Any],
    ) -> Any:
        if self._actor_class is None:  # it was made by hand, before the API was loaded
            if hooks.make_actor_class is None:
                raise RuntimeError(f"{self!r} cannot be executed before init()")
            self._actor_class = hooks.make_actor_class(self._body, self._bound_options)
        return self._actor_class.remote(*args, **kwargs)

    def __getattr__(self, name: str) -> _UnboundMethod:
        if name.startswith("_"):
            raise AttributeError(name)
        if not hasattr(self._body, name):
            raise AttributeError(
                f"actor class {self._body.__name__} has no method {name!r}, so there is nothing to bind"
            )
        return _UnboundMethod(self, name, {})

    @property
    def _title(self) -> str:
        return self._body.__qualname__


class _UnboundMethod:
    """``class_node.method``."""

    def __init__(self, actor: ClassNode, name: str, options: dict[str, Any]) -> None:
        self._actor = actor
        self._name = name
        self._options = options

    def bind(self, /, *args: Any, **kwargs: Any) -> ClassMethodNode:
        """Return the node of a call."""
        actor = self._actor
        others = {PARENT_CLASS_NODE_KEY: actor, PREV_CLASS_METHOD_CALL_KEY: actor._last_call}
        node = ClassMethodNode(self._name, args, kwargs, self._options, others)
        actor._last_call = node
        return node

    def options(self, **options: Any) -> _UnboundMethod:
        """Return the same method with other options."""
        return _UnboundMethod(self._actor, self._name, {**self._options, **options})

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Refuse: it is bound, not called."""
        raise TypeError(f"use {self._name}.bind(...) to make a node of a call of {self._name}")


class ClassMethodNode(DAGNode):
    """A call of an actor's method, or one of the values that such a call returns.

    Made by ``ActorMethod.bind`` and ``ClassNode.method.bind``.
    """

    __module__ = "skate.dag.class_node"

    def __init__(
        self,
        method_name: str,
        method_args: tuple[Any, ...],
        method_kwargs: dict[str, Any],
        method_options: dict[str, Any],
        other_args_to_resolve: dict[str, Any],
    ) -> None:
        super().__init__(method_args, method_kwargs, method_options, other_args_to_resolve)
        self._method_name = method_name

    @property
    def _actor(self) -> Any:
        """The ClassNode or the handle that it is called on."""
        return self._bound_other_args_to_resolve[PARENT_CLASS_NODE_KEY]

    def _execute_impl(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        others: dict[str, Any],
        input_args: tuple[Any, ...],
        input_kwargs: dict[str, Any],
    ) -> Any:
        if self.is_class_method_output:
            values, index = args
            return values[index]
        method = getattr(others[PARENT_CLASS_NODE_KEY], self._method_name)
        if self._bound_options:
            method = method.options(**self._bound_options)
        return method.remote(*args, **kwargs)

    def get_method_name(self) -> str:
        """Return the method's name."""
        return self._method_name

    @property
    def num_returns(self) -> int:
        """How many values the call returns, each with a node of its own if it is more than one."""
        if self.is_class_method_output:
            return 1
        given = self._bound_options.get("num_returns")
        if given is None and not isinstance(self._actor, ClassNode):
            given = self._actor._info.methods.get(self._method_name, {}).get("num_returns")
        return given if isinstance(given, int) else 1

    @property
    def is_class_method_call(self) -> bool:
        """Whether this is a call, not one of the values of a call."""
        return not self.is_class_method_output

    @property
    def is_class_method_output(self) -> bool:
        """Whether this is one of the values of a call."""
        return bool(self._bound_other_args_to_resolve.get(IS_CLASS_METHOD_OUTPUT_KEY))

    @property
    def class_method_call(self) -> ClassMethodNode | None:
        """The call whose value this is, or None."""
        return self._bound_args[0] if self.is_class_method_output else None

    @property
    def output_idx(self) -> int | None:
        """Which value of the call this is, or None."""
        return self._bound_args[1] if self.is_class_method_output else None

    @property
    def _title(self) -> str:
        actor = self._actor
        class_name = actor._title if isinstance(actor, ClassNode) else actor._info.class_name
        return f"{class_name}.{self._method_name}"


#: Counts the nodes of living actors, so that their order is known.
_bound = itertools.count()


def bind_method(
    handle: Any,
    name: str,
    options: dict[str, Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> ClassMethodNode | tuple[ClassMethodNode, ...]:
    """Return the node of a call of a living actor; a tuple of nodes if the call returns several values."""
    others = {PARENT_CLASS_NODE_KEY: handle, PREV_CLASS_METHOD_CALL_KEY: None, BIND_INDEX_KEY: next(_bound)}
    node = ClassMethodNode(name, args, kwargs, options, others)
    if node.num_returns <= 1:
        return node
    output = {IS_CLASS_METHOD_OUTPUT_KEY: True, PARENT_CLASS_NODE_KEY: handle}
    return tuple(
        ClassMethodNode(f"return_idx_{index}", (node, index), {}, {}, output)
        for index in range(node.num_returns)
    )
