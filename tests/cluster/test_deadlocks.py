"""Calls that wait for each other for ever raise; calls that only wait long do not."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import skate
from skate.api import RayContext as Session
from skate.exceptions import DeadlockError, RayTaskError

from .waiting import wait_for_file


@pytest.fixture
def nodes(session: Session) -> Iterator[list[Any]]:
    """Actors that know each other keep each other alive: the test ends them."""
    made: list[Any] = []
    yield made
    while made:
        skate.get(made.pop().meet.remote(None))


@skate.remote
class Node:
    """Knows another one."""

    def __init__(self, other: Any = None) -> None:
        self.other = other

    def meet(self, other: Any) -> None:
        self.other = other

    def ask(self, depth: int) -> Any:
        return skate.get(self.other.ask.remote(depth - 1)) if depth else "answer"

    def ask_many(self, others: list[Any]) -> Any:
        return skate.get([other.ask.remote(0) for other in others])

    def ask_in_time(self) -> str:
        try:
            skate.get(self.other.ask.remote(0), timeout=2.5)
        except skate.exceptions.GetTimeoutError:
            return "in time"
        return "unexpected"

    def take(self, value: Any) -> Any:
        return value

    def wait_for_file(self, path: Path) -> str:
        wait_for_file(path)
        return "there"


def test_two_actors(nodes: list[Any]) -> None:
    one = Node.remote()
    two = Node.remote(one)
    nodes += [one, two]
    skate.get(one.meet.remote(two))
    with pytest.raises(
        DeadlockError, match="Node.ask waits at .*test_deadlocks.py.* in ask for Node.ask"
    ) as info:
        skate.get(one.ask.remote(5))
    assert isinstance(info.value, RayTaskError)
    assert (
        len(re.findall(r"is queued behind Node.ask at the same actor \(it runs one call", str(info.value)))
        >= 1
    )
    assert skate.get([one.ask.remote(0), two.ask.remote(0)]) == ["answer", "answer"]


def test_an_actor_and_itself(nodes: list[Any]) -> None:
    node = Node.remote()
    nodes.append(node)
    skate.get(node.meet.remote(node))
    with pytest.raises(DeadlockError):
        skate.get(node.ask.remote(1))
    assert skate.get(node.ask.remote(0)) == "answer"


def test_a_ring_with_a_task_in_it(session: Session) -> None:
    @skate.remote(num_cpus=0)
    def between(node: Any) -> Any:
        return skate.get(node.take.remote(1))

    @skate.remote
    class Ring:
        def begin(self) -> Any:
            me = skate.get_runtime_context().current_actor
            return skate.get(between.remote(me))

        def take(self, value: Any) -> Any:
            return value

    with pytest.raises(DeadlockError, match="between waits at"):
        skate.get(Ring.remote().begin.remote())


def test_an_argument_in_the_circle(session: Session) -> None:
    @skate.remote
    class Chain:
        def begin(self, other: Any) -> Any:
            me = skate.get_runtime_context().current_actor
            return skate.get(other.take.remote(me.later.remote()))

        def later(self) -> int:
            return 1

    with pytest.raises(DeadlockError, match="waits for its argument, the result of Chain.later"):
        skate.get(Chain.remote().begin.remote(Node.remote()))


def test_all_threads_taken(nodes: list[Any]) -> None:
    node = Node.options(max_concurrency=2).remote()
    nodes.append(node)
    skate.get(node.meet.remote(node))
    with pytest.raises(DeadlockError, match="all its 2 threads are taken"):
        skate.get([node.ask.remote(2), node.ask.remote(2)])
    assert skate.get(node.ask.remote(1)) == "answer"


def test_a_constructor_that_waits_for_its_own_actor(session: Session) -> None:
    @skate.remote
    class Early:
        def __init__(self, path: Path) -> None:
            me = skate.get_runtime_context().current_actor
            skate.get(me.late.remote(), timeout=3)

        def late(self) -> int:
            return 1

    # It is not there to be called: its own timeout ends this one.
    with pytest.raises(skate.exceptions.ActorDiedError, match="GetTimeoutError|waited 3 s"):
        skate.get(Early.remote(Path("/")).late.remote())


def test_waits_that_are_only_long(nodes: list[Any], tmp_path: Path) -> None:
    """Longer than two looks, with everything that looks like a circle and is none."""
    slow, asks = Node.remote(), Node.remote()
    skate.get(asks.meet.remote(slow))
    held = slow.wait_for_file.remote(tmp_path / "gate")
    waits = asks.ask.remote(1)
    timed = Node.remote()
    skate.get(timed.meet.remote(timed))
    in_time = timed.ask_in_time.remote()
    threaded = Node.options(max_concurrency=2).remote()
    skate.get(threaded.meet.remote(threaded))
    elsewhere = threaded.ask_many.remote([slow, threaded])
    nodes += [slow, asks, timed, threaded]
    assert skate.get(in_time) == "in time"
    (tmp_path / "gate").touch()
    assert skate.get([held, waits, elsewhere]) == ["there", "answer", ["answer", "answer"]]


def test_a_thread_of_the_users_own_is_an_alternative(session: Session, tmp_path: Path) -> None:
    @skate.remote(max_concurrency=2)
    class Twofold:
        def begin(self) -> Any:
            me = skate.get_runtime_context().current_actor
            helper = threading.Timer(2.5, (tmp_path / "gate").touch)
            helper.start()
            found = skate.get(me.waits.remote(str(tmp_path / "gate")))
            helper.join()
            return found

        def waits(self, path: str) -> str:
            wait_for_file(path)
            return "came"

    assert skate.get(Twofold.remote().begin.remote()) == "came"


def test_the_error_can_be_caught_where_it_is_raised(session: Session) -> None:
    @skate.remote
    class Careful:
        def begin(self) -> str:
            me = skate.get_runtime_context().current_actor
            try:
                skate.get(me.other.remote())
            except DeadlockError:
                return "noticed"
            return "unexpected"

        def other(self) -> int:
            return 1

    assert skate.get(Careful.remote().begin.remote()) == "noticed"
