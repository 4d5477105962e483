"""Messages within the process, and strands: who runs when."""

from __future__ import annotations

import gc
import threading
from collections import deque
from collections.abc import Iterator

import pytest

from skate._inline import strands
from skate._inline.strands import Doomed, Strand
from skate._inline.turns import Turns, line
from skate._transport.reactor import Waiter


@pytest.fixture
def turns() -> Iterator[Turns]:
    made = Turns("test")
    made.on_bug = _raise
    yield made
    made.close()


@pytest.fixture
def strand(turns: Turns) -> Iterator[Strand]:
    made = Strand(turns, lambda one: None)
    yield made
    with turns.lock:
        made.doom()
        made.retire()
    made.thread.join(10)
    assert not made.thread.is_alive()


def _raise(bug: BaseException) -> None:
    raise bug


def test_messages_are_heard_when_the_lock_is_released_and_in_their_order(turns: Turns) -> None:
    heard: list[object] = []

    def hear(end: object, message: object) -> None:
        heard.append(message)
        if message == 1:
            other.send(3)  # an answer follows what was said before

    one, other = line(turns, {int: lambda end, message: heard.append(("back", message))}, {int: hear})
    with turns.lock:
        one.send(1)
        one.send(2)
        assert heard == []
    assert heard == [1, 2, ("back", 3)]


def test_a_closed_end_says_nothing_but_what_it_had_said(turns: Turns) -> None:
    heard: list[int] = []
    one, other = line(turns, {int: lambda end, message: heard.append(message)}, {})
    with turns.lock:
        other.send(1)
        other.close("over")
        other.send(2)
    assert heard == [1]


def test_what_del_methods_leave_is_seen_to_at_once(turns: Turns) -> None:
    left: deque[int] = deque()
    turns.leftovers = (left,)
    seen: list[int] = []

    def drain() -> None:
        while left:
            seen.append(left.popleft())

    turns.on_turn = drain
    left.append(1)
    turns.request_turn()
    assert seen == [1]
    with turns.lock:
        left.append(2)
        turns.request_turn()  # whoever has the lock will do it
        assert seen == [1]
    assert seen == [1, 2]


def test_a_job_runs_while_its_starter_stands_by(turns: Turns, strand: Strand) -> None:
    ran: list[threading.Thread] = []
    with turns.lock:
        strand.begin(lambda: ran.append(threading.current_thread()))
        assert ran == []
    assert ran == [strand.thread]


def test_a_strand_that_waits_lets_its_starter_go_on(turns: Turns, strand: Strand) -> None:
    waiter, told = Waiter(), []

    def job() -> None:
        told.append("waits")
        assert turns.wait(waiter)
        told.append("goes on")

    with turns.lock:
        strand.begin(job)
    assert told == ["waits"]
    with turns.lock:
        waiter.notify()
    assert told == ["waits", "goes on"]


def test_a_wait_that_is_over_when_it_begins(turns: Turns, strand: Strand) -> None:
    waiter, told = Waiter(), []
    with turns.lock:
        waiter.notify()
        strand.begin(lambda: told.append(turns.wait(waiter)))
    assert told == [True]


def test_a_wait_with_a_deadline_that_is_past(turns: Turns, strand: Strand) -> None:
    waiter, told = Waiter(), []
    with turns.lock:
        strand.begin(lambda: told.append(turns.wait(waiter, 0.0)))
    until = threading.Event()
    with turns.lock:
        strand.begin(until.set)
    assert until.wait(10)
    assert told == [False]
    with turns.lock:
        waiter.notify()  # nobody waits any more


def test_doom_and_interrupts_reach_what_waits(turns: Turns, strand: Strand) -> None:
    raised: list[type[BaseException]] = []

    def job() -> None:
        for _ in range(2):
            try:
                turns.wait(Waiter())
            except BaseException as error:
                raised.append(type(error))

    with turns.lock:
        strand.begin(job)
    with turns.lock:
        strand.interrupt()
    assert raised == [KeyboardInterrupt]
    with turns.lock:
        strand.doom()
    assert raised == [KeyboardInterrupt, Doomed]


def test_who_neither_ends_nor_waits_holds_up_its_starter_only_so_long(
    turns: Turns, strand: Strand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strands, "PATIENCE", 0.01)
    gate = threading.Event()
    with turns.lock:
        strand.begin(lambda: bool(gate.wait(10)) and None)
    assert not gate.is_set()  # we came here though it has not ended
    gate.set()


def test_no_hurry_while_a_debugger_looks(
    turns: Turns, strand: Strand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strands, "PATIENCE", 0.01)
    looks: list[int | None] = []

    def debugged(ident: int | None) -> bool:
        looks.append(ident)
        if len(looks) == 3:
            gate.set()
        return True

    monkeypatch.setattr(strands, "_debugged", debugged)
    gate, told = threading.Event(), []

    def job() -> None:
        gate.wait(10)
        told.append("ended")

    with turns.lock:
        strand.begin(job)
    assert told == ["ended"]
    assert looks[:3] == [strand.thread.ident] * 3


def test_what_the_last_words_begin_is_started_by_the_starter(turns: Turns, strand: Strand) -> None:
    other = Strand(turns, lambda one: None)
    order: list[str] = []

    def first() -> None:
        order.append("first")
        strand.ending = True
        with turns.lock:
            other.begin(lambda: order.append("second"))
        order.append("last words")

    with turns.lock:
        strand.begin(first)
    assert order == ["first", "last words", "second"]
    with turns.lock:
        other.retire()
    other.thread.join(10)


def test_a_long_chain_needs_no_deep_stack(turns: Turns) -> None:
    """Each job begins the next: no thread waits for more than one other."""
    pool = [Strand(turns, lambda one: pool.append(one)) for _ in range(2)]
    made = list(pool)
    done: list[int] = []

    def job(number: int, me: Strand) -> None:
        done.append(number)
        me.ending = True
        with turns.lock:
            if number < 2000:
                following = pool.pop()
                following.begin(lambda: job(number + 1, following))

    with turns.lock:
        first = pool.pop()
        first.begin(lambda: job(0, first))
    assert done == list(range(2001))
    with turns.lock:
        for one in made:
            one.retire()
    for one in made:
        one.thread.join(10)
    gc.collect()
