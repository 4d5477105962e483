"""From nodes to plans; and plans run by the actors' tables, with messages in any order."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skate._graph.node import replace
from skate.actor import ActorHandle
from skate.dag import DAGNode, InputNode, MultiOutputNode
from skate.dag._compile import plan_of
from skate.dag._executions import Executions
from skate.dag._plan import Plan, Slot, Step
from skate.dag._schedule import Schedule
from skate.engine.interface import ActorInfo

from ..effort import effort


def actor(number: int) -> Any:
    methods: dict[str, dict[str, int | str]] = {
        "f": {},
        "two": {"num_returns": 2},
        "many": {"is_generator": 1},
    }
    return ActorHandle(ActorInfo(bytes([number]) * 16, f"Actor{number}", methods, 0, -1, False, None))


def compiled(root: DAGNode) -> Plan:
    return plan_of(root, b"graph", 1000)


def test_a_chain() -> None:
    a, b = actor(1), actor(2)
    with InputNode() as inp:
        plan = compiled(b.f.bind(a.f.bind(inp), "constant"))
    (first,), (second,) = (part.steps for part in plan.parts)
    source = plan.sources[0]
    assert source.receivers == (1,)
    assert first == Step("f", (Slot(source.number),), {}, (source.number,), first.makes, ((2,),), frozenset())
    assert second.args == (Slot(first.makes[0]), "constant")
    assert second.receivers == ((0,),)
    assert plan.outputs == second.makes
    assert [(part.member, part.dials, part.accepts) for part in plan.parts] == [(1, (2,), 1), (2, (), 2)]
    assert (plan.takes, plan.is_list) == ("one", False)


def test_a_chain_of_thousands() -> None:
    a = actor(1)
    with InputNode() as inp:
        node: Any = inp
        for _ in range(10_000):
            node, _ = a.two.bind(node)
    (part,) = compiled(node).parts
    assert len(part.steps) == 10_000
    assert all(
        step.needs[0] == before.makes[0] for before, step in zip(part.steps, part.steps[1:], strict=False)
    )


def test_values_for_the_same_actor_stay_there() -> None:
    a = actor(1)
    with InputNode() as inp:
        plan = compiled(a.f.bind(a.f.bind(inp)))
    first, second = plan.parts[0].steps
    assert first.receivers == ((),)
    assert first.keeps == frozenset(first.makes)
    assert second.receivers == ((0,),)
    assert len(plan.actors) == 1


def test_steps_follow_the_order_of_binding() -> None:
    a = actor(1)
    with InputNode() as inp:
        nodes = [a.f.bind(inp, n) for n in range(4)]
    plan = compiled(MultiOutputNode([nodes[2], nodes[0], nodes[3], nodes[1]]))
    assert [step.args[1] for step in plan.parts[0].steps] == [0, 1, 2, 3]
    assert plan.is_list


def test_a_rewritten_graph_has_an_order_all_the_same() -> None:
    """A node may be bound before one that takes its place among its arguments."""
    a, b = actor(1), actor(2)
    with InputNode() as inp:
        graph = b.f.bind(a.f.bind(inp, 0), 1)
        late = a.f.bind(inp, 2)
    rewritten = graph.apply_recursive(lambda node: late if node.get_args()[-1:] == (0,) else node)
    plan = compiled(rewritten)
    assert [step.args[1] for part in plan.parts for step in part.steps] in ([2, 1], [1, 2])
    assert run(plan, 2, lambda count: 0) == run(plan, 2, lambda count: count - 1)


def test_several_values_of_a_call() -> None:
    a, b = actor(1), actor(2)
    with InputNode() as inp:
        first, second = a.two.bind(inp)
        plan = compiled(MultiOutputNode([b.f.bind(second), first]))
    made = plan.parts[0].steps[0]
    assert made.receivers == ((0,), (2,))
    assert plan.outputs[1] == made.makes[0]


def test_what_takes_no_input_is_begun_by_the_driver() -> None:
    plan = compiled(actor(1).f.bind(5))
    assert plan.takes == "nothing"
    assert [(source.node, source.receivers) for source in plan.sources] == [(None, (1,))]


def test_only_parts_of_the_input_that_are_used_are_sent() -> None:
    a, b = actor(1), actor(2)
    with InputNode() as inp:
        plan = compiled(MultiOutputNode([a.f.bind(inp[0]), b.f.bind(inp.x, inp[0]), inp.x]))
    assert sorted((str(source.node.key), source.receivers, source.kept) for source in plan.sources) == [
        ("0", (1, 2), False),
        ("x", (2,), True),
    ]
    assert plan.takes == "parts"


@pytest.mark.parametrize("method", ["many", "f"])
def test_what_cannot_be_compiled(method: str) -> None:
    bound = getattr(actor(1), method)
    node = bound.bind(1) if method == "many" else bound.options(num_returns=0).bind(1)
    with pytest.raises(ValueError, match="generator|num_returns"):
        compiled(node)


# ---------------------------------------------------------------------- plans run by the tables


def run(plan: Plan, executions: int, choose: Any) -> list[list[Any]]:
    """Run a plan: messages arrive in the order in which ``choose(count)`` picks them. Return the outputs."""
    schedules = {
        part.member: Schedule([frozenset(s.needs) for s in part.steps], [s.keeps for s in part.steps])
        for part in plan.parts
    }
    steps = {part.member: part.steps for part in plan.parts}
    driver = Executions(plan.outputs, executions, executions)
    messages: list[tuple[int, int, int, Any]] = []
    for _ in range(executions):
        execution = driver.submit()
        for source in plan.sources:
            value = ("input", execution)
            messages += [(member, execution, source.number, value) for member in source.receivers]
            if source.kept:
                messages.append((0, execution, source.number, value))
    while messages:
        member, execution, number, value = messages.pop(choose(len(messages)))
        if member == 0:
            driver.arrived(execution, number, value)
            continue
        schedules[member].arrived(execution, number, value)
        while (turn := schedules[member].turn()) is not None:
            step = steps[member][turn.step]
            args = [_filled(arg, turn.values) for arg in step.args]
            made = {n: (member, step.method, turn.execution, n, *args) for n in step.makes}
            for n, receivers in zip(step.makes, step.receivers, strict=True):
                messages += [(receiver, turn.execution, n, made[n]) for receiver in receivers]
            schedules[member].done(turn, {n: made[n] for n in step.keeps})
    assert all(schedule.waiting == 0 for schedule in schedules.values())
    assert all(schedule.execution == executions for schedule in schedules.values())
    return [
        [driver.take(execution, place) for place in range(len(plan.outputs))]
        for execution in range(executions)
    ]


def _filled(arg: Any, values: dict[int, Any]) -> Any:
    return replace(arg, lambda item: type(item) is Slot, lambda slot: values[slot.number])


@st.composite
def graphs(draw: st.DrawFn) -> DAGNode:
    """A graph of some calls on some actors, each of which takes any of what was made before."""
    actors = [actor(n + 1) for n in range(draw(st.integers(1, 4)))]
    inp = InputNode()
    values: list[DAGNode] = [inp]
    calls: list[DAGNode] = []
    for _ in range(draw(st.integers(1, 9))):
        handle = draw(st.sampled_from(actors))
        given = draw(st.lists(st.sampled_from(values), max_size=3))
        args: list[Any] = [given] if draw(st.booleans()) else given
        made = (handle.two if draw(st.booleans()) else handle.f).bind(*args)
        made = list(made) if isinstance(made, tuple) else [made]
        values += made
        calls += made
    outputs = draw(st.lists(st.sampled_from([*calls, inp]), max_size=3))
    return MultiOutputNode([*outputs, calls[-1]])


@effort(150)
@given(graphs(), st.integers(1, 3), st.randoms(use_true_random=False))
def test_no_graph_locks_up_and_timing_changes_no_result(root: DAGNode, executions: int, random: Any) -> None:
    plan = compiled(root)
    expected = run(plan, executions, lambda count: 0)
    assert not any(isinstance(value, type(None)) for values in expected for value in values)
    assert run(plan, executions, lambda count: random.randrange(count)) == expected
    assert run(plan, executions, lambda count: count - 1) == expected
