"""Provides graphs of tasks and actor calls, which are described once and run many times; also compiled.

::

    from skate.dag import InputNode

    with InputNode() as number:
        graph = add.bind(square.bind(number), 1)
    skate.get(graph.execute(3))          # tasks, as if called by hand

``graph.experimental_compile()`` is for methods of actors that are called over and over: the actors
are connected with each other once, and each execution costs a fraction of ordinary calls.
"""

from skate.dag.class_node import ClassMethodNode, ClassNode
from skate.dag.constants import (
    BIND_INDEX_KEY,
    COLLECTIVE_OPERATION_KEY,
    DAGNODE_TYPE_KEY,
    IS_CLASS_METHOD_OUTPUT_KEY,
    PARENT_CLASS_NODE_KEY,
    PREV_CLASS_METHOD_CALL_KEY,
)
from skate.dag.context import DAGContext
from skate.dag.dag_node import DAGNode
from skate.dag.function_node import FunctionNode
from skate.dag.input_node import DAGInputData, InputAttributeNode, InputNode
from skate.dag.output_node import MultiOutputNode
from skate.dag.vis_utils import plot

__all__ = [
    "BIND_INDEX_KEY",
    "COLLECTIVE_OPERATION_KEY",
    "ClassMethodNode",
    "ClassNode",
    "DAGContext",
    "DAGInputData",
    "DAGNODE_TYPE_KEY",
    "DAGNode",
    "FunctionNode",
    "IS_CLASS_METHOD_OUTPUT_KEY",
    "InputAttributeNode",
    "InputNode",
    "MultiOutputNode",
    "PARENT_CLASS_NODE_KEY",
    "PREV_CLASS_METHOD_CALL_KEY",
    "plot",
]
