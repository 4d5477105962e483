"""A router's queue: its bound before the first table, and deadlines with one timer for all."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from skate.serve._client.deadlines import Deadlines
from skate.serve._router import lender, router
from skate.serve._router.router import Expire, Refuse, Report, Router, Send


def waiting(number: int, max_queued: int) -> Router:
    """Return a router that has requests, and no table until now."""
    one = Router()
    for key in range(number):
        assert one.submitted(key) == []
    one.max_queued = max_queued
    return one


def test_the_bound_holds_for_what_came_before_the_first_table() -> None:
    one = waiting(10, max_queued=2)
    one.table_changed({"a": 2, "b": 1})
    assert one.bounded() == [Refuse(key, 5) for key in range(5, 10)]  # the newest
    sent = [*one.answered("a", 1, 2, 0), *one.answered("b", 1, 1, 0)]
    assert [command.key for command in sent if isinstance(command, Send)] == [0, 1, 2]
    assert one.queued == 2
    assert one.submitted(10) == [Refuse(10, 2)]


@pytest.mark.parametrize(("max_queued", "slots"), [(-1, 1), (7, 3), (20, 0)])
def test_nothing_is_refused_that_has_room(max_queued: int, slots: int) -> None:
    one = waiting(10, max_queued)
    one.table_changed({"a": slots} if slots else {})
    assert one.bounded() == []


def test_without_replicas_the_bound_is_the_queue_s() -> None:
    one = waiting(3, max_queued=0)
    one.table_changed({})
    assert one.bounded() == [Refuse(key, 0) for key in range(3)]


def test_a_hopeless_request_gives_its_turn_away() -> None:
    """The report that follows says what the router has: a lender that believes that nothing is left lends the
    slot twice."""
    one = Router()
    one.is_hopeless = lambda deadline, others: others > 0 and deadline < 5
    one.submitted("late", 4.0)
    one.submitted("fresh", 9.0)
    one.submitted("alone", 4.0)
    one.table_changed({"a": 1})
    assert one.answered("a", 1, 1, 0) == [Expire("late"), Send("fresh", "a"), Report("a", 2, 1, 0, 1)]
    assert one.ended("fresh", keeps=True) == [Send("alone", "a")]


def test_nothing_is_hopeless_while_credits_suffice() -> None:
    one = Router()
    one.is_hopeless = lambda deadline, others: others > 0
    one.table_changed({"a": 2})
    one.submitted(1, 4.0)
    one.submitted(2, 4.0)
    sent = one.answered("a", 1, 2, 0)
    assert [command for command in sent if isinstance(command, Expire | Send)] == [Send(1, "a"), Send(2, "a")]


def test_a_request_that_was_not_sent_after_all_corrects_the_report() -> None:
    one = Router()
    one.submitted("x")
    one.table_changed({"a": 1})
    assert one.answered("a", 1, 1, 0) == [Send("x", "a"), Report("a", 2, 0, 0, 1)]
    assert one.unsent("x") == [Report("a", 3, 0, 1, 1)]


def test_commands_of_different_kinds_differ() -> None:
    assert router.Send("a", "b") != router.Lost("a", "b")
    assert router.Send("a", "b") == router.Send("a", "b")
    assert router.Expire("a") != lender.Begin("a")
    assert router.Refuse("a", 1) != router.Lost("a", 1)  # type: ignore[arg-type]
    assert {router.Send("a", "b"), router.Lost("a", "b"), router.Send("a", "b")} == {
        router.Lost("a", "b"),
        router.Send("a", "b"),
    }


class Loop:
    """The part of a loop that a timer uses."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[Timer] = []

    def call_at(self, when: float, function: Any) -> Timer:
        self.timers.append(Timer(self, when, function))
        return self.timers[-1]

    def pass_until(self, now: float) -> None:
        while due := sorted((one for one in self.timers if one.at <= now), key=lambda one: one.at):
            self.timers.remove(due[0])
            self.now = due[0].at
            due[0].function()
        self.now = now


class Timer:
    def __init__(self, loop: Loop, at: float, function: Any) -> None:
        self.loop, self.at, self.function = loop, at, function

    def when(self) -> float:
        return self.at

    def cancel(self) -> None:
        self.loop.timers.remove(self)


def test_one_timer_for_all_deadlines() -> None:
    fake = Loop()
    loop: asyncio.AbstractEventLoop = fake  # type: ignore[assignment]
    one = Router()
    late: list[tuple[float, object]] = []

    def passed() -> float:
        late.extend(
            (fake.now, command.key) for command in one.expired(fake.now) if isinstance(command, Expire)
        )
        return one.next_deadline

    deadlines = Deadlines(loop, passed)
    for key, deadline in enumerate([5.0, 3.0, 0.0, 4.0, 6.0, 2.0]):
        one.submitted(key, deadline)
        deadlines.add(deadline)
        assert len(fake.timers) <= 1
    one.withdrawn(3)
    fake.pass_until(5.5)
    assert late == [(2.0, 5), (3.0, 1), (5.0, 0)]
    deadlines.close()
    assert fake.timers == []
    one.withdrawn(4)
    deadlines.add(0.0)
    assert fake.timers == [] and one.next_deadline == 0.0


def test_requests_that_were_sent_leave_no_timers() -> None:
    fake = Loop()
    loop: asyncio.AbstractEventLoop = fake  # type: ignore[assignment]
    deadlines = Deadlines(loop, lambda: 0.0)
    for number in range(1000):
        deadlines.add(60.0 + number)
    assert len(fake.timers) == 1
    fake.pass_until(60.0)
    assert fake.timers == []
