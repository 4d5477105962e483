"""Environments: who waits for which, what a success or a failure means for them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from skate._base.transitions import IllegalTransition
from skate._node.environments.table import (
    AHEAD,
    Admit,
    Command,
    EnvironmentState,
    EnvironmentTable,
    Prepare,
    Reject,
    Stop,
    Wanted,
)

from ...effort import effort

KEY, OTHER = b"key", b"other"


def want(owner: bytes = b"a", shape: int = 1, leases: int = 1) -> Wanted:
    return Wanted(owner, shape, b"job" + KEY, {"CPU": 10_000}, leases, 0)


def test_the_first_demand_has_it_prepared_and_all_wait() -> None:
    table = EnvironmentTable()
    assert table.wanted(KEY, want()) == [Prepare(KEY)]
    assert table.wanted(KEY, want(b"b")) == []
    assert table.state(KEY) is EnvironmentState.PREPARING
    assert table.prepared(KEY) == [Admit(want()), Admit(want(b"b"))]
    assert table.state(KEY) is EnvironmentState.READY


def test_when_it_is_ready_demands_pass() -> None:
    table = EnvironmentTable()
    table.wanted(KEY, want())
    table.prepared(KEY)
    assert table.wanted(KEY, want(leases=7)) == [Admit(want(leases=7))]
    assert table.wanted(KEY, want(leases=0)) == [Admit(want(leases=0))]


def test_the_newest_demand_of_a_shape_counts() -> None:
    table = EnvironmentTable()
    table.wanted(KEY, want(leases=1))
    table.wanted(KEY, want(leases=5))
    assert table.prepared(KEY) == [Admit(want(leases=5))]


def test_a_failure_is_for_those_alone_who_want_it() -> None:
    table = EnvironmentTable()
    table.wanted(KEY, want())
    table.wanted(OTHER, want(b"b"))
    assert table.failed(KEY, "why") == [Reject(want(), "why")]
    assert table.prepared(OTHER) == [Admit(want(b"b"))]


def test_after_a_failure_that_was_told_it_is_tried_again() -> None:
    table = EnvironmentTable()
    table.wanted(KEY, want())
    table.failed(KEY, "why")
    assert table.state(KEY) is EnvironmentState.FAILED
    assert table.wanted(KEY, want()) == [Prepare(KEY)]
    assert table.prepared(KEY) == [Admit(want())]


def test_a_failure_that_nobody_was_told_waits_for_the_first_who_comes() -> None:
    table = EnvironmentTable()
    assert table.wanted(KEY, want(shape=AHEAD)) == [Prepare(KEY)]
    assert table.failed(KEY, "why") == [Reject(want(shape=AHEAD), "why")]
    assert table.wanted(KEY, want()) == [Reject(want(), "why")]
    assert table.wanted(KEY, want()) == [Prepare(KEY)]


def test_a_job_that_starts_has_it_tried_again_at_once() -> None:
    table = EnvironmentTable()
    table.wanted(KEY, want(shape=AHEAD))
    table.failed(KEY, "why")
    assert table.wanted(KEY, want(b"b", shape=AHEAD)) == [Prepare(KEY)]


def test_when_nobody_waits_any_more_it_is_stopped() -> None:
    table = EnvironmentTable()
    table.wanted(KEY, want(b"a", 1))
    table.wanted(KEY, want(b"a", 2))
    table.wanted(KEY, want(b"b", 1))
    assert table.owner_gone(b"a") == []
    assert table.wanted(KEY, want(b"b", 1, leases=0)) == [Admit(want(b"b", 1, leases=0)), Stop(KEY)]
    assert table.state(KEY) is EnvironmentState.NEW
    assert table.wanted(KEY, want(b"c")) == [Prepare(KEY)]
    assert table.withdrawn(b"c", 1) == [Stop(KEY)]
    assert table.withdrawn(b"c", 1) == []


def test_news_of_what_nobody_prepares_is_a_bug() -> None:
    table = EnvironmentTable()
    table.wanted(KEY, want())
    table.owner_gone(b"a")
    with pytest.raises(IllegalTransition):
        table.prepared(KEY)


class Anything(RuleBasedStateMachine):
    """Whatever happens: every demand gets one answer, and one preparation at a time runs for each key."""

    def __init__(self) -> None:
        super().__init__()
        self.table = EnvironmentTable()
        self.running: Counter[bytes] = Counter()
        self.waiting: dict[tuple[bytes, bytes, int], Wanted] = {}

    def run(self, key: bytes, commands: list[Command]) -> None:
        for command in commands:
            if isinstance(command, Prepare):
                self.running[command.key] += 1
            elif isinstance(command, Stop):
                self.running[command.key] -= 1
            else:
                wanted: Any = command.wanted
                expected = self.waiting.pop((key, wanted.owner, wanted.shape), None)
                assert expected == wanted or wanted.leases == 0

    keys = st.sampled_from([KEY, OTHER])
    owners = st.sampled_from([b"a", b"b"])

    @rule(key=keys, owner=owners, shape=st.sampled_from([AHEAD, 1, 2]), leases=st.integers(0, 2))
    def demand(self, key: bytes, owner: bytes, shape: int, leases: int) -> None:
        wanted = want(owner, shape, leases)
        if leases:
            self.waiting[key, owner, shape] = wanted
        else:
            self.waiting.pop((key, owner, shape), None)
        self.run(key, self.table.wanted(key, wanted))

    @rule(owner=owners)
    def gone(self, owner: bytes) -> None:
        self.waiting = {who: one for who, one in self.waiting.items() if who[1] != owner}
        self.run(b"", self.table.owner_gone(owner))

    @precondition(lambda self: any(self.running.values()))
    @rule(data=st.data(), well=st.booleans())
    def end(self, data: st.DataObject, well: bool) -> None:
        key = data.draw(st.sampled_from([key for key, count in self.running.items() if count]))
        self.running[key] -= 1
        self.run(key, self.table.prepared(key) if well else self.table.failed(key, "why"))

    @invariant()
    def one_at_a_time_and_only_where_somebody_waits(self) -> None:
        for key in (KEY, OTHER):
            waits = any(who[0] == key for who in self.waiting)
            assert self.running[key] == waits
            assert (self.table.state(key) is EnvironmentState.PREPARING) == waits


TestAnything = Anything.TestCase
TestAnything.settings = effort(60)
