"""Exports FunctionNode under the name that users import."""

from skate._graph.function_node import FunctionNode

__all__ = ["FunctionNode"]
