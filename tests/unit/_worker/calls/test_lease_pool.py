"""Which task goes to which worker: each once, none forgotten, short ones many at a time."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from skate._worker.calls.lease_pool import LeasePool, WorkerLease
from skate._worker.calls.records import TaskRecord, split_begun

from ...effort import effort
from ..making import call, function, seqs

CONNECTION: Any = None


class Node:
    """A pool, and a node that gives it what it asks for (or not yet)."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, int]] = []
        self.demands: list[int] = []
        self.given_back: list[int] = []
        self.clock = 0.0
        self.last = 0
        self.pool = LeasePool(1, {"CPU": 10_000}, self._send, self._demand, self._give_back)

    def _send(self, lease: WorkerLease, task: TaskRecord) -> None:
        self.sent.append((lease.id, task.seq))

    def _demand(self, pool: LeasePool, count: int) -> None:
        assert pool is self.pool
        self.demands.append(count)

    def _give_back(self, lease: WorkerLease) -> None:
        self.given_back.append(lease.id)

    @property
    def demand(self) -> int:
        return self.demands[-1] if self.demands else 0

    def grant(self) -> WorkerLease:
        self.last += 1
        lease = WorkerLease(self.last, b"w%d" % self.last, CONNECTION, self.pool)
        lease.idle_since = self.clock
        self.pool.granted(lease)
        return lease

    def reply(self, lease: WorkerLease, seq: int | None = None) -> int:
        """The worker's first call is through, or this one."""
        task = lease.inflight.pop(next(iter(lease.inflight)) if seq is None else seq)
        self.pool.replied(lease, lambda: self.clock)
        return task.seq

    def take_sent(self) -> list[tuple[int, int]]:
        sent, self.sent = self.sent, []
        return sent


@pytest.fixture
def node() -> Node:
    return Node()


LONG, SHORT = function("long"), function("short", depth=4)


# ---------------------------------------------------------------------- asking for workers


def test_a_first_task_asks_for_a_worker_and_goes_to_it(node: Node) -> None:
    node.pool.submit(call(1, LONG))
    assert node.demands == [1]
    assert node.take_sent() == []
    lease = node.grant()
    assert node.take_sent() == [(1, 1)]
    assert seqs(lease.inflight.values()) == [1]


def test_long_tasks_want_a_worker_each_short_ones_share(node: Node) -> None:
    for seq in range(1, 9):
        node.pool.submit(call(seq, LONG))
    assert node.demands == [1, 2, 3, 4, 5, 6, 7, 8]
    other = Node()
    for seq in range(1, 10):
        other.pool.submit(call(seq, SHORT))
    assert other.demands == [1, 2, 3], "four each"


def test_a_long_task_behind_a_short_one_gets_a_worker_of_its_own(node: Node) -> None:
    """One worker was asked for both, for the first of them is short."""
    node.pool.submit(call(1, SHORT))
    node.pool.submit(call(2, LONG))
    assert node.demands == [1]
    node.grant()
    assert node.take_sent() == [(1, 1)]
    assert node.demands == [1, 2]


def test_what_waits_for_a_worker_that_is_to_go_asks_for_another(node: Node) -> None:
    lease = node.grant()
    for seq in range(1, 6):
        node.pool.submit(call(seq, SHORT))
    node.reply(lease)
    node.pool.submit(call(6, SHORT))
    before = node.demand
    node.pool.reclaim(1)
    assert lease.retiring
    assert node.demand == max(before, 2)


def test_the_demand_is_what_is_wanted_in_all(node: Node) -> None:
    node.pool.submit(call(1, LONG))
    lease = node.grant()
    node.pool.submit(call(2, LONG))
    assert node.demands == [1, 2]
    node.reply(lease)
    assert node.take_sent()[-1] == (1, 2)
    node.reply(lease)
    assert node.demands == [1, 2, 1], "the second worker is not needed any more"


def test_what_the_node_refuses_is_the_callers_to_end(node: Node) -> None:
    node.pool.submit(call(1, LONG))
    node.pool.submit(call(2, LONG))
    assert seqs(node.pool.refused()) == [1, 2]
    assert node.pool.is_idle
    node.pool.submit(call(3, LONG))
    assert node.demands == [1, 2, 1], "it is asked again"


# ---------------------------------------------------------------------- where tasks go


def test_an_idle_worker_comes_first_then_the_one_with_least(node: Node) -> None:
    first, second = node.grant(), node.grant()
    for seq in range(1, 7):
        node.pool.submit(call(seq, SHORT))
    assert node.take_sent() == [(1, 1), (2, 2), (1, 3), (2, 4), (1, 5), (2, 6)]
    node.reply(first)
    node.pool.submit(call(7, SHORT))
    assert node.take_sent() == [(1, 7)]
    assert len(second.inflight) == 3


def test_what_waits_is_shared_evenly(node: Node) -> None:
    """The last short tasks do not queue behind each other at one worker while others idle."""
    node.pool.submit(call(1, LONG))
    leases = [node.grant()]
    for seq in range(2, 6):
        node.pool.submit(call(seq, LONG))
    for task in node.pool.queue:
        task.function = SHORT
    leases.append(node.grant())
    assert len(leases[1].inflight) == 2, "four wait, and there are two workers"


def test_no_more_than_the_depth_are_in_flight(node: Node) -> None:
    lease = node.grant()
    for seq in range(1, 11):
        node.pool.submit(call(seq, SHORT))
    assert len(lease.inflight) == 4
    assert seqs(node.pool.queue) == [5, 6, 7, 8, 9, 10]
    node.reply(lease)
    assert len(lease.inflight) == 4


def test_a_long_task_does_not_go_behind_a_short_one(node: Node) -> None:
    lease = node.grant()
    node.pool.submit(call(1, SHORT))
    node.pool.submit(call(2, LONG))
    assert seqs(lease.inflight.values()) == [1]
    assert node.demand == 2


def test_nothing_overtakes_what_waits(node: Node) -> None:
    lease = node.grant()
    node.pool.submit(call(1, LONG))
    node.pool.submit(call(2, LONG))
    node.pool.submit(call(3, SHORT))
    assert seqs(node.pool.queue) == [2, 3]
    node.reply(lease)
    assert node.take_sent() == [(1, 1), (1, 2), (1, 3)]


# ---------------------------------------------------------------------- calls that come back


def test_calls_behind_one_that_turned_out_long_run_elsewhere(node: Node) -> None:
    lease = node.grant()
    for seq in range(1, 4):
        node.pool.submit(call(seq, SHORT))
    node.take_sent()
    back = [lease.inflight.pop(2), lease.inflight.pop(3)]
    node.pool.returned(lease, back)
    assert lease.slow
    assert node.take_sent() == [], "not behind the long one again"
    node.pool.submit(call(4, SHORT))
    assert seqs(node.pool.queue) == [2, 3, 4]
    assert node.demand == 2
    other = node.grant()
    assert node.take_sent() == [(2, 2), (2, 3)], "half of what waits"
    node.reply(lease)
    assert not lease.slow
    assert node.take_sent() == [(1, 4)]
    assert seqs(other.inflight.values()) == [2, 3]


def test_nothing_new_goes_behind_a_call_that_takes_long(node: Node) -> None:
    lease = node.grant()
    node.pool.submit(call(1, SHORT))
    node.pool.returned(lease, [])
    node.pool.submit(call(2, SHORT))
    assert seqs(node.pool.queue) == [2]
    assert node.demand == 2


def test_a_worker_that_gave_everything_back_takes_it_again(node: Node) -> None:
    lease = node.grant()
    node.pool.submit(call(1, SHORT))
    node.pool.returned(lease, [lease.inflight.pop(1)])
    assert not lease.slow
    assert node.take_sent() == [(1, 1), (1, 1)]


def test_what_was_sent_comes_before_what_was_not(node: Node) -> None:
    lease = node.grant()
    for seq in range(1, 4):
        node.pool.submit(call(seq, LONG))
    calls = list(lease.inflight.values())
    lease.inflight.clear()
    node.pool.lost(lease)
    node.pool.requeue(calls)
    assert seqs(node.pool.queue) == [1, 2, 3]
    assert node.demand == 3
    assert node.pool.leases == []
    node.pool.lost(lease)  # said twice
    node.grant()
    assert node.take_sent()[-1] == (2, 1)


# ---------------------------------------------------------------------- giving workers back


def test_idle_workers_linger_and_go(node: Node) -> None:
    early = node.grant()
    node.clock = 10.0
    late = node.grant()
    assert node.pool.give_back_idle(5.0), "another is idle, not for long"
    assert node.given_back == [early.id]
    assert node.demand == 0
    assert not node.pool.give_back_idle(10.0)
    assert node.given_back == [early.id, late.id]
    assert node.pool.is_idle


def test_busy_workers_do_not_linger(node: Node) -> None:
    lease = node.grant()
    node.pool.submit(call(1, LONG))
    assert not node.pool.give_back_idle(100.0)
    node.clock = 7.0
    node.reply(lease)
    assert lease.idle_since == 7.0
    assert node.pool.give_back_idle(6.0)
    assert not node.pool.give_back_idle(7.0)
    assert node.given_back == [lease.id]


def test_when_others_wait_idle_workers_go_at_once_and_busy_ones_when_they_are_through(node: Node) -> None:
    busy, idle, other = node.grant(), node.grant(), node.grant()
    node.pool.submit(call(1, LONG))
    node.pool.submit(call(2, LONG))
    assert (len(busy.inflight), len(idle.inflight), len(other.inflight)) == (1, 1, 0)
    node.pool.reclaim(1)
    assert node.given_back == [other.id]
    assert [lease.retiring for lease in (busy, idle)] == [True, False]
    node.pool.submit(call(3, LONG))
    node.reply(busy)
    assert node.given_back == [other.id, busy.id], "though something waits: that asks for another"
    assert node.demand == 2
    node.reply(idle)
    assert node.take_sent()[-1] == (idle.id, 3)


def test_a_worker_that_is_to_go_gets_nothing_more(node: Node) -> None:
    lease = node.grant()
    node.pool.submit(call(1, SHORT))
    node.pool.reclaim(1)
    node.pool.submit(call(2, SHORT))
    assert seqs(node.pool.queue) == [2]
    assert node.demand == 2
    node.pool.requeue([])
    assert seqs(lease.inflight.values()) == [1]


def test_asked_for_more_than_there_is(node: Node) -> None:
    lease = node.grant()
    node.pool.reclaim(5)
    assert node.given_back == [lease.id]
    node.pool.reclaim(5)
    assert node.given_back == [lease.id]


# ---------------------------------------------------------------------- everything at random


class PoolMachine(RuleBasedStateMachine):
    """Tasks come, workers are granted, reply, give calls back, die and are asked back, in any order."""

    @initialize()
    def begin(self) -> None:
        self.node = Node()
        self.pool = self.node.pool
        self.functions = [function("long"), function("short", depth=3)]
        self.tasks: dict[int, TaskRecord] = {}
        self.done: set[int] = set()
        self.seq = 0

    def some_lease(self, data: st.DataObject, *, busy: bool) -> WorkerLease | None:
        leases = [lease for lease in self.pool.leases if lease.inflight or not busy]
        return data.draw(st.sampled_from(leases), "lease") if leases else None

    @rule(which=st.integers(0, 1), count=st.integers(1, 4))
    def submit(self, which: int, count: int) -> None:
        for _ in range(count):
            self.seq += 1
            task = self.tasks[self.seq] = call(self.seq, self.functions[which])
            self.pool.submit(task)

    @precondition(lambda self: self.node.demand > len(self.pool.leases))
    @rule()
    def grant(self) -> None:
        self.node.grant()

    @rule(data=st.data(), microseconds=st.sampled_from([50, 5000]))
    def reply(self, data: st.DataObject, microseconds: int) -> None:
        lease = self.some_lease(data, busy=True)
        if lease is not None:
            first = next(iter(lease.inflight.values()))
            assert first.function is not None
            first.function.measured(microseconds, 1000, 3)
            self.done.add(self.node.reply(lease))

    @rule(data=st.data())
    def gives_back(self, data: st.DataObject) -> None:
        """It has begun the first, and gives back what is behind that."""
        lease = self.some_lease(data, busy=True)
        if lease is not None:
            back = [lease.inflight.pop(seq) for seq in list(lease.inflight)[1:]]
            self.pool.returned(lease, back)

    @rule(data=st.data(), retried=st.booleans())
    def dies(self, data: st.DataObject, retried: bool) -> None:
        lease = self.some_lease(data, busy=False)
        if lease is None:
            return
        calls = list(lease.inflight.values())
        lease.inflight.clear()
        self.pool.lost(lease)
        begun, fresh = split_begun(calls, calls[0].seq if calls else 0)
        if not retried:
            self.done.update(seqs(begun))
            begun = []
        self.pool.requeue(begun + fresh)

    @rule(busy=st.integers(0, 2))
    def asked_back(self, busy: int) -> None:
        self.pool.reclaim(busy)

    @rule(seconds=st.integers(0, 2))
    def time_passes(self, seconds: int) -> None:
        self.node.clock += seconds
        self.pool.give_back_idle(self.node.clock - 1)

    @rule()
    def refused(self) -> None:
        self.done.update(seqs(self.pool.refused()))

    @invariant()
    def every_task_is_in_one_place(self) -> None:
        flying = [seq for lease in self.pool.leases for seq in lease.inflight]
        assert sorted([*seqs(self.pool.queue), *flying, *self.done]) == sorted(self.tasks)

    @invariant()
    def no_usable_worker_idles_while_tasks_wait(self) -> None:
        if self.pool.queue:
            assert all(lease.inflight for lease in self.pool.leases)

    @invariant()
    def what_waits_was_asked_for(self) -> None:
        """Somebody will take it: a worker that is busy now, or one that is yet to come."""
        staying = [lease for lease in self.pool.leases if not lease.retiring]
        assert not self.pool.queue or staying or self.node.demand > len(self.pool.leases)

    @invariant()
    def a_long_task_does_not_wait_for_one_worker_alone(self) -> None:
        """Unless the node was told of it: it may stand behind a call that takes for ever."""
        if self.pool.queue and self.pool.leases:
            function = self.pool.queue[0].function
            assert function is not None
            slow = any(lease.slow for lease in self.pool.leases)
            assert function.depth > 1 or slow or self.node.demand > len(self.pool.leases)

    @invariant()
    def nobody_has_more_than_is_good(self) -> None:
        for lease in self.pool.leases:
            assert len(lease.inflight) <= 3
            assert lease.id not in self.node.given_back

    def teardown(self) -> None:
        for _ in range(10 * len(self.tasks) + 10):
            if self.node.demand > len(self.pool.leases):
                self.node.grant()
            for lease in list(self.pool.leases):
                if lease.inflight:
                    self.done.add(self.node.reply(lease))
        assert self.done == set(self.tasks)
        self.pool.give_back_idle(self.node.clock)
        assert self.pool.is_idle
        assert self.node.demand == 0
        assert sorted(self.node.given_back) == sorted(set(self.node.given_back))


TestPoolMachine = PoolMachine.TestCase
TestPoolMachine.settings = effort(100)
