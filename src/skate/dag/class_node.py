"""Exports ClassNode and ClassMethodNode under the names that users import."""

from skate._graph.class_node import ClassMethodNode, ClassNode

__all__ = ["ClassMethodNode", "ClassNode"]
