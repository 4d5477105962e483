"""A loop that watches a reactor's descriptor: what its own thread sends, and who helps while it is blocked."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from skate._transport import neglect
from skate._transport.neglect import TICK_S, Neglect
from skate._transport.reactor import Reactor

from .threads import meet


class Looks:
    """Looks at a pipe and a queue; sleeps take no time."""

    def __init__(self) -> None:
        self.read_end, self._write_end = os.pipe()
        self.queued: list[Any] = []
        self.slept: list[float] = []
        self.neglect = Neglect(lambda: self.read_end, self.queued, self.slept.append)

    def arrive(self) -> None:
        os.write(self._write_end, b"x")

    def take(self) -> None:
        os.read(self.read_end, 1)

    def look(self, entered: int = 0) -> bool:
        return self.neglect.looked(entered, 0.0 if not self.neglect.is_ticking and self.slept else 1.0)

    def close(self) -> None:
        os.close(self.read_end)
        os.close(self._write_end)


@pytest.fixture
def looks() -> Iterator[Looks]:
    found = Looks()
    yield found
    found.close()


@pytest.mark.parametrize("what", ["arrived", "queued"])
def test_what_lies_there_for_two_looks_is_neglected(looks: Looks, what: str) -> None:
    assert not looks.look()
    if what == "arrived":
        looks.arrive()
    else:
        looks.queued.append("a message")
    assert [looks.look() for _ in range(4)] == [False, True, False, True]
    assert set(looks.slept) == {TICK_S}


def test_a_loop_that_comes_neglects_nothing(looks: Looks) -> None:
    looks.arrive()
    assert not any(looks.look(entered) for entered in range(10))
    assert looks.look(9)


def test_other_things_that_arrive_later_begin_the_count_anew(looks: Looks) -> None:
    for _ in range(3):
        looks.arrive()
        assert not looks.look()
        looks.take()
        assert not looks.look()


def test_without_traffic_it_sleeps_until_something_arrives(looks: Looks) -> None:
    for _ in range(neglect._QUIET_LOOKS):
        assert not looks.look()
        assert looks.neglect.is_ticking
    before = list(looks.slept)
    assert not looks.neglect.looked(0, 0.001)
    assert not looks.neglect.is_ticking
    assert looks.slept == before, "it slept in its poll"
    looks.arrive()
    assert not looks.neglect.looked(0, 1e6), "until the next look, at least"
    assert looks.look()
    assert looks.neglect.is_ticking


def test_sleeps_end_with_the_next_timer(looks: Looks) -> None:
    assert not looks.neglect.looked(0, 0.0001)
    assert looks.slept == [0.0001]


class Messages:
    """A connection with something to send."""

    def __init__(self) -> None:
        self.sent_by: list[str] = []
        self.sent = threading.Event()

    def flush(self) -> None:
        self.sent_by.append(threading.current_thread().name)
        self.sent.set()


class Watched:
    """A reactor that the test's thread watches, awake."""

    def __init__(self) -> None:
        self.reactor = Reactor("watched")
        self.reactor.watched = self.reactor.polling = self.reactor.blocked_in_poll = True
        self.reactor.awake_thread = threading.get_ident()
        self.messages = Messages()

    def queue(self) -> None:
        with self.reactor.lock:
            self.reactor.dirty.append(self.messages)
        if self.reactor.polling:
            self.reactor.request_flush()

    def is_woken(self) -> bool:
        return bool(select.select([self.reactor.fileno()], [], [], 0)[0])


@pytest.fixture
def watched() -> Iterator[Watched]:
    found = Watched()
    yield found
    found.reactor.close()


def test_the_loop_sends_what_its_thread_queued_before_it_sleeps(watched: Watched) -> None:
    watched.reactor._neglect.is_ticking = True
    watched.queue()
    assert not watched.is_woken()
    watched.reactor.loop_sleeps()
    assert watched.messages.sent_by == [threading.current_thread().name]
    watched.queue()
    assert watched.is_woken(), "a finalizer may run between the flush and the sleep"


def test_what_other_threads_queue_wakes_the_loop(watched: Watched) -> None:
    watched.reactor._neglect.is_ticking = True
    thread = threading.Thread(target=watched.queue)
    thread.start()
    thread.join()
    assert watched.is_woken()


@pytest.mark.parametrize("is_ticking", [True, False])
def test_what_a_blocked_loop_has_queued_is_sent(watched: Watched, is_ticking: bool) -> None:
    """The test's thread is blocked from here on."""
    watched.reactor._neglect._quiet = 0 if is_ticking else neglect._QUIET_LOOKS
    watched.reactor.start_background()
    watched.queue()
    meet(watched.messages.sent, "it was never sent")
    assert watched.messages.sent_by == ["skate-io"]


def test_timers_of_a_blocked_loop_run(watched: Watched) -> None:
    ran = threading.Event()
    with watched.reactor.lock:
        watched.reactor.call_later(0.001, ran.set)
    watched.reactor.start_background()
    meet(ran, "the timer did not run")
    again = threading.Event()
    with watched.reactor.lock:
        watched.reactor.call_later(0.001, again.set)
    meet(again, "the second timer did not run")
