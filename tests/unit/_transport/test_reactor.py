"""Leaders and followers: whoever waits is woken, whatever happens just then, and nobody else."""

from __future__ import annotations

import select
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator

import pytest

from skate._base.clock import monotonic
from skate._transport import reactor as module
from skate._transport.reactor import Reactor, Waiter

from .threads import Background, HookedWaiter, Hung, Probe, meet


class Bell:
    """Something that other processes do: ``ring`` makes the handler run in whoever leads."""

    def __init__(self, reactor: Reactor, on_ring: Callable[[], None] | None = None) -> None:
        self._reactor = reactor
        self._here, self._there = socket.socketpair()
        self._here.setblocking(False)
        self.on_ring = on_ring or (lambda: None)
        #: Names of the threads that handled it.
        self.heard_by: list[str] = []
        reactor.register(self._here.fileno(), self)

    def ring(self) -> None:
        self._there.send(b"x")

    def handle(self, events: int) -> None:
        self._here.recv(100)
        self.heard_by.append(threading.current_thread().name)
        self.on_ring()

    def close(self) -> None:
        self._reactor.unregister(self._here.fileno())
        self._here.close()
        self._there.close()


class _Stage:
    """What most tests here need."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch
        self.probe = Probe()
        self.reactor = self.probe.reactor
        self.bells: list[Bell] = []

    def bell(self, on_ring: Callable[[], None] | None = None) -> Bell:
        bell = Bell(self.reactor, on_ring)
        self.bells.append(bell)
        return bell

    def bell_for(self, waiter: Waiter) -> Bell:
        return self.bell(waiter.notify)

    def interrupts(self, in_main_thread: Callable[[], bool]) -> None:
        """Have a handler due that raises KeyboardInterrupt, in what is to be the main thread."""

        def handler() -> None:
            self.reactor.interrupted = False
            raise KeyboardInterrupt

        self.monkeypatch.setattr(module, "in_main_thread", in_main_thread)
        self.reactor.on_interrupt = handler
        self.reactor.interrupted = True


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Stage]:
    stage = _Stage(monkeypatch)
    yield stage
    # Whatever hangs because a test failed is let go before the descriptors are closed.
    stage.reactor.stop()
    if stage.reactor._depth and not {"leader", "follower", "skate-io"} & {
        thread.name for thread in threading.enumerate()
    }:
        stage.reactor._lead = threading.RLock()
    for waiter in list(stage.reactor._followers):
        waiter.notify()
    for thread in threading.enumerate():
        if thread.name in ("leader", "follower", "test"):
            thread.join(5)
    for bell in stage.bells:
        bell.close()
    stage.reactor.close()


# ---------------------------------------------------------------------- one thread


def test_who_waits_leads_and_reads_for_itself(stage: _Stage) -> None:
    waiter = Waiter()
    bell = stage.bell_for(waiter)
    bell.ring()
    assert stage.reactor.wait(waiter)
    assert bell.heard_by == [threading.current_thread().name]


def test_a_waiter_that_is_done_does_not_wait(stage: _Stage) -> None:
    waiter = Waiter()
    waiter.notify()
    assert stage.reactor.wait(waiter)
    assert stage.probe.poll.by == []


def test_a_deadline_that_is_over_still_looks_once(stage: _Stage) -> None:
    waiter = Waiter()
    assert not stage.reactor.wait(waiter, monotonic() - 1)
    stage.bell_for(waiter).ring()
    assert stage.reactor.wait(waiter, monotonic() - 1)
    assert len(stage.probe.poll.by) == 2


def test_a_very_long_wait_goes_round_in_between(stage: _Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_POLL_S", 0.0)
    waiter = Waiter()
    thread = stage.probe.lead(waiter, monotonic() + 1e12)
    meet(stage.probe.poll.began, "it did not go round")
    stage.bell_for(waiter).ring()
    assert thread.result()


def test_what_was_left_to_be_sent_is_sent_before_anybody_sleeps(stage: _Stage) -> None:
    waiter = Waiter()
    connection = Dirty(waiter.notify)
    stage.reactor.dirty.append(connection)  # type: ignore[arg-type]
    assert stage.reactor.wait(waiter)


def test_a_request_that_comes_before_the_one_before_is_read(stage: _Stage) -> None:
    """Another thread requests a turn in the middle of a turn: later requests still wake the leader."""
    bell = stage.bell(stage.reactor.request_turn)
    bell.ring()
    stage.reactor.request_turn()
    stage.reactor.turn_if_free()
    assert bell.heard_by
    stage.reactor.request_turn()
    assert select.select([stage.reactor], [], [], 0)[0]


def test_the_background_thread_leads_if_the_last_follower_goes_just_then(stage: _Stage) -> None:
    """The leader leaves and sees a follower, whose wait is over before it is promoted."""

    class Leaving(deque[Waiter]):
        def __bool__(self) -> bool:
            was_there = len(self) > 0
            self.clear()
            return was_there

    stage.reactor._followers = Leaving([Waiter()])
    stage.reactor._parked = True
    stage.reactor._hand_over()
    assert not stage.reactor._park_gate.locked()


def test_a_promotion_is_passed_on_if_the_wait_ends_just_after_it_came(stage: _Stage) -> None:
    """The promoted thread sees that its wait goes on, and at the next look that it is over."""

    class Ending(Waiter):
        looks = 0

        @property
        def done(self) -> bool:
            self.looks += 1
            return self.looks > 2  # when it begins to sleep, and when it wakes

        @done.setter
        def done(self, done: bool) -> None:
            pass

    ending, reactor = Ending(), stage.reactor

    leads = threading.Event()

    def lead() -> None:
        assert reactor._lead.acquire(False)
        leads.set()
        until = monotonic() + 10
        while ending not in reactor._followers and monotonic() < until:
            pass
        reactor._lead.release()
        reactor._hand_over()

    reactor._parked = True
    leader = threading.Thread(target=lead, daemon=True)
    leader.start()
    leads.wait()
    assert not reactor._follow(ending, None)
    leader.join()
    assert not reactor._park_gate.locked(), "nobody leads, and nobody was woken to"


def test_timers_run_in_their_order_and_not_when_they_were_cancelled(stage: _Stage) -> None:
    calls: list[str] = []
    waiter = Waiter()
    with stage.reactor.lock:
        stage.reactor.call_later(0.002, waiter.notify)
        stage.reactor.call_later(0.001, lambda: calls.append("second"))
        stage.reactor.call_later(0, lambda: calls.append("first"))
        stage.reactor.call_later(0, lambda: calls.append("cancelled")).cancel()
    assert stage.reactor.wait(waiter)
    assert calls == ["first", "second"]


def test_timers_of_one_moment_run_first_come_first_served(
    stage: _Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "monotonic", lambda: 100.0)
    calls: list[int] = []
    for number in range(5):
        stage.reactor.call_later(0, lambda number=number: calls.append(number))  # type: ignore[misc]
    stage.reactor.turn(0)
    assert calls == [0, 1, 2, 3, 4]


def test_a_timer_may_set_another(stage: _Stage) -> None:
    waiter = Waiter()
    stage.reactor.call_later(0, lambda: (stage.reactor.call_later(0, waiter.notify), None)[1])
    assert stage.reactor.wait(waiter)


@pytest.mark.parametrize("where", ["source", "timer"])
def test_a_bug_in_a_handler_is_reported_and_stops_nobody(stage: _Stage, where: str) -> None:
    bugs: list[BaseException] = []
    stage.reactor.on_bug = bugs.append

    def fail() -> None:
        raise ZeroDivisionError("bug")

    waiter = Waiter()
    if where == "source":
        stage.bell(fail).ring()
    else:
        stage.reactor.call_later(0, fail)
    stage.bell_for(waiter).ring()
    stage.reactor.call_later(0, lambda: None)
    assert stage.reactor.wait(waiter)
    assert [type(bug) for bug in bugs] == [ZeroDivisionError]


def test_each_turn_drains(stage: _Stage) -> None:
    turns: list[bool] = []
    stage.reactor.on_turn = lambda: turns.append(stage.reactor.lock.is_owned())
    stage.reactor.turn(0)
    stage.reactor.turn(0)
    assert turns == [True, True]


def test_an_unregistered_source_is_not_called(stage: _Stage) -> None:
    bell = stage.bell()
    bell.ring()
    stage.reactor.unregister(bell._here.fileno())
    stage.reactor.unregister(bell._here.fileno())
    stage.reactor.turn(0)
    assert bell.heard_by == []


def test_run_leads_until_it_is_stopped(stage: _Stage) -> None:
    bell = stage.bell(stage.reactor.stop)
    thread = Background(stage.reactor.run)
    bell.ring()
    thread.result()
    assert stage.reactor.is_stopped


# ---------------------------------------------------------------------- leaders and followers


def test_a_leader_wakes_its_follower(stage: _Stage) -> None:
    first, second = Waiter(), Waiter()
    leader = stage.probe.lead(first)
    follower = stage.probe.follow(second)
    bell = stage.bell_for(second)
    bell.ring()
    assert follower.result()
    assert bell.heard_by == ["leader"]
    assert leader.running
    stage.bell_for(first).ring()
    assert leader.result()


def test_a_leader_that_leaves_promotes_a_follower(stage: _Stage) -> None:
    first, second = Waiter(), Waiter()
    leader = stage.probe.lead(first)
    follower = stage.probe.follow(second)
    stage.bell_for(first).ring()
    assert leader.result()
    bell = stage.bell_for(second)
    bell.ring()
    assert follower.result()
    assert bell.heard_by == ["follower"]


def test_many_followers_all_come_through(stage: _Stage) -> None:
    waiters = [Waiter() for _ in range(8)]
    threads = [stage.probe.lead(waiters[0])]
    threads += [stage.probe.follow(waiter) for waiter in waiters[1:]]
    for waiter, thread in zip(waiters, threads, strict=True):
        stage.bell_for(waiter).ring()
        assert thread.result()
    assert is_free(stage.reactor)


def test_several_done_in_one_turn(stage: _Stage) -> None:
    waiters = [Waiter() for _ in range(5)]
    threads = [stage.probe.lead(waiters[0])]
    threads += [stage.probe.follow(waiter) for waiter in waiters[1:]]
    stage.bell(lambda: [waiter.notify() for waiter in waiters] and None).ring()
    assert all(thread.result() for thread in threads)
    assert not stage.reactor._followers
    assert is_free(stage.reactor)


def test_a_follower_whose_time_is_up_leaves_alone(stage: _Stage) -> None:
    first, second = Waiter(), Waiter()
    leader = stage.probe.lead(first)
    assert not stage.reactor.wait(second, monotonic() - 1)
    assert not stage.reactor._followers
    assert leader.running
    stage.bell_for(first).ring()
    assert leader.result()


def test_a_follower_waits_on_beyond_the_longest_sleep(stage: _Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Waiter(), Waiter()
    leader = stage.probe.lead(first)
    monkeypatch.setattr(module, "MAX_POLL_S", 0.0)
    follower = stage.probe.follow(second, monotonic() + 1e12)
    meet(stage.probe.followers.came, "it did not go round")
    stage.bell_for(second).ring()
    assert follower.result()
    stage.bell_for(first).ring()
    assert leader.result()


def test_who_is_notified_on_its_way_to_the_lead_does_not_keep_the_lead(stage: _Stage) -> None:
    """The last leader dispatches our reply and leaves, just between our look and our try to lead."""

    def hook(waiter: HookedWaiter, asked: int) -> None:
        if asked == 1:
            waiter.notify()

    assert stage.reactor.wait(HookedWaiter(hook))
    assert is_free(stage.reactor), "it returned with the lead: nobody can ever lead again"


def test_who_is_notified_between_its_promotion_and_its_lead_does_not_keep_the_lead(stage: _Stage) -> None:
    """Another thread notifies without leading (a value that this process makes itself)."""
    first = Waiter()

    def hook(waiter: HookedWaiter, asked: int) -> None:
        if not first.done or not stage.reactor._depth or waiter._done:
            return
        if threading.current_thread().name == "follower":
            waiter.notify()

    leader = stage.probe.lead(first)
    follower = stage.probe.follow(HookedWaiter(hook))
    stage.bell_for(first).ring()
    assert leader.result()
    assert follower.result()
    assert is_free(stage.reactor), "it returned with the lead: nobody can ever lead again"


def test_a_leader_that_is_interrupted_hands_the_lead_over(stage: _Stage) -> None:
    first, second = Waiter(), Waiter()
    leader = stage.probe.lead(first)
    follower = stage.probe.follow(second)
    interrupt_one(stage, "leader")
    with pytest.raises(KeyboardInterrupt):
        leader.result()
    bell = stage.bell_for(second)
    bell.ring()
    assert follower.result()
    assert bell.heard_by == ["follower"]


def test_a_follower_can_be_interrupted(stage: _Stage) -> None:
    first, second = Waiter(), Waiter()
    leader = stage.probe.lead(first)
    follower = stage.probe.follow(second)
    interrupt_one(stage, "follower")
    with pytest.raises(KeyboardInterrupt):
        follower.result()
    assert leader.running
    assert not stage.reactor._followers
    stage.bell_for(first).ring()
    assert leader.result()


def test_an_interrupted_follower_passes_a_promotion_on(stage: _Stage) -> None:
    """Control-C comes just when the leader leaves and promotes the main thread."""
    waiters = [Waiter() for _ in range(3)]
    leader = stage.probe.lead(waiters[0])
    chosen = stage.probe.follow(waiters[1])
    other = stage.probe.follow(waiters[2])

    stage.interrupts(lambda: threading.current_thread() is chosen.thread)
    stage.bell_for(waiters[0]).ring()  # nobody nudges: it is the promotion that wakes it
    assert leader.result()
    with pytest.raises(KeyboardInterrupt):
        chosen.result()
    stage.bell_for(waiters[2]).ring()
    assert other.result()


def interrupt_one(stage: _Stage, name: str) -> None:
    """Do what a signal handler does."""
    stage.interrupts(lambda: threading.current_thread().name == name)
    stage.reactor.nudge()


def is_free(reactor: Reactor) -> bool:
    """Tell whether another thread can lead."""
    taken: list[bool] = []

    def look() -> None:
        taken.append(reactor.try_lead())
        if taken[0]:
            reactor.leave_lead()

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    return taken[0] and not reactor._depth


def test_a_nudge_without_an_interrupt_wakes_nobody_for_good(stage: _Stage) -> None:
    first, second = Waiter(), Waiter()
    leader = stage.probe.lead(first)
    follower = stage.probe.follow(second)
    stage.reactor.nudge()
    meet(stage.probe.followers.came, "the follower did not go back to sleep")
    assert leader.running
    assert follower.running
    for waiter in (second, first):
        stage.bell_for(waiter).ring()
    assert leader.result()
    assert follower.result()


# ---------------------------------------------------------------------- wake-ups


def test_a_requested_turn_takes_place(stage: _Stage) -> None:
    waiter = Waiter()
    turned = threading.Semaphore(0)
    stage.reactor.on_turn = turned.release
    leader = stage.probe.lead(waiter)
    for _ in range(3):
        stage.reactor.request_turn()
        meet(turned, "the turn that was requested did not take place")
    stage.bell_for(waiter).ring()
    assert leader.result()


class Dirty:
    """A connection with something to send."""

    def __init__(self, on_flush: Callable[[], None]) -> None:
        self._on_flush = on_flush

    def flush(self) -> None:
        self._on_flush()


def test_what_is_left_between_two_turns_is_not_left_there(stage: _Stage) -> None:
    """A thread submits after the leader flushed and before it sleeps: somebody must send it.

    As all do who leave something behind, it requests a turn only if the leader is about to sleep.
    """
    flushed = threading.Event()
    between = threading.Event()

    def hook(waiter: HookedWaiter, asked: int) -> None:
        if stage.probe.poll.by and not between.is_set():  # a turn is over, the next has not begun
            between.set()
            with stage.reactor.lock:
                stage.reactor.dirty.append(Dirty(flushed.set))  # type: ignore[arg-type]
            if stage.reactor.polling:
                stage.reactor.request_turn()

    waiter = HookedWaiter(hook)
    leader = stage.probe.lead(waiter)
    stage.reactor.wake()
    meet(between, "there was no second turn")
    try:
        meet(flushed, "the leader went to sleep on something to send")
    finally:
        stage.bell_for(waiter).ring()
    assert leader.result()


def test_turns_for_a_loop_that_watches_the_descriptor(stage: _Stage) -> None:
    bell = stage.bell()
    assert select.select([stage.reactor.fileno()], [], [], 0)[0] == []
    bell.ring()
    assert select.select([stage.reactor.fileno()], [], [], 0)[0] == [stage.reactor.fileno()]
    stage.reactor.turn_if_free()
    assert len(bell.heard_by) == 1
    assert select.select([stage.reactor.fileno()], [], [], 0)[0] == []


def test_such_a_turn_leaves_the_lead_to_who_has_it(stage: _Stage) -> None:
    waiter = Waiter()
    leader = stage.probe.lead(waiter)
    stage.reactor.turn_if_free()
    assert "MainThread" not in stage.probe.poll.by
    bell = stage.bell_for(waiter)
    bell.ring()
    assert leader.result()
    assert bell.heard_by == ["leader"]


# ---------------------------------------------------------------------- the background thread


def test_the_background_thread_serves_while_nobody_waits(stage: _Stage) -> None:
    leads, heard = threading.Event(), threading.Event()
    bell = stage.bell(heard.set)
    stage.reactor.on_background = leads.set
    stage.reactor.start_background()
    meet(leads, "the background thread does not lead")
    bell.ring()
    meet(heard, "the background thread does not serve")
    assert bell.heard_by == ["skate-io"]
    assert stage.reactor.is_led_in_background


def test_who_comes_to_wait_has_the_lead_while_it_waits(stage: _Stage) -> None:
    leads, waiter, heard = threading.Semaphore(0), Waiter(), threading.Event()
    stage.reactor.on_background = leads.release
    stage.reactor.start_background()
    meet(leads, "the background thread does not lead")
    thread = Background(lambda: stage.reactor.wait(waiter), "leader")
    while "leader" not in stage.probe.poll.by:
        meet(stage.probe.poll.began, "the waiting thread does not lead")
    bell = stage.bell_for(waiter)
    bell.ring()
    assert thread.result()
    assert bell.heard_by == ["leader"]
    meet(leads, "the background thread does not lead again")
    bell.on_ring = heard.set
    bell.ring()
    meet(heard, "the background thread does not serve again")
    assert bell.heard_by == ["leader", "skate-io"]


def test_a_waiter_that_the_background_thread_notifies_is_woken(stage: _Stage) -> None:
    """It came while the background thread was in a handler, so it follows."""
    waiter, leads = Waiter(), threading.Event()
    in_handler, go_on = threading.Event(), threading.Event()
    stage.reactor.on_background = leads.set
    stage.reactor.start_background()
    meet(leads, "the background thread does not lead")

    def on_ring() -> None:
        in_handler.set()
        meet(go_on, "the test does not go on")
        waiter.notify()

    bell = stage.bell(on_ring)
    bell.ring()
    meet(in_handler, "the background thread does not serve")
    entered = stage.reactor._entered
    thread = Background(lambda: stage.reactor.wait(waiter), "follower")
    while stage.reactor._entered == entered and thread.running:
        pass  # it takes the lock next, which the handler holds
    go_on.set()
    assert thread.result()
    assert bell.heard_by == ["skate-io"]


def test_the_background_thread_sleeps_while_one_thread_leads_for_long(stage: _Stage) -> None:
    waiter = Waiter()
    leader = stage.probe.lead(waiter)
    stage.reactor.start_background()
    bell = stage.bell_for(waiter)
    parked = Background(lambda: _until(lambda: stage.reactor._parked))
    parked.result()
    leads = threading.Event()
    stage.reactor.on_background = leads.set
    bell.ring()
    assert leader.result()
    meet(leads, "it was not woken when the leader left")


def test_what_is_left_behind_is_drained_whether_the_background_thread_sleeps_or_not(stage: _Stage) -> None:
    """As ``__del__`` methods do, the test asks for a turn only of one that is asleep."""
    reactor, left, drained = stage.reactor, deque[int](), threading.Semaphore(0)

    def drain() -> None:
        while left:
            left.popleft()
            drained.release()

    def leave() -> None:
        left.append(1)
        if reactor.blocked_in_poll:
            reactor.request_turn()

    leads = threading.Event()
    reactor.leftovers, reactor.on_turn, reactor.on_background = (left,), drain, leads.set
    reactor.start_background()
    meet(leads, "the background thread does not lead")
    for _ in range(3):
        leave()
        meet(drained, "it does not look again by itself")
        leave()  # it was just busy
        meet(drained, "it does not look again by itself")
        _until(lambda: reactor.blocked_in_poll)
    assert not reactor._turn_requested


def _until(condition: Callable[[], bool]) -> None:
    end = monotonic() + 5
    while not condition():
        if monotonic() > end:
            raise Hung("a condition that does not come true")


# ---------------------------------------------------------------------- the end


@pytest.mark.parametrize("background", [True, False])
def test_closing_ends_every_wait(stage: _Stage, background: bool) -> None:
    waiters = [Waiter() for _ in range(3)]
    leader = stage.probe.lead(waiters[0])
    followers = [stage.probe.follow(waiter) for waiter in waiters[1:]]
    if background:
        stage.reactor.start_background()
    stage.reactor.stop()
    assert not leader.result()
    for waiter in list(stage.reactor._followers):
        waiter.open_gate()
    assert not any(follower.result() for follower in followers)


def test_closing_while_others_wait_is_no_error_for_them() -> None:
    probe = Probe()
    leader = probe.lead(Waiter())
    followers = [probe.follow(Waiter()) for _ in range(3)]
    probe.reactor.close()
    assert not leader.result()
    assert not any(follower.result() for follower in followers)


def test_closing_while_the_leader_is_between_two_turns_is_no_error_for_it() -> None:
    """It looked whether it was to stop just before; it shall not poll what is closed."""
    probe = Probe()
    between, closed = threading.Event(), threading.Event()

    def hook(waiter: HookedWaiter, asked: int) -> None:
        if probe.poll.by and not between.is_set() and threading.current_thread().name == "leader":
            between.set()
            closed.wait(0.2)  # or close() waits for us to leave the lead: then we go on

    probe.poll.on_close = closed.set
    leader = probe.lead(HookedWaiter(hook))
    probe.reactor.wake()
    meet(between, "there was no second turn")
    closer = Background(probe.reactor.close)
    try:
        assert not leader.result()
    finally:
        closer.result()


def test_closing_ends_the_background_thread() -> None:
    reactor = Reactor("test")
    reactor.start_background()
    reactor.close()
    assert reactor.is_stopped


def test_a_forked_child_drops_the_descriptors() -> None:
    reactor = Reactor("test")
    descriptor = reactor.fileno()
    reactor.abandon()
    assert reactor.is_stopped
    with pytest.raises(OSError):
        select.epoll.fromfd(descriptor).poll(0)
