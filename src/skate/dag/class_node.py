"""ClassNode and ClassMethodNode, by the names that users import them by."""

from skate._graph.class_node import ClassMethodNode, ClassNode

__all__ = ["ClassMethodNode", "ClassNode"]
