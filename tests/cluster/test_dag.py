"""Graphs: described with bind(), run as tasks and actor calls."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import skate
from skate.api import RayContext as Session
from skate.dag import (
    BIND_INDEX_KEY,
    PARENT_CLASS_NODE_KEY,
    ClassMethodNode,
    DAGNode,
    FunctionNode,
    InputNode,
    MultiOutputNode,
    plot,
)

from .waiting import attempt


@skate.remote
def add(a: int, b: int) -> int:
    return a + b


@skate.remote
def square(x: int) -> int:
    return x * x


@skate.remote
def counted(path: Path, *args: Any) -> int:
    return attempt(path)


@skate.remote
def kinds(*args: Any, **kwargs: Any) -> list[Any]:
    return [*args, kwargs]


@skate.remote
class Counter:
    def __init__(self, value: int = 0) -> None:
        self.value = value

    def add(self, n: int) -> int:
        self.value += n
        return self.value

    def get(self) -> int:
        return self.value

    def pair(self, x: int) -> tuple[int, int]:
        return x, x + 1

    @skate.method(num_returns=2)
    def always_two(self, x: int) -> tuple[int, int]:
        return x, -x


class Point(NamedTuple):
    x: Any
    y: Any


def test_tasks(session: Session) -> None:
    with InputNode() as number:
        graph = add.bind(square.bind(number), square.bind(4))
    assert [skate.get(graph.execute(n)) for n in (2, 3)] == [20, 25]


def test_a_node_without_input(session: Session) -> None:
    assert skate.get(add.bind(1, b=add.bind(2, 3)).execute()) == 6


def test_each_node_runs_once_in_an_execute(session: Session, tmp_path: Path) -> None:
    shared = counted.bind(tmp_path / "runs")
    graph = add.bind(shared, add.bind(shared, shared))
    assert skate.get(graph.execute()) == 3
    assert skate.get(graph.execute()) == 6
    assert (tmp_path / "runs").stat().st_size == 2


def test_options_travel_with_nodes(session: Session) -> None:
    named = kinds.options(name="a name", num_returns=2).bind(1)
    assert named.get_options() == {"name": "a name", "num_returns": 2}
    assert skate.get(named.execute()) == [1, {}]


def test_nodes_inside_containers(session: Session) -> None:
    one = square.bind(1)
    graph = kinds.bind([one, {"two": square.bind(2)}], Point(one, "y"), key=(one,))
    (first, mapping), point, rest = skate.get(graph.execute())
    assert skate.get([first, mapping["two"], point.x, rest["key"][0]]) == [1, 4, 1, 1]
    assert type(point) is Point
    assert point.y == "y"


def test_inputs_by_position_and_name(session: Session) -> None:
    with InputNode() as inp:
        graph = kinds.bind(inp[0], inp.x, inp["y"])
    assert skate.get(graph.execute(1, x=2, y=3)) == [1, 2, 3, {}]
    with pytest.raises(ValueError, match="the argument 'y' of execute"):
        graph.execute(1, x=2)


def test_parts_of_a_single_input(session: Session) -> None:
    with InputNode() as inp:
        items, attributes = kinds.bind(inp[1], inp["a"]), kinds.bind(inp.x, inp.y)
    assert skate.get(items.execute({1: "one", "a": "A"})) == ["one", "A", {}]
    assert skate.get(attributes.execute(Point(1, 2))) == [1, 2, {}]
    assert skate.get(attributes.execute(skate.put(Point(1, 2)))) == [1, 2, {}]


def test_several_arguments_as_one_input(session: Session) -> None:
    with InputNode() as inp:
        graph = kinds.bind(inp)
    data, _ = skate.get(graph.execute(1, 2, x=3))
    assert (data[0], data[1], data["x"]) == (1, 2, 3)
    with pytest.raises(ValueError, match="position or name"):
        data[1.5]


def test_multiple_outputs(session: Session) -> None:
    counter = Counter.remote(10)
    with InputNode() as inp:
        graph = MultiOutputNode([square.bind(inp), counter.add.bind(inp)])
    assert skate.get(graph.execute(3)) == [9, 13]
    with pytest.raises(ValueError, match="takes nodes"):
        MultiOutputNode([1])  # type: ignore[list-item]


def test_a_bound_class_is_an_actor_of_each_execute(session: Session) -> None:
    counter = Counter.bind(10)
    counter.add.bind(1)
    counter.add.bind(2)
    graph = counter.get.bind()  # after the two before it
    assert [skate.get(graph.execute()) for _ in range(2)] == [13, 13]
    handle = counter.execute()
    assert skate.get(handle.get.remote()) == 10


def test_a_bound_class_takes_nodes(session: Session) -> None:
    counter = Counter.bind(square.bind(3))
    assert skate.get(add.bind(counter.add.bind(1), 100).execute()) == 110
    with pytest.raises(AttributeError, match="no method 'substract'"):
        counter.substract.bind(1)
    with pytest.raises(TypeError, match=r"add\.bind"):
        counter.add(1)


def test_a_living_actor_keeps_its_state(session: Session) -> None:
    counter = Counter.remote()
    graph = counter.add.bind(2)
    assert [skate.get(graph.execute()) for _ in range(3)] == [2, 4, 6]
    assert skate.get(counter.get.remote()) == 6


def test_several_returns_of_a_method(session: Session) -> None:
    counter = Counter.remote()
    first, second = counter.pair.options(num_returns=2).bind(1)
    assert skate.get([first.execute(), second.execute()]) == [1, 2]
    plus, minus = counter.always_two.bind(5)
    assert skate.get(add.bind(plus, minus).execute()) == 0
    assert (plus.output_idx, minus.output_idx, plus.num_returns) == (0, 1, 1)
    assert plus.class_method_call.num_returns == 2
    assert plus.class_method_call.get_method_name() == "always_two"


def test_a_chain_as_long_as_one_likes(session: Session) -> None:
    with InputNode() as inp:
        graph: DAGNode = add.bind(inp, 0)
    for _ in range(1500):
        graph = add.bind(graph, 1)
    assert skate.get(graph.execute(5)) == 1505


def test_results_of_the_last_execute(session: Session) -> None:
    inner = square.bind(3)
    graph = add.bind(inner, 1)
    graph.execute()
    assert asyncio.run(graph.get_object_refs_from_last_execute()) == {}
    graph.execute(_ray_cache_refs=True)
    refs = asyncio.run(graph.get_object_refs_from_last_execute())
    assert skate.get(refs[inner.get_stable_uuid()]) == 9
    refs.clear()
    graph.clear_cache()


def test_walking(session: Session) -> None:
    inner = square.bind(3)
    graph = add.bind(inner, b=inner)
    seen: list[DAGNode] = []
    graph.traverse_and_apply(seen.append)
    assert seen == [inner, graph]

    def value(node: DAGNode) -> Any:
        assert isinstance(node, FunctionNode)
        return node._body(*node.get_args(), **node.get_kwargs())

    assert graph.apply_recursive(value) == 18
    assert graph.apply_functional([1, {"a": 2}], lambda item: item == 2, lambda item: 20) == [1, {"a": 20}]
    assert graph.get_kwargs() == {"b": inner}


def test_a_rewritten_graph_runs(session: Session) -> None:
    """``apply_recursive`` gives copies: new graphs are made of them, and the old one stays as it is."""
    graph = add.bind(square.bind(3), 1)

    def rewrite(node: DAGNode) -> DAGNode:
        return square.bind(5) if node.get_args() == (3,) else node

    rewritten = graph.apply_recursive(rewrite)
    assert skate.get([rewritten.execute(), graph.execute()]) == [26, 10]


def test_nodes_of_living_actors_know_them(session: Session) -> None:
    counter = Counter.remote()
    first, second = counter.add.bind(1), counter.add.bind(1)
    assert isinstance(first, ClassMethodNode)
    others = [node.get_other_args_to_resolve() for node in (first, second)]
    assert others[0][PARENT_CLASS_NODE_KEY] == counter
    assert others[0][BIND_INDEX_KEY] < others[1][BIND_INDEX_KEY]


def test_a_node_is_no_argument_of_remote(session: Session) -> None:
    with pytest.raises((TypeError, ValueError), match="node of a graph"):
        kinds.remote(square.bind(1))


def test_wrong_uses(session: Session) -> None:
    with InputNode() as inp:
        pass
    for use in (lambda: InputNode(1), lambda: inp[1.5], lambda: square.options(num_cpu=1).bind(1)):  # type: ignore[index]
        with pytest.raises(ValueError):
            _call(use)
    with pytest.raises(ValueError, match="nccl"):
        square.bind(1).with_tensor_transport("nccl")
    node = square.bind(1)
    assert node.with_tensor_transport() is node
    assert node.type_hint["transport"] == "auto"


def _call(use: Callable[[], object]) -> None:
    use()


def test_drawing(session: Session, tmp_path: Path) -> None:
    with InputNode() as inp:
        graph = add.bind(square.bind(inp[0]), inp.x)
    source = plot(graph, str(tmp_path / "graph.dot"))
    assert (tmp_path / "graph.dot").read_text() == source == plot(graph)
    for text in ('label="add"', 'label="square"', "input[0]", "input.x", "->"):
        assert text in source
    assert os.listdir(tmp_path) == ["graph.dot"]
