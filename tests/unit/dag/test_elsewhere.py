"""Compiled graphs by those of a cluster: its nodes from a plan, executions, results, the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from skate import exceptions
from skate.dag import DAGNode, InputNode, MultiOutputNode
from skate.dag._elsewhere import GraphElsewhere
from skate.engine.interface import ActorInfo, GraphSettings

from .test_compile import actor, compiled

SETTINGS = GraphSettings(1.0, 1000, False, 2, 2)


class Node:
    """A node of the cluster."""

    def __init__(self, text: str) -> None:
        self.text = text


class Cluster:
    """Makes graphs whose results are texts of what was called; raises what it is given."""

    def __init__(self) -> None:
        self.outputs: list[Node] = []
        self.errors: list[Exception] = []
        self.ended = 0

    def inputs(self, count: int) -> list[Any]:
        return [Node(f"in{place}") for place in range(count)]

    def call(self, actor: ActorInfo, method: str, num_returns: int, args: tuple[Any, ...]) -> list[Any]:
        given = ", ".join(one.text if isinstance(one, Node) else repr(one) for one in args)
        text = f"{actor.class_name}.{method}({given})"
        return (
            [Node(text)] if num_returns == 1 else [Node(f"{text}[{index}]") for index in range(num_returns)]
        )

    def build(self, outputs: Sequence[Any], settings: GraphSettings) -> Cluster:
        assert settings is SETTINGS
        self.outputs = list(outputs)
        return self

    def begin(self, values: Sequence[Any]) -> list[Any]:
        return [f"{node.text} of {list(values)}" for node in self.outputs]

    async def begin_async(self, values: Sequence[Any]) -> list[Any]:
        return self.begin(values)

    def take(self, result: Any, timeout: float | None) -> Any:
        if self.errors:
            raise self.errors.pop()
        return result

    async def take_async(self, result: Any) -> Any:
        return self.take(result, None)

    def end(self) -> None:
        self.ended += 1


def graph(describe: Callable[[Any], DAGNode]) -> tuple[GraphElsewhere, Cluster]:
    cluster = Cluster()
    with InputNode() as inp:
        return GraphElsewhere(cluster, compiled(describe(inp)), SETTINGS), cluster


def test_nodes_come_after_those_they_need() -> None:
    a, b = actor(1), actor(2)

    def describe(inp: Any) -> Any:
        first, second = a.two.bind(inp[0])
        back = b.f.bind(second, 7)
        return MultiOutputNode([a.f.bind(back, inp.x), first])

    made, cluster = graph(describe)
    two = "Actor1.two(in0)"
    assert [node.text for node in cluster.outputs] == [f"Actor1.f(Actor2.f({two}[1], 7), in1)", f"{two}[0]"]
    execution = made.begin(lambda: [3, 4], 1.0)
    assert made.take(execution, 1, None) == f"{two}[0] of [3, 4]"
    assert made.begin(lambda: [5, 6], 1.0) == execution + 1


@pytest.mark.parametrize(
    ("describe", "words"),
    [
        (lambda inp: actor(1).f.bind([inp]), "inside a list"),
        (lambda inp: actor(1).f.bind(x=inp), "keyword arguments"),
        (lambda inp: actor(1).f.bind(), "takes no input"),
        (lambda inp: MultiOutputNode([actor(1).f.bind(inp), inp]), "return an input"),
        (lambda inp: MultiOutputNode([actor(1).f.bind(inp)] * 2), "return a result twice"),
    ],
)
def test_what_the_cluster_does_not_compile(describe: Callable[[Any], DAGNode], words: str) -> None:
    with pytest.raises(NotImplementedError, match=words) as raised:
        graph(describe)
    assert "engine 'ray'" in str(raised.value)


def test_a_dropped_result_is_released_with_the_next_execution() -> None:
    made, _ = graph(lambda inp: actor(1).f.bind(inp))
    made.dropped.append((made.begin(lambda: [1], 1.0), 0))
    kept = made.begin(lambda: [2], 1.0)
    assert list(made._results) == [(kept, 0)]


def test_an_end_is_raised_again_by_later_executions() -> None:
    made, cluster = graph(lambda inp: actor(1).f.bind(inp))
    execution = made.begin(lambda: [1], 1.0)
    own = exceptions.RayTaskError("f", "", exceptions.ActorDiedError("another")).as_instanceof_cause()
    for harmless in (exceptions.RayChannelTimeoutError("slow"), own):
        cluster.errors.append(harmless)
        with pytest.raises(type(harmless)):
            made.take(execution, 0, 1.0)
    execution = made.begin(lambda: [2], 1.0)
    cluster.errors.append(exceptions.ActorDiedError("died"))
    with pytest.raises(exceptions.ActorDiedError):
        made.take(execution, 0, 1.0)
    with pytest.raises(exceptions.ActorDiedError):
        made.begin(lambda: [3], 1.0)


def test_it_ends_once() -> None:
    made, cluster = graph(lambda inp: actor(1).f.bind(inp))
    assert made.end(1.0)
    assert made.end(1.0)
    assert cluster.ended == 1
    with pytest.raises(exceptions.RayChannelError, match="torn down"):
        made.begin(lambda: [1], 1.0)
