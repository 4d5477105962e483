"""FunctionNode: a task of a graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from skate._graph import hooks
from skate._graph.node import DAGNode


class FunctionNode(DAGNode):
    """A call of a remote function. Made by ``RemoteFunction.bind``."""

    __module__ = "skate.dag.function_node"

    def __init__(
        self,
        func_body: Callable[..., Any],
        func_args: tuple[Any, ...],
        func_kwargs: dict[str, Any],
        func_options: dict[str, Any],
        other_args_to_resolve: dict[str, Any] | None = None,
        _remote: Any = None,
    ) -> None:
        super().__init__(func_args, func_kwargs, func_options, other_args_to_resolve)
        self._body = func_body
        # The one that was bound, so that the function is sent once for all its nodes.
        self._remote = _remote
        if _remote is None and hooks.make_remote is not None:
            self._remote = hooks.make_remote(func_body, self._bound_options)

    def _execute_impl(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        others: dict[str, Any],
        input_args: tuple[Any, ...],
        input_kwargs: dict[str, Any],
    ) -> Any:
        if self._remote is None:  # it was made by hand, before the API was loaded
            if hooks.make_remote is None:
                raise RuntimeError(f"{self!r} cannot be executed before init()")
            self._remote = hooks.make_remote(self._body, self._bound_options)
        return self._remote.remote(*args, **kwargs)

    @property
    def _title(self) -> str:
        return getattr(self._body, "__qualname__", repr(self._body))
