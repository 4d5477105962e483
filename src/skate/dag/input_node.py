"""InputNode and its parts, by the names that users import them by."""

from skate._graph.input_node import DAGInputData, InputAttributeNode, InputNode

__all__ = ["DAGInputData", "InputAttributeNode", "InputNode"]
