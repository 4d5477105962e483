"""FunctionNode, by the name that users import it by."""

from skate._graph.function_node import FunctionNode

__all__ = ["FunctionNode"]
