"""The driver's executions: room, results, drops, the end."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from skate.dag._executions import Executions, Mark, Room

from ..effort import effort


def executions(outputs: list[int] | None = None, inflight: int = 2, buffered: int = 2) -> Executions:
    return Executions(outputs or [7], inflight, buffered)


def test_a_result_is_taken_once() -> None:
    table = executions()
    first = table.submit()
    assert not table.is_there(first, 0)
    table.ask(first)
    assert table.take(first, 0) is Mark.PENDING
    table.arrived(first, 7, "value")
    assert table.is_there(first, 0)
    assert table.take(first, 0) == "value"
    assert table.take(first, 0) is Mark.TAKEN
    assert (table.known, table.in_flight, table.buffered) == (0, 0, 0)


def test_what_nobody_asks_for_counts_although_it_is_there() -> None:
    table = executions()
    for execution in (table.submit(), table.submit()):
        table.arrived(execution, 7, execution)
    assert table.room() is Room.FULL
    with pytest.raises(ValueError, match="no room"):
        table.submit()
    table.ask(1)  # 0 is passed over: buffered, no longer in flight
    assert (table.in_flight, table.buffered, table.room()) == (0, 2, Room.FREE)
    assert table.take(1, 0) == 1
    assert table.take(0, 0) == 0
    assert table.known == 0


def test_whether_there_is_room_does_not_depend_on_the_actors() -> None:
    slow, fast = executions(), executions()
    for table in (slow, fast):
        table.submit()
        table.submit()
    fast.arrived(0, 7, None)
    assert slow.room() is fast.room() is Room.FULL


def test_dropped_executions_make_room_when_they_end() -> None:
    table = executions()
    table.submit()
    table.submit()
    table.drop(0, 0)
    assert table.room() is Room.LATER
    called: list[int] = []
    table.watch_room(lambda: called.append(1))
    table.arrived(1, 7, "")  # nobody dropped it: it still counts
    assert table.wake == []
    table.arrived(0, 7, "")
    assert len(table.wake) == 1
    assert table.room() is Room.FREE
    table.drop(0, 0)  # late and repeated drops change nothing
    assert table.in_flight == 1


def test_covered_executions_make_room_when_they_end() -> None:
    table = executions([1, 2], inflight=2)
    table.submit()
    table.submit()
    table.arrived(1, 1, "a")
    table.ask(1)
    assert table.take(1, 0) == "a"
    assert table.room() is Room.LATER  # both are covered, both miss an output
    for execution in (0, 1):
        table.arrived(execution, 2, "b")
    assert table.in_flight == 1  # execution 0 still misses value 1
    table.arrived(0, 1, "a")
    assert (table.in_flight, table.buffered) == (0, 2)


def test_too_many_results_are_not_passed_over() -> None:
    table = executions(inflight=10, buffered=2)
    for _ in range(4):
        table.submit()
    with pytest.raises(OverflowError):
        table.ask(3)
    table.ask(2)
    table.drop(0, 0)
    table.arrived(0, 7, 0)
    table.ask(3)  # 1 and 2 are held: just two
    table.submit()
    with pytest.raises(OverflowError):
        table.ask(4)


def test_one_value_may_be_several_outputs() -> None:
    table = executions([5, 5, 6])
    table.submit()
    table.drop(0, 1)
    table.arrived(0, 5, "five")
    assert [table.take(0, place) for place in range(3)] == ["five", Mark.DROPPED, Mark.PENDING]


def test_waiters_are_woken_by_any_output_and_by_the_end() -> None:
    table = executions([1, 2])
    table.submit()
    calls: list[str] = []
    table.watch(0, lambda: calls.append("first"))
    table.watch(0, lambda: calls.append("second"))
    table.arrived(0, 1, "x")
    assert len(table.wake) == 2
    table.wake.clear()
    table.watch(0, lambda: calls.append("third"))
    table.watch_room(lambda: calls.append("room"))
    error = RuntimeError("gone")
    table.fail(error)
    assert len(table.wake) == 2
    assert table.error is error
    table.fail(RuntimeError("later"))
    assert table.error is error
    assert table.take(0, 0) == "x"  # what is there can still be taken
    assert table.take(0, 1) is Mark.PENDING


@pytest.mark.parametrize(("execution", "number"), [(0, 9), (3, 7)])
def test_values_that_nobody_expects_are_refused(execution: int, number: int) -> None:
    table = executions()
    table.submit()
    with pytest.raises(ValueError, match="not expected"):
        table.arrived(execution, number, None)


def test_a_value_comes_once() -> None:
    table = executions()
    table.submit()
    table.arrived(0, 7, 1)
    with pytest.raises(ValueError, match="not expected"):
        table.arrived(0, 7, 2)
    assert table.take(0, 0) == 1


class Model(RuleBasedStateMachine):
    """Any order of events: counts are what they are said to be, and nothing is left in the end."""

    @initialize(outputs=st.lists(st.integers(0, 2), min_size=1, max_size=3), inflight=st.integers(1, 4))
    def begin(self, outputs: list[int], inflight: int) -> None:
        self.outputs = outputs
        self.table = Executions(outputs, inflight, 3)
        self.missing: dict[int, set[int]] = {}
        self.open: dict[int, set[int]] = {}
        self.covered = -1
        self.waiting = 0

    def _in_flight(self) -> int:
        return sum(
            1
            for execution, missing in self.missing.items()
            if missing or (execution > self.covered and self.open[execution])
        )

    @precondition(lambda self: self.table.room() is Room.FREE)
    @rule()
    def submit(self) -> None:
        execution = self.table.submit()
        assert execution == len(self.missing)
        self.missing[execution] = set(self.outputs)
        self.open[execution] = set(range(len(self.outputs)))

    @rule(data=st.data())
    def arrive(self, data: st.DataObject) -> None:
        pending = [(e, n) for e, numbers in self.missing.items() for n in sorted(numbers)]
        if pending:
            execution, number = data.draw(st.sampled_from(pending))
            self.table.arrived(execution, number, (execution, number))
            self.missing[execution].discard(number)

    @rule(data=st.data())
    def take(self, data: st.DataObject) -> None:
        if not self.missing:
            return
        execution = data.draw(st.integers(0, len(self.missing) - 1))
        place = data.draw(st.integers(0, len(self.outputs) - 1))
        if place not in self.open[execution]:
            return
        try:
            self.table.ask(execution)
        except OverflowError:
            return
        self.covered = max(self.covered, execution)
        value = self.table.take(execution, place)
        if self.outputs[place] in self.missing[execution]:
            assert value is Mark.PENDING
        else:
            assert value == (execution, self.outputs[place])
            self.open[execution].discard(place)

    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        left = [(e, p) for e, places in self.open.items() for p in sorted(places)]
        if left:
            execution, place = data.draw(st.sampled_from(left))
            self.table.drop(execution, place)
            self.open[execution].discard(place)

    @precondition(lambda self: self.table.room() is Room.LATER)
    @rule()
    def wait_for_room(self) -> None:
        self.waiting += 1
        self.table.watch_room(self._woken)

    def _woken(self) -> None:
        self.waiting -= 1

    @invariant()
    def counts(self) -> None:
        wakes, self.table.wake = self.table.wake, []
        for wake in wakes:
            wake()
        assert self.table.in_flight == self._in_flight()
        later = any(
            missing and (execution <= self.covered or not self.open[execution])
            for execution, missing in self.missing.items()
        )
        full = self.table.in_flight >= self.table.max_inflight
        assert self.table.room() is (Room.FREE if not full else Room.LATER if later else Room.FULL)
        held = sum(bool(self.open[e]) and not m and e <= self.covered for e, m in self.missing.items())
        assert self.table.buffered == held

    def teardown(self) -> None:
        if not hasattr(self, "table"):
            return
        for execution, numbers in self.missing.items():
            for number in sorted(numbers):
                self.table.arrived(execution, number, None)
            for place in sorted(self.open[execution]):
                self.table.drop(execution, place)
        assert (self.table.known, self.table.in_flight) == (0, 0)


TestModel: Any = Model.TestCase
TestModel.settings = effort(60, steps=40)
