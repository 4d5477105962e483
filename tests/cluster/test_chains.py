"""Calls that depend on each other by the ten thousand: nothing recurses along what a program links up.

``SKATE_TEST_CHAIN=100000`` makes the chains longer.
"""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skate
from skate._worker.process import current
from skate._worker.reporting.waits import MAX_CALLS
from skate.dag import ClassMethodNode, InputNode, vis_utils
from skate.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    DeadlockError,
    ObjectLostError,
    TaskCancelledError,
)
from skate.util.state import StateApiClient, list_tasks, why
from skate.util.state.common import SummaryApiOptions, SummaryResource

from .losing import lose
from .waiting import AGES, wait_for

#: Links of a chain: many more than the interpreter allows calls within calls.
LONG = int(os.environ.get("SKATE_TEST_CHAIN", "10000"))


@pytest.fixture(params=["processes", "inline"])
def either(request: pytest.FixtureRequest, leak_check: None) -> Iterator[str]:
    mode: str = request.param
    skate.init(num_cpus=2, mode="inline" if mode == "inline" else None)
    yield mode


@pytest.fixture
def session(leak_check: None) -> Iterator[None]:
    skate.init(num_cpus=2)
    yield


@skate.remote
class Gate:
    """Opens when it is told to."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()

    async def open(self) -> None:
        self.opened.set()

    async def passed(self, value: Any = 0) -> Any:
        await self.opened.wait()
        return value

    async def refused(self) -> None:
        await self.opened.wait()
        raise ValueError("the first one failed")


@skate.remote
def add(value: Any) -> Any:
    return value + 1


@skate.remote
def count_to(value: int) -> Iterator[int]:
    yield from range(value)


@skate.remote
class Adder:
    def add(self, value: Any) -> Any:
        return value + 1


@skate.remote
class AsyncAdder:
    async def add(self, value: Any) -> Any:
        return value + 1


def linked(first: Any, step: Callable[[Any], Any], length: int = LONG) -> Any:
    for _ in range(length):
        first = step(first)
    return first


def through_one_actor() -> Callable[[Any], Any]:
    return Adder.remote().add.remote


def through_two_actors() -> Callable[[Any], Any]:
    actors = [Adder.remote(), Adder.remote()]

    def step(value: Any) -> Any:
        actors.reverse()
        return actors[0].add.remote(value)

    return step


def through_an_async_actor() -> Callable[[Any], Any]:
    return AsyncAdder.remote().add.remote


def through_tasks() -> Callable[[Any], Any]:
    return add.remote


WAYS = [through_tasks, through_one_actor, through_two_actors, through_an_async_actor]


@pytest.mark.parametrize("way", WAYS)
def test_the_first_of_a_chain_fails(either: str, way: Callable[[], Callable[[Any], Any]]) -> None:
    gate = Gate.remote()
    last = linked(gate.refused.remote(), way())
    skate.get(gate.open.remote())
    with pytest.raises(ValueError, match="the first one failed"):
        skate.get(last)


@pytest.mark.parametrize("way", WAYS)
def test_the_first_of_a_chain_is_cancelled(either: str, way: Callable[[], Callable[[Any], Any]]) -> None:
    gate = Gate.remote()
    first = gate.refused.remote()
    last = linked(first, way())
    skate.cancel(first)
    with pytest.raises(TaskCancelledError):
        skate.get(last)


@pytest.mark.parametrize("way", WAYS)
def test_a_chain_is_cancelled_link_by_link(either: str, way: Callable[[], Callable[[Any], Any]]) -> None:
    gate, step = Gate.remote(), way()
    refs = [gate.passed.remote()]
    for _ in range(LONG):
        refs.append(step(refs[-1]))
    for ref in reversed(refs):
        skate.cancel(ref)
    _, rest = skate.wait(refs, num_returns=len(refs))
    assert not rest
    for ref in (refs[0], refs[1], refs[-1]):
        with pytest.raises(TaskCancelledError):
            skate.get(ref)


@pytest.mark.parametrize("way", WAYS)
def test_the_actor_of_the_first_is_killed(either: str, way: Callable[[], Callable[[Any], Any]]) -> None:
    gate = Gate.remote()
    last = linked(gate.passed.remote(), way())
    skate.kill(gate)
    with pytest.raises((ActorDiedError, ActorUnavailableError)):
        skate.get(last)


def test_the_actor_of_a_whole_chain_is_killed(either: str) -> None:
    gate, actor = Gate.remote(), Adder.remote()
    last = linked(gate.passed.remote(), actor.add.remote, 1000)
    skate.kill(actor)
    with pytest.raises(ActorDiedError):
        skate.get(last)
    if either == "processes":  # each call is over once
        found = wait_for(
            lambda: list_tasks(filters=[("name", "=", "Adder.add"), ("state", "=", "FAILED")], limit=5000),
            "the failed calls",
        )
        assert len(found) == 1000
        assert len({one["task_id"] for one in found}) == 1000
    skate.kill(gate)


def test_the_constructor_of_the_first_raises(either: str) -> None:
    @skate.remote
    class Broken:
        def __init__(self) -> None:
            raise ValueError("not today")

        def first(self) -> int:
            return 1

    last = linked(Broken.remote().first.remote(), add.remote)
    with pytest.raises(ActorDiedError, match="not today"):
        skate.get(last)


def test_actors_are_made_of_what_fails(either: str) -> None:
    """Each is made of what the one before it returned."""

    @skate.remote(num_cpus=0)
    class Link:
        def __init__(self, value: int) -> None:
            self.value = value

        def next(self) -> int:
            return self.value + 1

    gate = Gate.remote()
    last = gate.refused.remote()
    for _ in range(6):
        last = Link.remote(last).next.remote()
    skate.get(gate.open.remote())
    last = linked(last, add.remote)
    with pytest.raises(ActorDiedError, match="the first one failed"):
        skate.get(last)


def test_a_chain_that_goes_right(either: str) -> None:
    gate = Gate.remote()
    last = linked(gate.passed.remote(5), add.remote, 2000)
    skate.get(gate.open.remote())
    assert skate.get(last) == 2005


def test_a_chain_of_generators_fails(either: str) -> None:
    gate = Gate.remote()

    def step(ref: Any) -> Any:
        return count_to.options(num_returns="dynamic").remote(ref)

    last = linked(gate.refused.remote(), step)
    items = count_to.remote(last)
    skate.get(gate.open.remote())
    with pytest.raises(ValueError, match="the first one failed"):
        skate.get(next(items))


def test_whoever_waits_for_any_link_is_told(either: str) -> None:
    gate = Gate.remote()
    refs = [gate.refused.remote()]
    for _ in range(LONG):
        refs.append(add.remote(refs[-1]))
    future = refs[-1].future()
    skate.get(gate.open.remote())
    assert isinstance(future.exception(), ValueError)
    ready, rest = skate.wait(refs, num_returns=len(refs))
    assert (len(ready), rest) == (LONG + 1, [])

    async def gather() -> list[Any]:
        return await asyncio.gather(*refs, return_exceptions=True)

    assert all(isinstance(error, ValueError) for error in asyncio.run(gather()))


@skate.remote
def own_a_chain(length: int, end: str) -> str:
    """A worker's own chain."""
    gate = Gate.options(num_cpus=0).remote()
    first = gate.refused.remote()
    last = linked(first, add.remote, length)
    if end == "fail":
        skate.get(gate.open.remote())
    elif end == "cancel":
        skate.cancel(first)
    else:
        skate.kill(gate)
    try:
        skate.get(last)
    except Exception as error:
        return type(error).__name__
    return "no error"


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        ("fail", "RayTaskError(ValueError)"),
        ("cancel", "RayTaskError(TaskCancelledError)"),
        ("kill", "ActorDiedError"),
    ],
)
def test_a_worker_owns_the_chain(either: str, end: str, expected: str) -> None:
    assert skate.get(own_a_chain.remote(LONG, end)) == expected


def test_an_actor_ends_that_owns_a_chain(either: str) -> None:
    """In one process, too, its calls end with it."""

    @skate.remote
    class Owner:
        def begin(self, gate: Any) -> list[Any]:
            return [linked(gate.passed.remote(), add.remote)]

    gate, owner = Gate.remote(), Owner.remote()
    (last,) = skate.get(owner.begin.remote(gate))
    skate.kill(owner)
    with pytest.raises(ObjectLostError):
        skate.get(last)


def test_a_call_that_was_cancelled_takes_its_children_with_it(either: str) -> None:
    @skate.remote
    def parent(gate: Any, box: list[Any]) -> Any:
        last = linked(gate.passed.remote(), add.remote)
        skate.get(box[0].keep.remote([last]))
        return skate.get(last)

    @skate.remote(num_cpus=0)
    class Box:
        def __init__(self) -> None:
            self.kept: list[Any] = []

        def keep(self, refs: list[Any]) -> None:
            self.kept = refs

        def kept_refs(self) -> list[Any]:
            return self.kept

    gate, box = Gate.options(num_cpus=0).remote(), Box.remote()
    ref = parent.remote(gate, [box])
    (last,) = wait_for(lambda: skate.get(box.kept_refs.remote()), "the chain")
    skate.cancel(ref)
    with pytest.raises(TaskCancelledError):
        skate.get(ref)
    with pytest.raises(TaskCancelledError):
        skate.get(last)


def test_the_first_object_is_lost(session: None) -> None:
    """It was put(), so that it cannot be made again: all that depends on it hears so, of the same loss."""
    gate = Gate.remote()
    large = skate.put(np.zeros(1_000_000))

    @skate.remote
    def add_large(value: Any, array: Any) -> Any:
        return value + len(array)

    last = linked(add_large.remote(gate.passed.remote(), large), add.remote)
    lose(large)
    skate.get(gate.open.remote())
    with pytest.raises(ObjectLostError) as caught:
        skate.get(last)
    assert len(str(caught.value)) < 2000


def test_a_long_chain_is_made_again_and_fails(session: None, tmp_path: Path) -> None:
    """What was lost is made again from its first link on, which fails now: one error, not one in another."""
    length = 200

    @skate.remote
    def first(path: str) -> Any:
        if os.path.exists(path):
            os._exit(3)
        return np.zeros(30_000)

    @skate.remote
    def grow(array: Any) -> Any:
        return array + 1

    last = linked(first.options(max_retries=1).remote(str(tmp_path / "once")), grow.remote, length)
    assert skate.get(last)[0] == length
    (tmp_path / "once").touch()
    gc.collect()
    lose(last)
    with pytest.raises(ObjectLostError) as caught:
        skate.get(last)
    assert len(str(caught.value)) < 3000


def test_refs_inside_refs_are_freed(either: str) -> None:
    core = current.require_core("look at its table")
    last = linked(skate.put(0), lambda ref: skate.put([ref]))
    assert len(core.refs.entries) > LONG
    del last
    with core.context.lock:
        core.garbage.drain()
    assert len(core.refs.entries) < 10


def test_refs_inside_refs_of_a_worker_are_freed(session: None) -> None:
    @skate.remote
    class Owner:
        def begin(self) -> list[Any]:
            return [linked(skate.put(0), lambda ref: skate.put([ref]))]

        def left(self) -> int:
            core = current.require_core("look at its table")
            with core.context.lock:
                core.garbage.drain()
                return len(core.refs.entries)

    owner = Owner.remote()
    last = skate.get(owner.begin.remote())
    assert skate.get(owner.left.remote()) > LONG
    del last
    wait_for(lambda: skate.get(owner.left.remote()) < 10, "the chain to be freed")


def test_a_chain_is_walked_from_process_to_process(session: None) -> None:
    """Each ref lies in the value of one that the other actor owns."""

    @skate.remote
    class Owner:
        def wrap(self, inner: list[Any]) -> list[Any]:
            return [skate.put(inner)]

    owners = [Owner.remote(), Owner.remote()]
    inner: list[Any] = [0]
    for index in range(300):
        inner = skate.get(owners[index % 2].wrap.remote(inner))
    depth = 0
    while inner != [0]:
        inner = skate.get(inner[0])
        depth += 1
    assert depth == 300


def test_many_refs_in_one_result(either: str) -> None:
    @skate.remote
    def many(count: int) -> list[Any]:
        return [skate.put(index) for index in range(count)]

    refs = skate.get(many.remote(LONG))
    assert skate.get(refs[-1]) == LONG - 1


def test_calls_that_are_dropped_unread(either: str) -> None:
    """Nobody waits for any link, and the table is empty in the end."""
    gate = Gate.remote()
    last = linked(gate.refused.remote(), add.remote)
    del last
    skate.get(gate.open.remote())
    core = current.require_core("look at its table")

    def left() -> int:
        with core.context.lock:
            core.garbage.drain()
            return len(core.refs.entries)

    wait_for(lambda: left() < 10, "the chain to end")


def test_a_session_ends_with_a_chain_under_way(either: str) -> None:
    last = linked(Gate.remote().passed.remote(), add.remote)
    skate.shutdown()
    del last


def test_a_worker_waits_for_a_chain_while_circles_are_looked_for(session: None) -> None:
    """The search looks at every call of the chain, and must be through soon to find the circle beside it."""

    @skate.remote(num_cpus=0)
    class Waiter:
        def wait(self, refs: list[Any]) -> Any:
            return skate.get(refs[0])

        def wait_for(self, other: Any) -> Any:
            return skate.get(other.answer.remote())

        def answer(self) -> int:
            return 1

        def ask(self, other: Any, me: Any) -> Any:
            return skate.get(other.wait_for.remote(me))

    gate = Gate.options(num_cpus=0).remote()
    last = linked(gate.passed.remote(), add.remote)
    waits = Waiter.remote().wait.remote([last])
    one, other = Waiter.remote(), Waiter.remote()
    with pytest.raises(DeadlockError):
        skate.get(one.ask.remote(other, one))
    skate.kill(gate)
    with pytest.raises(ActorDiedError):
        skate.get(waits)


def test_why_a_chain_is_not_there(session: None) -> None:
    """More calls are under way than are told of: what somebody waits for is, and where chains begin and end."""
    gate = Gate.options(num_cpus=0).remote()
    first = gate.passed.remote()
    refs = [first]
    for _ in range(MAX_CALLS + 2000):
        refs.append(add.remote(refs[-1]))
    wait_for(lambda: "it waits for more than is shown here" in why(refs[-1]), "an answer in time")
    wait_for(lambda: why(refs[1]).startswith("add was called"), "an answer in time")
    middle = refs[MAX_CALLS // 2 + 1000]
    wait_for(lambda: "2001 more are under way" in why(middle), "an answer in time")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(skate.wait, [middle])
        wait_for(lambda: why(middle).startswith("add was called"), "the wait to be told of")
        skate.kill(gate)
        waiting.result()


@skate.remote
def go_on(left: int, found: Any) -> None:
    """Calls itself anew, as long loops do."""
    if left:
        go_on.remote(left - 1, found)
    else:
        found.open.remote()


def test_a_task_that_calls_itself_anew_is_told_of(session: None) -> None:
    gate = Gate.options(num_cpus=0).remote()
    done = gate.passed.remote()
    go_on.remote(500, gate)
    skate.get(done)
    tree = StateApiClient().summary(SummaryResource.TASKS, SummaryApiOptions(summary_by="lineage"), True)
    (top,) = [one for one in tree["cluster"]["summary"] if one["name"] == "go_on"]
    assert sum(top["state_counts"].values()) == 502  # the last one opens the gate


def test_causes_by_the_thousand(either: str) -> None:
    @skate.remote
    def fail(length: int) -> None:
        error: Exception | None = None
        for number in range(length):
            following = ValueError(number)
            following.__cause__, error = error, following
        assert error is not None
        raise error

    with pytest.raises(ValueError, match="4999"):
        skate.get(fail.remote(5000))


# ---------------------------------------------------------------------- graphs


def test_a_bound_graph_fails_at_its_first_node(either: str) -> None:
    gate = Gate.remote()
    node = linked(gate.refused.bind(), add.bind)
    assert vis_utils.plot(node).count("->") == LONG
    last = node.execute()
    skate.get(gate.open.remote())
    with pytest.raises(ValueError, match="the first one failed"):
        skate.get(last)


def test_methods_are_bound_by_the_thousand(either: str) -> None:
    node = Adder.bind()
    last: Any = linked(1, node.add.bind, 2000)
    assert skate.get(last.execute()) == 2001


def test_a_long_graph_is_compiled(session: None) -> None:
    actors = [Adder.remote(), Adder.remote()]
    with InputNode() as given:
        node: Any = given
        for index in range(2000):
            node = actors[index % 2].add.bind(node)
    assert isinstance(node, ClassMethodNode)
    compiled = node.experimental_compile()
    assert compiled.execute(5).get(timeout=AGES) == 2005
    with pytest.raises(TypeError):
        compiled.execute("five").get(timeout=AGES)
    compiled.teardown()
