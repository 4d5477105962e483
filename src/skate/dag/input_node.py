"""Exports InputNode and its parts under the names that users import."""

from skate._graph.input_node import DAGInputData, InputAttributeNode, InputNode

__all__ = ["DAGInputData", "InputAttributeNode", "InputNode"]
