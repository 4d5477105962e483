"""DAGNode, by the name that users import it by."""

from skate._graph.node import DAGNode

__all__ = ["DAGNode"]
