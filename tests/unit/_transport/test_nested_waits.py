"""A finalizer that the collector runs inside a wait waits itself: nobody hangs, whoever leads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from skate._base.clock import monotonic
from skate._transport.reactor import Reactor, Waiter

from .test_reactor import Bell, is_free
from .threads import Background, Probe, meet


class Stage:
    def __init__(self) -> None:
        self.probe = Probe()
        self.reactor: Reactor = self.probe.reactor
        self.bells: list[Bell] = []

    def bell_for(self, waiter: Waiter) -> Bell:
        bell = Bell(self.reactor, waiter.notify)
        self.bells.append(bell)
        return bell


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.reactor.stop()
    for bell in stage.bells:
        bell.close()
    stage.reactor.close()


class Interrupting:
    """Stands in the place of epoll: calls a finalizer once, where the collector could."""

    def __init__(self, epoll: Any, finalizer: Callable[[], None], before: bool) -> None:
        self._epoll, self._before = epoll, before
        self._finalizer: Callable[[], None] | None = finalizer

    def _interrupt(self) -> None:
        finalizer, self._finalizer = self._finalizer, None
        if finalizer is not None:
            finalizer()

    def poll(self, timeout: float | None) -> Any:
        if self._before:
            self._interrupt()
        found = self._epoll.poll(timeout)
        if not self._before:
            self._interrupt()
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._epoll, name)


@pytest.mark.parametrize("before", [True, False], ids=["before the poll", "behind the poll"])
@pytest.mark.parametrize("timeout", [None, 60.0])
def test_a_leader_waits_inside_its_wait(stage: Stage, before: bool, timeout: float | None) -> None:
    outer, inner = Waiter(), Waiter()
    inner_bell, outer_bell = stage.bell_for(inner), stage.bell_for(outer)
    waited: list[bool] = []

    def finalizer() -> None:
        inner_bell.ring()
        outer_bell.ring()  # the inner wait hears this, too
        waited.append(stage.reactor.wait(inner, monotonic() + 30))

    stage.reactor._epoll = Interrupting(stage.reactor._epoll, finalizer, before)
    deadline = None if timeout is None else monotonic() + timeout
    if not before:
        stage.reactor.request_turn()  # or it would sleep in poll
    assert stage.reactor.wait(outer, deadline)
    assert waited == [True]
    assert is_free(stage.reactor)


def test_the_outer_poll_does_not_sleep_over_what_was_left_behind(stage: Stage) -> None:
    """Another thread notifies the outer wait while the inner one has just said that nobody sleeps."""
    outer, inner = Waiter(), Waiter()
    bell = stage.bell_for(inner)

    def finalizer() -> None:
        bell.ring()
        assert stage.reactor.wait(inner)
        Background(outer.notify).result()

    stage.reactor._epoll = Interrupting(stage.reactor._epoll, finalizer, True)
    assert Background(lambda: stage.reactor.wait(outer)).result()
    assert is_free(stage.reactor)


def test_what_the_outer_poll_found_is_not_handled_twice(stage: Stage) -> None:
    """Its descriptor may be another one's by then."""
    outer, inner = Waiter(), Waiter()
    heard: list[str] = []
    bell = Bell(stage.reactor, lambda: heard.append("once"))
    stage.bells.append(bell)
    inner_bell, outer_bell = stage.bell_for(inner), stage.bell_for(outer)

    def finalizer() -> None:
        inner_bell.ring()
        assert stage.reactor.wait(inner)
        outer_bell.ring()

    bell.ring()
    # Its handler raises, were it called without anything to read.
    stage.reactor._epoll = Interrupting(stage.reactor._epoll, finalizer, False)
    bugs: list[BaseException] = []
    stage.reactor.on_bug = bugs.append
    assert stage.reactor.wait(outer)
    assert heard == ["once"]
    assert not bugs


def test_a_promotion_that_comes_while_a_follower_waits_inside_is_not_lost(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The leader leaves and promotes the outer wait, whose thread is in an inner one: somebody must lead."""
    from skate._transport import reactor as module

    first, outer, inner = Waiter(), Waiter(), Waiter()
    leader = stage.probe.lead(first)
    first_bell, inner_bell, outer_bell = (stage.bell_for(one) for one in (first, inner, outer))
    interrupted: list[bool] = []
    real = module.monotonic

    def clock() -> float:
        # Called by the follower between its place in the line and its sleep: the collector runs here.
        if threading.current_thread().name == "follower" and not interrupted:
            interrupted.append(True)
            first_bell.ring()
            assert leader.result()
            inner_bell.ring()
            assert stage.reactor.wait(inner)
        return real()

    monkeypatch.setattr(module, "monotonic", clock)
    follower = Background(lambda: stage.reactor.wait(outer, real() + 60), "follower")
    outer_bell.ring()
    assert follower.result()
    assert interrupted
    assert not stage.reactor._followers
    assert is_free(stage.reactor)


def test_an_inner_wait_of_a_follower_takes_the_outer_one_out_of_the_line(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two places in the line for one thread: the wrong one would be promoted while it sleeps in the other."""
    from skate._transport import reactor as module

    first, outer, inner = Waiter(), Waiter(), Waiter()
    leader = stage.probe.lead(first)
    first_bell, inner_bell, outer_bell = (stage.bell_for(one) for one in (first, inner, outer))
    lines: list[list[Waiter]] = []
    real = module.monotonic

    def clock() -> float:
        if threading.current_thread().name == "follower" and not lines:
            lines.append([])
            assert stage.reactor.wait(inner)
        return real()

    monkeypatch.setattr(module, "monotonic", clock)
    follower = Background(lambda: stage.reactor.wait(outer, real() + 60), "follower")
    meet(stage.probe.followers.came, "it does not follow")
    meet(stage.probe.followers.came, "it does not wait inside")
    with stage.reactor.lock:
        assert list(stage.reactor._followers) == [inner]
    first_bell.ring()
    assert leader.result()
    inner_bell.ring()
    outer_bell.ring()
    assert follower.result()
    assert not stage.reactor._followers
    assert is_free(stage.reactor)


def test_nobody_leads_a_closed_reactor_not_even_the_thread_that_closed_it() -> None:
    """It keeps the lead, which it could take once more."""
    reactor = Reactor("test")
    reactor.close()
    assert not reactor.try_lead()
    reactor.turn_if_free()  # would poll a closed descriptor
    assert not reactor.wait(Waiter())
