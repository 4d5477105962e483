"""MultiOutputNode, by the name that users import it by."""

from skate._graph.output_node import MultiOutputNode

__all__ = ["MultiOutputNode"]
