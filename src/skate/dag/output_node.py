"""Exports MultiOutputNode under the name that users import."""

from skate._graph.output_node import MultiOutputNode

__all__ = ["MultiOutputNode"]
