"""Draws graphs in the DOT language of Graphviz."""

from __future__ import annotations

import os
import shutil
import subprocess

from skate._graph.class_node import ClassMethodNode, ClassNode
from skate._graph.constants import PARENT_CLASS_NODE_KEY, PREV_CLASS_METHOD_CALL_KEY
from skate._graph.input_node import InputAttributeNode, InputNode
from skate._graph.node import DAGNode, nodes_in
from skate._graph.output_node import MultiOutputNode


def plot(dag: DAGNode, to_file: str | None = None) -> str:
    """Draw a graph.

    Args:
        dag: its last node.
        to_file: the file to write; its ending is the format (".dot" needs nothing, ".png", ".svg" and
            ".pdf" need Graphviz's ``dot``). None: write nothing.

    Returns:
        The drawing's source in the DOT language.

    Raises:
        RuntimeError: there is no ``dot``.

    Example:
        >>> plot(graph, "graph.dot")
    """
    if to_file is None:
        return to_dot(dag)
    base, ending = os.path.splitext(to_file)
    return draw(dag, base, ending[1:] or "dot", view=False, details=False)


def to_dot(root: DAGNode, *, details: bool = False) -> str:
    """Return a graph in the DOT language."""
    order = root._in_order()
    names = {node._stable_uuid: f"n{index}" for index, node in enumerate(order)}
    lines = ["digraph {", "  rankdir=LR;"]
    for node in order:
        shape = "ellipse" if isinstance(node, (InputNode, InputAttributeNode, MultiOutputNode)) else "box"
        title = node._title.replace("\\", "\\\\").replace('"', '\\"')
        lines.append(f'  {names[node._stable_uuid]} [label="{title}", shape={shape}];')
    for node in order:
        for child, dashed in _edges(node):
            text = [] if not dashed else ["style=dashed"]
            if details and not dashed:
                text.append(f'label="{_way(child, node)}"')
            attributes = f" [{', '.join(text)}]" if text else ""
            lines.append(f"  {names[child._stable_uuid]} -> {names[node._stable_uuid]}{attributes};")
    return "\n".join([*lines, "}"]) + "\n"


def _edges(node: DAGNode) -> list[tuple[DAGNode, bool]]:
    """Return the nodes that a node needs, each once, and whether the edge is dashed: an order or an actor."""
    found: dict[str, tuple[DAGNode, bool]] = {}
    for child in nodes_in([node._bound_args, node._bound_kwargs]):
        found[child._stable_uuid] = (child, False)
    for key, value in node._bound_other_args_to_resolve.items():
        for child in nodes_in(value):
            dashed = key in (PARENT_CLASS_NODE_KEY, PREV_CLASS_METHOD_CALL_KEY)
            found.setdefault(child._stable_uuid, (child, dashed))
    return list(found.values())


def _way(maker: DAGNode, taker: DAGNode) -> str:
    """Return the way of a value in a compiled graph."""
    both = [
        node._actor if isinstance(node, ClassMethodNode) and not isinstance(node._actor, ClassNode) else None
        for node in (maker, taker)
    ]
    return "in the process" if both[0] == both[1] else "socket, shared memory"


def to_text(root: DAGNode) -> str:
    """Return a graph as text, with a line for each node."""
    order = root._in_order()
    numbers = {node._stable_uuid: index for index, node in enumerate(order)}
    lines = []
    for node in order:
        needed = ", ".join(str(numbers[child._stable_uuid]) for child, dashed in _edges(node) if not dashed)
        lines.append(f"{numbers[node._stable_uuid]:>4}  {node._title}{f' <- {needed}' if needed else ''}")
    return "\n".join(lines) + "\n"


def draw(root: DAGNode, filename: str, format: str, *, view: bool, details: bool) -> str:
    """Write ``filename.format`` (nothing for "ascii") and return the drawing's source."""
    if format == "ascii":
        text = to_text(root)
        if view:
            print(text, end="")
        return text
    source = to_dot(root, details=details)
    path = f"{filename}.{format}"
    if format in ("dot", "gv"):
        with open(path, "w") as file:
            file.write(source)
    else:
        program = shutil.which("dot")
        if program is None:
            raise RuntimeError(
                f"drawing {path} needs the program `dot` of Graphviz (package graphviz), which is not "
                'installed; format="dot" and "ascii" need nothing'
            )
        subprocess.run([program, f"-T{format}", "-o", path], input=source, text=True, check=True)
    if view:
        import webbrowser

        webbrowser.open(f"file://{os.path.abspath(path)}")
    return source
