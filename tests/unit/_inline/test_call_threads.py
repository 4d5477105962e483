"""Messages within the process, and call threads: the order in which they run."""

from __future__ import annotations

import gc
import threading
from collections import deque
from collections.abc import Iterator

import pytest

from skate._inline import call_threads
from skate._inline.call_threads import CallThread, Killed
from skate._inline.reactor import InlineReactor, pair
from skate._transport.reactor import Waiter


@pytest.fixture
def reactor() -> Iterator[InlineReactor]:
    made = InlineReactor("test")
    made.on_bug = _raise
    yield made
    made.close()


@pytest.fixture
def call_thread(reactor: InlineReactor) -> Iterator[CallThread]:
    made = CallThread(reactor, lambda one: None)
    yield made
    with reactor.lock:
        made.kill()
        made.retire()
    made.thread.join(10)
    assert not made.thread.is_alive()


def _raise(bug: BaseException) -> None:
    raise bug


def test_messages_are_delivered_in_order_when_the_lock_is_released(reactor: InlineReactor) -> None:
    heard: list[object] = []

    def hear(end: object, message: object) -> None:
        heard.append(message)
        if message == 1:
            other.send(3)  # an answer follows the earlier messages

    one, other = pair(reactor, {int: lambda end, message: heard.append(("back", message))}, {int: hear})
    with reactor.lock:
        one.send(1)
        one.send(2)
        assert heard == []
    assert heard == [1, 2, ("back", 3)]


def test_a_closed_connection_delivers_only_earlier_messages(reactor: InlineReactor) -> None:
    heard: list[int] = []
    one, other = pair(reactor, {int: lambda end, message: heard.append(message)}, {})
    with reactor.lock:
        other.send(1)
        other.close("over")
        other.send(2)
    assert heard == [1]


def test_what_del_methods_leave_is_processed_at_once(reactor: InlineReactor) -> None:
    left: deque[int] = deque()
    reactor.leftovers = (left,)
    seen: list[int] = []

    def drain() -> None:
        while left:
            seen.append(left.popleft())

    reactor.on_turn = drain
    left.append(1)
    reactor.request_turn()
    assert seen == [1]
    with reactor.lock:
        left.append(2)
        reactor.request_turn()  # the lock's holder does it later
        assert seen == [1]
    assert seen == [1, 2]


def test_a_job_runs_while_its_starter_pauses(reactor: InlineReactor, call_thread: CallThread) -> None:
    ran: list[threading.Thread] = []
    with reactor.lock:
        call_thread.begin(lambda: ran.append(threading.current_thread()))
        assert ran == []
    assert ran == [call_thread.thread]


def test_a_call_thread_that_waits_lets_its_starter_go_on(
    reactor: InlineReactor, call_thread: CallThread
) -> None:
    waiter, seen = Waiter(), []

    def job() -> None:
        seen.append("waits")
        assert reactor.wait(waiter)
        seen.append("goes on")

    with reactor.lock:
        call_thread.begin(job)
    assert seen == ["waits"]
    with reactor.lock:
        waiter.notify()
    assert seen == ["waits", "goes on"]


def test_a_wait_that_is_over_when_it_begins(reactor: InlineReactor, call_thread: CallThread) -> None:
    waiter, seen = Waiter(), []
    with reactor.lock:
        waiter.notify()
        call_thread.begin(lambda: seen.append(reactor.wait(waiter)))
    assert seen == [True]


def test_a_wait_with_a_deadline_that_is_past(reactor: InlineReactor, call_thread: CallThread) -> None:
    waiter, seen = Waiter(), []
    with reactor.lock:
        call_thread.begin(lambda: seen.append(reactor.wait(waiter, 0.0)))
    until = threading.Event()
    with reactor.lock:
        call_thread.begin(until.set)
    assert until.wait(10)
    assert seen == [False]
    with reactor.lock:
        waiter.notify()  # no thread waits any more


def test_kills_and_interrupts_reach_what_waits(reactor: InlineReactor, call_thread: CallThread) -> None:
    raised: list[type[BaseException]] = []

    def job() -> None:
        for _ in range(2):
            try:
                reactor.wait(Waiter())
            except BaseException as error:
                raised.append(type(error))

    with reactor.lock:
        call_thread.begin(job)
    with reactor.lock:
        call_thread.interrupt()
    assert raised == [KeyboardInterrupt]
    with reactor.lock:
        call_thread.kill()
    assert raised == [KeyboardInterrupt, Killed]


def test_a_starter_pauses_for_a_limited_time(
    reactor: InlineReactor, call_thread: CallThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call_threads, "MAX_PAUSE_S", 0.01)
    gate = threading.Event()
    with reactor.lock:
        call_thread.begin(lambda: bool(gate.wait(10)) and None)
    assert not gate.is_set()  # the starter goes on though the job has not ended
    gate.set()


def test_a_starter_pauses_without_a_limit_while_a_debugger_looks(
    reactor: InlineReactor, call_thread: CallThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call_threads, "MAX_PAUSE_S", 0.01)
    looks: list[int | None] = []

    def debugged(ident: int | None) -> bool:
        looks.append(ident)
        if len(looks) == 3:
            gate.set()
        return True

    monkeypatch.setattr(call_threads, "_debugged", debugged)
    gate, seen = threading.Event(), []

    def job() -> None:
        gate.wait(10)
        seen.append("ended")

    with reactor.lock:
        call_thread.begin(job)
    assert seen == ["ended"]
    assert looks[:3] == [call_thread.thread.ident] * 3


def test_the_starter_does_the_work_of_an_ending_job(reactor: InlineReactor, call_thread: CallThread) -> None:
    other = CallThread(reactor, lambda one: None)
    order: list[str] = []

    def first() -> None:
        order.append("first")
        call_thread.ending = True
        with reactor.lock:
            other.begin(lambda: order.append("second"))
        order.append("last messages")

    with reactor.lock:
        call_thread.begin(first)
    assert order == ["first", "last messages", "second"]
    with reactor.lock:
        other.retire()
    other.thread.join(10)


def test_a_job_begun_early_starts_though_the_last_one_still_waits(
    reactor: InlineReactor, call_thread: CallThread
) -> None:
    """Serial actors begin the next call when one has ended; a finalizer may wait before it has returned."""
    waiter, ended = Waiter(), threading.Event()

    def first() -> None:
        with reactor.lock:
            call_thread.begin(ended.set)
        assert reactor.wait(waiter)

    with reactor.lock:
        call_thread.begin(first)
    with reactor.lock:
        waiter.notify()
    assert ended.wait(10)


def test_an_ending_job_that_waits_does_the_work_that_nobody_else_will(
    reactor: InlineReactor, call_thread: CallThread
) -> None:
    """Its starter pauses no more; a finalizer that waits may need what was to be passed on."""
    other, waiter, ended = CallThread(reactor, lambda one: None), Waiter(), threading.Event()

    def notify() -> None:
        with reactor.lock:
            waiter.notify()

    def first() -> None:
        call_thread.ending = True
        with reactor.lock:
            other.begin(notify)
        assert reactor.wait(waiter)
        ended.set()

    with reactor.lock:
        call_thread.begin(first)
        deferred, reactor.deferred = reactor.deferred, []
    for one in deferred:
        one.run_deferred(False)
    assert ended.wait(10)
    with reactor.lock:
        other.retire()
    other.thread.join(10)


def test_a_long_chain_needs_no_deep_stack(reactor: InlineReactor) -> None:
    """Each job begins the next: no thread waits for more than one other."""
    pool = [CallThread(reactor, lambda one: pool.append(one)) for _ in range(2)]
    made = list(pool)
    done: list[int] = []

    def job(number: int, me: CallThread) -> None:
        done.append(number)
        me.ending = True
        with reactor.lock:
            if number < 2000:
                following = pool.pop()
                following.begin(lambda: job(number + 1, following))

    with reactor.lock:
        first = pool.pop()
        first.begin(lambda: job(0, first))
    assert done == list(range(2001))
    with reactor.lock:
        for one in made:
            one.retire()
    for one in made:
        one.thread.join(10)
    gc.collect()
