"""MultiOutputNode: several results of one graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from skate._graph.node import DAGNode


class MultiOutputNode(DAGNode):
    """Makes a graph return several results: ``execute`` gives a list of refs.

    Args:
        args: the nodes whose results they are.

    Example:
        >>> with InputNode() as inp:
        ...     graph = MultiOutputNode([square.bind(inp), cube.bind(inp)])
        >>> skate.get(graph.execute(3))
        [9, 27]
    """

    __module__ = "skate.dag.output_node"

    def __init__(
        self, args: Sequence[DAGNode] | DAGNode, other_args_to_resolve: dict[str, Any] | None = None
    ) -> None:
        outputs = tuple(args) if isinstance(args, (list, tuple)) else (args,)
        for output in outputs:
            if not isinstance(output, DAGNode):
                raise ValueError(f"MultiOutputNode() takes nodes, made by bind(), got {output!r}")
        super().__init__(outputs, {}, {}, other_args_to_resolve)

    def _execute_impl(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        others: dict[str, Any],
        input_args: tuple[Any, ...],
        input_kwargs: dict[str, Any],
    ) -> list[Any]:
        return list(args)
