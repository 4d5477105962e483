"""Where users find the classes of graphs, though they are defined below the modules of that name."""

from __future__ import annotations

import importlib
import pickle
import subprocess
import sys

import pytest

from skate import dag
from skate.dag._results import CompiledDAGFuture, CompiledDAGRef

KINDS = [
    dag.DAGNode, dag.ClassNode, dag.ClassMethodNode, dag.FunctionNode, dag.InputNode, dag.InputAttributeNode,
    dag.DAGInputData, dag.MultiOutputNode, CompiledDAGRef, CompiledDAGFuture,
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_class_is_where_it_says(kind: type) -> None:
    assert not any(part.startswith("_") for part in kind.__module__.split("."))
    assert getattr(importlib.import_module(kind.__module__), kind.__name__) is kind
    assert pickle.loads(pickle.dumps(kind)) is kind


AS_RAY = """
import skate.compat
skate.compat.install()
import ray
import sys

@ray.remote
def work(x): return x

node = work.bind(1)
assert "skate.dag" not in sys.modules, "bind needs the nodes alone"
assert type(node).__module__ == "ray.dag.function_node", type(node).__module__
import ray.dag.function_node
assert ray.dag.function_node is sys.modules["skate.dag.function_node"]
assert ray.dag.function_node.FunctionNode is type(node) is ray.dag.FunctionNode
assert ray.dag.DAGNode.__module__ == "ray.dag.dag_node"
"""


BY_HAND = """
from skate.dag import ClassNode, FunctionNode

task, actor = FunctionNode(len, ("abc",), {}, {}), ClassNode(list, (), {}, {})
for node in task, actor:
    try:
        node.execute()
    except RuntimeError as error:
        assert "before init()" in str(error), error
    else:
        raise AssertionError("nothing can run yet")
try:
    task.experimental_compile()
except NotImplementedError as error:
    assert "methods of actors that run already" in str(error), error
else:
    raise AssertionError("there is nothing to compile")
"""


@pytest.mark.parametrize("program", [AS_RAY, BY_HAND], ids=["as ray", "by hand, before the API is loaded"])
def test_in_a_fresh_process(program: str) -> None:
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
