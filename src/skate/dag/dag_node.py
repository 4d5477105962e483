"""Exports DAGNode under the name that users import."""

from skate._graph.node import DAGNode

__all__ = ["DAGNode"]
